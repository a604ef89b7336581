//! Subjects: where each kind of message goes. NATS separates tokens by `.`,
//! `*` matches one token and `>` the rest, so every part is encoded first.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use crate::durable::DurableName;
use crate::name::{EventType, ServiceName, SubscriptionName};
use crate::partition::Partition;
use crate::stream;

/// Everything but letters, digits, `-`, `_` and the dots of a type is
/// percent-encoded: none of the rest could then be a wildcard or a separator.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.');

fn encoded(event_type: &EventType) -> String {
    utf8_percent_encode(event_type.as_str(), ENCODED).to_string()
}

/// Where an event is stored: `events.<service>.<partition>.<type>`.
pub fn event(service: &ServiceName, partition: Partition, event_type: &EventType) -> String {
    event_filter(Some(service), Some(partition), event_type)
}

/// The filter for events of one type, from one service or any (`None`), in one
/// partition or all.
pub fn event_filter(
    from: Option<&ServiceName>,
    partition: Option<Partition>,
    event_type: &EventType,
) -> String {
    let from = from.map_or("*", ServiceName::as_str);
    let event_type = utf8_percent_encode(event_type.as_str(), ENCODED);
    match partition {
        Some(partition) => format!("events.{from}.{}.{event_type}", partition.number()),
        None => format!("events.{from}.*.{event_type}"),
    }
}

/// The service and type of an event's subject, if it is one.
pub fn parse_event(subject: &str) -> Option<(ServiceName, EventType)> {
    let mut parts = subject.splitn(4, '.');
    if parts.next()? != "events" {
        return None;
    }
    let service = parts.next()?.parse().ok()?;
    parts.next()?.parse::<u16>().ok()?;
    let event_type = percent_decode_str(parts.next()?).decode_utf8().ok()?.parse().ok()?;
    Some((service, event_type))
}

/// What a service must be allowed to publish to for one of its types.
pub fn publish_permission(service: &ServiceName, event_type: &EventType) -> String {
    format!("events.{service}.*.{}", encoded(event_type))
}

/// The dead letter of one event of one subscription: a subject of its own, so
/// that storing it twice can be refused (expected last subject sequence 0).
pub fn dead_letter(
    service: &ServiceName,
    subscription: &SubscriptionName,
    shard: Shard,
    stream_sequence: u64,
) -> String {
    format!("dead.{service}.{subscription}.{shard}.{stream_sequence}")
}

/// All dead letters of one subscription.
pub fn dead_letters_of(service: &ServiceName, subscription: &SubscriptionName) -> String {
    format!("dead.{service}.{subscription}.>")
}

/// All dead letters of a subscription of any service, or of all of them (`None`).
pub fn dead_letters(subscription: Option<&SubscriptionName>) -> String {
    subscription.map_or_else(|| "dead.>".to_owned(), |name| format!("dead.*.{name}.>"))
}

/// The filter for events by what is known of them.
pub fn events(
    from: Option<&ServiceName>,
    partition: Option<Partition>,
    event_type: Option<&EventType>,
) -> String {
    match event_type {
        Some(event_type) => event_filter(from, partition, event_type),
        None => {
            let from = from.map_or("*", ServiceName::as_str);
            let partition =
                partition.map_or_else(|| "*".to_owned(), |partition| partition.number().to_string());
            format!("events.{from}.{partition}.>")
        }
    }
}

/// All events of a service.
pub fn events_of(service: &ServiceName) -> String {
    format!("events.{service}.>")
}

/// All redriven dead letters of one partition, of whatever subscription.
pub fn redrives_of(partition: Partition) -> String {
    format!("redrive.*.*.{}", partition.number())
}

/// How the subjects of redriven dead letters begin.
pub const REDRIVE_PREFIX: &str = "redrive.";

/// A dead letter that goes to its subscription again:
/// `redrive.<service>.<subscription>.<partition>`; `None` for all partitions.
pub fn redrive(
    service: &ServiceName,
    subscription: &SubscriptionName,
    partition: Option<Partition>,
) -> String {
    match partition {
        Some(partition) => format!("redrive.{service}.{subscription}.{}", partition.number()),
        None => format!("redrive.{service}.{subscription}.*"),
    }
}

/// All dead letters that go to a subscription again.
pub const ALL_REDRIVES: &str = "redrive.>";

/// Where a service is asked: `query.<service>.<type>` (core NATS, not stored),
/// in the queue group of the service's name, so that one of its pods answers.
pub fn query(service: &ServiceName, query: &EventType) -> String {
    format!("query.{service}.{}", encoded(query))
}

/// Where the answers to a service's queries go: it hears
/// `answers.<service>.>`, and each request has a subject of its own below that.
///
/// Not an inbox by `allow_responses`: a service could then send itself a message
/// whose reply subject is another service's event, and answer it.
pub fn answers(service: &ServiceName) -> String {
    format!("answers.{service}")
}

/// What a service that answers queries must be allowed to publish to.
pub const ALL_ANSWERS: &str = "answers.>";

/// Whether a query's reply subject is one for answers. Whoever answers must
/// check it: it could be any subject that the answering service may publish to,
/// its own events included.
pub fn is_for_answers(reply: &str) -> bool {
    reply.starts_with("answers.")
}

