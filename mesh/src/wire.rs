//! An event on the bus: CloudEvents' NATS binding in binary mode. Attributes
//! are `ce-` headers, encoded as in the HTTP binding; the payload is the data.
//!
//! `datacontenttype` is a `ce-` header like the others: on NATS the header
//! `content-type` is reserved to mark structured mode.

use std::borrow::Cow;

use crate::event::attribute::{self, DATA_CONTENT_TYPE, InvalidEvent};
use crate::event::http_binary::HEADER_PREFIX;
use crate::event::{Draft, Event};

/// The header that says how the rest is to be read.
pub const FORMAT_HEADER: &str = "murmur-format";
/// The only format so far.
pub const FORMAT: &str = "1";
/// The header that holds `datacontenttype` on the bus.
pub const DATA_CONTENT_TYPE_HEADER: &str = "ce-datacontenttype";
/// The broker's header for the [message id](crate::message_id).
pub const MESSAGE_ID_HEADER: &str = "Nats-Msg-Id";

/// The broker's headers of a message that is part of an atomic batch; they stay
/// in the stored message.
pub mod batch {
    /// Which batch, at most 64 characters.
    pub const ID: &str = "Nats-Batch-Id";
    /// Which place in it, from 1.
    pub const SEQUENCE: &str = "Nats-Batch-Sequence";
    /// On the last message: the batch is whole.
    pub const COMMIT: &str = "Nats-Batch-Commit";
}

/// The header of a redriven dead letter: the subject that its event was published to.
pub const REDRIVEN_FROM: &str = "murmur-redriven-from";

/// The header of an event that came out of its service's outbox: the row's position there.
pub const OUTBOX_POSITION: &str = "murmur-outbox-position";

/// The headers of a dead letter, beside the event's own.
pub mod dead_letter {
    /// Why: `rejected` or `exhausted` or `malformed`.
    pub const REASON: &str = "murmur-dead-reason";
    /// The last failure, as a sentence.
    pub const CAUSE: &str = "murmur-dead-cause";
    /// How often the event was tried.
    pub const ATTEMPTS: &str = "murmur-dead-attempts";
    /// When the first attempt was made, RFC 3339.
    pub const FIRST_ATTEMPT: &str = "murmur-dead-first-attempt";
    /// When the last attempt was made, RFC 3339.
    pub const LAST_ATTEMPT: &str = "murmur-dead-last-attempt";
    /// Where the event stands in the event store.
    pub const SEQUENCE: &str = "murmur-dead-sequence";
    /// Which event store that is.
    pub const STREAM: &str = "murmur-dead-stream";
    /// The subject of the original.
    pub const SUBJECT: &str = "murmur-dead-subject";
}

/// The headers of an event on the bus, in order, without its message id.
pub fn headers(event: &Event) -> impl Iterator<Item = (Cow<'static, str>, Cow<'_, str>)> {
    let fixed = [
        (Cow::Borrowed(FORMAT_HEADER), Cow::Borrowed(FORMAT)),
        (Cow::Borrowed("ce-specversion"), Cow::Borrowed("1.0")),
        (Cow::Borrowed("ce-id"), attribute::encode(event.id())),
        (Cow::Borrowed("ce-source"), attribute::encode(event.source())),
        (Cow::Borrowed("ce-type"), attribute::encode(event.event_type().as_str())),
    ];
    let others =
        event.attributes().iter().map(|(name, value)| (header_name(name.as_str()), attribute::encode(value)));
    fixed.into_iter().chain(others)
}

fn header_name(attribute: &str) -> Cow<'static, str> {
    match attribute {
        attribute::TIME => Cow::Borrowed("ce-time"),
        DATA_CONTENT_TYPE => Cow::Borrowed(DATA_CONTENT_TYPE_HEADER),
        attribute::PARTITION_KEY => Cow::Borrowed("ce-partitionkey"),
        other => Cow::Owned(format!("{HEADER_PREFIX}{other}")),
    }
}

/// Reads an event from the headers and the payload of a message.
///
/// # Errors
/// When it is no complete event in this format: then it was not stored by a sidecar.
pub fn read<'a>(
    headers: impl IntoIterator<Item = (&'a str, &'a str)>,
    payload: bytes::Bytes,
) -> Result<Event, InvalidEvent> {
    let mut draft = Draft::default();
    for (name, value) in headers {
        if let Some(name) = name.strip_prefix(HEADER_PREFIX) {
            draft.set(name, attribute::decode(name, value.as_bytes())?)?;
        }
    }
    draft.set_data(payload);
    draft.complete_as_is()
}

/// The name that a header of the bus has when the event is delivered over HTTP
/// in binary mode; `None` for those that are not the event's own. The values
/// are encoded alike on both sides.
pub fn delivered_header(name: &str) -> Option<&str> {
    match name {
        DATA_CONTENT_TYPE_HEADER => Some("content-type"),
        _ if name.starts_with(HEADER_PREFIX) => Some(name),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::structured;
    use crate::event::tests::Fixed;
    use bytes::Bytes;
    use proptest::prelude::*;

    fn wire(event: &Event) -> Vec<(String, String)> {
        headers(event).map(|(name, value)| (name.into_owned(), value.into_owned())).collect()
    }

    fn again(event: &Event) -> Event {
        let headers = wire(event);
        read(headers.iter().map(|(name, value)| (name.as_str(), value.as_str())), event.data().clone())
            .unwrap()
    }

    #[test]
    fn the_wire_form_matches_the_published_vector() {
        let json = r#"{"specversion":"1.0","type":"com.example.größe","id":"42","source":"/shop/products",
            "time":"2026-11-21T09:00:00Z","subject":"a b","partitionkey":"p-5","flag":true,"data":{"id":5}}"#;
        let event = structured::read(&Bytes::from(json)).unwrap().complete(&Fixed).unwrap();
        let lines: Vec<_> =
            wire(&event).into_iter().map(|(name, value)| format!("{name}: {value}")).collect();
        insta::assert_snapshot!(format!(
            "{}\n{}\n\n{}",
            event.subject(&"products".parse().unwrap()),
            lines.join("\n"),
            String::from_utf8_lossy(event.data())
        ));
    }

    #[test]
    fn a_message_that_lacks_a_required_attribute_is_no_event() {
        assert!(read([("ce-type", "A"), ("ce-id", "1")], Bytes::new()).is_err());
        assert!(read([("ce-type", "A"), ("ce-source", "s")], Bytes::new()).is_err());
        assert!(read([("ce-id", "1"), ("ce-source", "s")], Bytes::new()).is_err());
    }

    #[test]
    fn only_an_events_own_headers_are_delivered() {
        assert_eq!(delivered_header("ce-id"), Some("ce-id"));
        assert_eq!(delivered_header("ce-datacontenttype"), Some("content-type"));
        assert_eq!(delivered_header("Nats-Msg-Id"), None);
        assert_eq!(delivered_header("murmur-format"), None);
    }

    proptest! {
        #[test]
        fn every_event_survives_the_way_over_the_bus(
            id in "\\PC{1,40}", source in "[^\\s\\p{Cc}]{1,40}", subject in "\\PC{1,40}",
            event_type in "[^.\\p{Cc}]{1,20}", data in proptest::collection::vec(any::<u8>(), 0..64),
        ) {
            let mut draft = Draft::default();
            draft.set("id", id).unwrap();
            draft.set("source", source).unwrap();
            draft.set("subject", subject).unwrap();
            draft.set("type", event_type).unwrap();
            draft.set_data(Bytes::from(data));
            let event = draft.complete(&Fixed).unwrap();
            prop_assert_eq!(again(&event), event);
        }
    }
}
