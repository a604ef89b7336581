//! A dead letter that goes to its subscription again: which message it becomes,
//! and in which order letters go.

use crate::event::InvalidEvent;
use crate::name::{ServiceName, SubscriptionName};
use crate::partition::Partition;
use crate::{subject, wire};

/// The headers of a dead letter that are the broker's and not the event's.
const BROKERS_PREFIX: &str = "Nats-";
/// The headers that say why it died.
const DEAD_PREFIX: &str = "murmur-dead-";

/// Why a dead letter cannot be redriven.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotRedrivable {
    /// Its subject is none of a dead letter.
    #[error("{0} is not the subject of a dead letter")]
    Subject(String),
    /// It holds no event.
    #[error("it holds no event that a service could be given ({0}); drop it")]
    Event(#[from] InvalidEvent),
}

/// A message to publish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redriven {
    /// Where to.
    pub subject: String,
    /// Its headers, the message id among them: the same for the same dead
    /// letter, so that a repeat after a crash stores one.
    pub headers: Vec<(String, String)>,
}

/// The message that a dead letter becomes: the event's own headers unchanged,
/// without those of its death; `letter` is its sequence among the dead letters.
///
/// # Errors
/// When it is no dead letter, or holds no event.
pub fn redriven(
    dead_subject: &str,
    headers: &[(String, String)],
    letter: u64,
) -> Result<Redriven, NotRedrivable> {
    let (service, subscription) =
        subscription_of(dead_subject).ok_or_else(|| NotRedrivable::Subject(dead_subject.to_owned()))?;
    let pairs = headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let event = wire::read(pairs, bytes::Bytes::new())?;
    let mut kept: Vec<(String, String)> = headers
        .iter()
        .filter(|(name, _)| {
            !name.starts_with(BROKERS_PREFIX) && !name.starts_with(DEAD_PREFIX) && name != wire::REDRIVEN_FROM
        })
        .cloned()
        .collect();
    if let Some(origin) = origin(headers) {
        kept.push((wire::REDRIVEN_FROM.to_owned(), origin.to_owned()));
    }
    kept.push((wire::MESSAGE_ID_HEADER.to_owned(), format!("redrive {dead_subject} {letter}")));
    let subject = subject::redrive(&service, &subscription, Some(Partition::of(event.key())));
    Ok(Redriven { subject, headers: kept })
}

/// Where the event of a dead letter, or of a redriven one, was published first.
pub fn origin(headers: &[(String, String)]) -> Option<&str> {
    header(headers, wire::REDRIVEN_FROM).or_else(|| header(headers, wire::dead_letter::SUBJECT))
}

/// Where letters stand in the order in which they are redriven: as their events
/// stood in the event store, so that those of a key keep their order.
pub fn place(headers: &[(String, String)], letter: u64) -> (u64, u64) {
    let sequence = header(headers, wire::dead_letter::SEQUENCE).and_then(|text| text.parse().ok());
    (sequence.unwrap_or(u64::MAX), letter)
}

/// The service and subscription of a dead letter's subject.
pub fn subscription_of(dead_subject: &str) -> Option<(ServiceName, SubscriptionName)> {
    let mut tokens = dead_subject.split('.');
    if tokens.next()? != "dead" {
        return None;
    }
    Some((tokens.next()?.parse().ok()?, tokens.next()?.parse().ok()?))
}

/// The first value of a header.
pub fn header<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SUBJECT: &str = "dead.history.history-catalog.2.77";

    fn letter() -> Vec<(String, String)> {
        [
            ("murmur-format", "1"),
            ("ce-specversion", "1.0"),
            ("ce-id", "5"),
            ("ce-source", "/shop/products"),
            ("ce-type", "ProductCreated"),
            ("ce-partitionkey", "user-1"),
            ("traceparent", "00-1-2-01"),
            ("Nats-Expected-Last-Subject-Sequence", "0"),
            ("murmur-dead-reason", "rejected"),
            ("murmur-dead-sequence", "77"),
            ("murmur-dead-subject", "events.products.9.ProductCreated"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into()
    }

    #[test]
    fn a_letter_becomes_its_event_for_its_subscription_alone_in_the_partition_of_its_key() {
        let redriven = redriven(SUBJECT, &letter(), 3).unwrap();
        assert_eq!(redriven.subject, "redrive.history.history-catalog.9");
        let lines: Vec<_> = redriven.headers.iter().map(|(name, value)| format!("{name}: {value}")).collect();
        assert_eq!(
            lines,
            [
                "murmur-format: 1",
                "ce-specversion: 1.0",
                "ce-id: 5",
                "ce-source: /shop/products",
                "ce-type: ProductCreated",
                "ce-partitionkey: user-1",
                "traceparent: 00-1-2-01",
                "murmur-redriven-from: events.products.9.ProductCreated",
                "Nats-Msg-Id: redrive dead.history.history-catalog.2.77 3",
            ]
        );
    }

    #[test]
    fn one_letter_has_one_message_id_and_another_letter_another() {
        let id = |letter_number| {
            let redriven = redriven(SUBJECT, &letter(), letter_number).unwrap();
            header(&redriven.headers, wire::MESSAGE_ID_HEADER).unwrap().to_owned()
        };
        assert_eq!(id(3), id(3));
        assert_ne!(id(3), id(4), "it died again after a redrive");
    }

    #[test]
    fn what_dies_again_remembers_where_it_was_published_first() {
        let mut again = redriven(SUBJECT, &letter(), 3).unwrap().headers;
        again.push(("murmur-dead-subject".to_owned(), "redrive.history.history-catalog.9".to_owned()));
        assert_eq!(origin(&again), Some("events.products.9.ProductCreated"));
        let twice = redriven(SUBJECT, &again, 8).unwrap();
        assert_eq!(origin(&twice.headers), Some("events.products.9.ProductCreated"));
    }

    #[test]
    fn letters_go_in_the_order_of_the_event_store() {
        let mut later = letter();
        later.retain(|(name, _)| name != "murmur-dead-sequence");
        later.push(("murmur-dead-sequence".to_owned(), "100".to_owned()));
        assert!(place(&letter(), 9) < place(&later, 1));
    }

    #[test]
    fn what_is_no_event_is_not_redriven() {
        assert!(matches!(redriven(SUBJECT, &[], 1), Err(NotRedrivable::Event(_))));
        assert!(matches!(redriven("events.a.1.T", &letter(), 1), Err(NotRedrivable::Subject(_))));
    }
}