/// A shard's token in a dead letter's subject.
pub type Shard = crate::durable::Shard;

/// The last configuration of a service.
pub fn config(service: &ServiceName) -> String {
    format!("config.{service}")
}

/// What one pod of a service reports (core NATS, not stored).
pub fn report(service: &ServiceName, pod: &str) -> String {
    format!("report.{service}.{pod}")
}

/// The reports of all pods of a service: what it must be allowed to publish,
/// and to hear, so that its pods know of each other.
pub fn report_permission(service: &ServiceName) -> String {
    format!("report.{service}.*")
}

/// The reports of all services.
pub const ALL_REPORTS: &str = "report.*.*";

/// The JetStream API request for the last configuration of a service
/// (direct get of the last message of a subject, nats-server 2.9 and later).
pub fn config_request(service: &ServiceName) -> String {
    format!("$JS.API.DIRECT.GET.{}.{}", stream::CONFIG, config(service))
}

/// Requests that the holder of a durable must be allowed to make: to pull, to
/// look it up (async-nats does so when it reconnects), to give up its pin and
/// to acknowledge, in today's layout of the ack subject and in the next one
/// (`js_ack_fc_v2` of nats-server).
pub fn durable_permissions(durable: &DurableName) -> [String; 5] {
    let stream = stream::EVENTS;
    [
        format!("$JS.API.CONSUMER.MSG.NEXT.{stream}.{durable}"),
        format!("$JS.API.CONSUMER.INFO.{stream}.{durable}"),
        format!("$JS.API.CONSUMER.UNPIN.{stream}.{durable}"),
        format!("$JS.ACK.{stream}.{durable}.>"),
        format!("$JS.ACK.*.*.{stream}.{durable}.>"),
    ]
}

/// Requests by which a service reads back its own events: it sets the durable of its outbox to
/// a place in the event store and pulls from there (nats-server 2.14 and later).
pub fn outbox_permissions(durable: &DurableName) -> [String; 2] {
    [next_request(durable), reset_request(durable)]
}

/// The request by which the holder of a durable learns how much of it is out.
pub fn info_request(durable: &DurableName) -> String {
    format!("$JS.API.CONSUMER.INFO.{}.{durable}", stream::EVENTS)
}

/// The request for a durable's next events.
pub fn next_request(durable: &DurableName) -> String {
    format!("$JS.API.CONSUMER.MSG.NEXT.{}.{durable}", stream::EVENTS)
}

/// The request by which the holder of a pinned durable gives its pin up
/// (nats-server 2.11 and later).
pub fn unpin_request(durable: &DurableName) -> String {
    format!("$JS.API.CONSUMER.UNPIN.{}.{durable}", stream::EVENTS)
}

/// The request that lets a durable start over from a place in the stream (nats-server 2.14
/// and later): for those of its own events whose effects are known elsewhere.
pub fn reset_request(durable: &DurableName) -> String {
    format!("$JS.API.CONSUMER.RESET.{}.{durable}", stream::EVENTS)
}

/// Where a cluster tells that a durable has a new leader (`JSAdvisoryConsumerLeaderElectedPre` of nats-server 2.15): what
/// the one before was asked and told last may be lost, and often nothing else says so.
pub fn leader_elected(durable: &DurableName) -> String {
    format!("$JS.EVENT.ADVISORY.CONSUMER.LEADER_ELECTED.{}.{durable}", stream::EVENTS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn service() -> ServiceName {
        "products".parse().unwrap()
    }

    #[test]
    fn an_events_subject_matches_the_published_vectors() {
        let vectors = [
            ("ProductCreated", "5", "events.products.50.ProductCreated"),
            ("com.example.product.created.v1", "user-1", "events.products.9.com.example.product.created.v1"),
            ("größe", "1", "events.products.24.gr%C3%B6%C3%9Fe"),
            ("a b*>", "1", "events.products.24.a%20b%2A%3E"),
            ("100%", "1", "events.products.24.100%25"),
        ];
        for (event_type, key, subject) in vectors {
            assert_eq!(event(&service(), Partition::of(key), &event_type.parse().unwrap()), subject);
        }
    }

    #[test]
    fn a_filter_without_service_and_partition_has_wildcards() {
        let event_type = "ProductCreated".parse().unwrap();
        assert_eq!(event_filter(None, None, &event_type), "events.*.*.ProductCreated");
    }

    #[test]
    fn an_answer_never_goes_to_an_events_subject() {
        assert!(is_for_answers(&format!("{}.1", answers(&service()))));
        for subject in ["events.products.1.A", "answers", "answersx.a", "_INBOX.1", "$JS.API.INFO"] {
            assert!(!is_for_answers(subject), "{subject}");
        }
    }

    proptest! {
        #[test]
        fn every_valid_type_survives_the_way_through_a_subject(text in "[^.\\p{Cc}]{1,20}(\\.[^.\\p{Cc}]{1,20}){0,3}") {
            let event_type: EventType = text.parse().unwrap();
            let subject = event(&service(), Partition::of("x"), &event_type);
            prop_assert!(subject.bytes().all(|b| b.is_ascii_graphic() && b != b'*' && b != b'>'));
            prop_assert!(subject.split('.').all(|token| !token.is_empty()));
            prop_assert_eq!(parse_event(&subject), Some((service(), event_type)));
        }
    }
}
