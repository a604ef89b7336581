//! The request that delivers an event: CloudEvents' HTTP binding, binary mode.

use std::time::Duration;

use async_nats::{HeaderMap, HeaderName, HeaderValue, Message};
use bytes::Bytes;
use murmur_mesh::event::http_binary::HEADER_PREFIX;
use murmur_mesh::event::structured::BATCH_CONTENT_TYPE;
use murmur_mesh::subject;
use murmur_mesh::wire::{self, FORMAT, FORMAT_HEADER};

use super::client::Request;
use crate::publish::TRACE_HEADERS;
use crate::trace::{Context, PARENT};

/// What a head has beside the event's own headers, about.
const ROOM: usize = 256;
/// How long the body of an answer may take to end where the status decides alone.
const BODY_TIME: Duration = Duration::from_secs(1);
// Looking for a name that is no `HeaderName` yet makes one each time, which is an allocation.
const ID: HeaderName = HeaderName::from_static("ce-id");
const SOURCE: HeaderName = HeaderName::from_static("ce-source");
const PARTITION_KEY: HeaderName = HeaderName::from_static("ce-partitionkey");
/// What an event cannot be without, with what is known of its value.
const REQUIRED: [(HeaderName, Option<&str>); 5] = [
    (HeaderName::from_static(FORMAT_HEADER), Some(FORMAT)),
    (HeaderName::from_static("ce-specversion"), Some("1.0")),
    (ID, None),
    (SOURCE, None),
    (HeaderName::from_static("ce-type"), None),
];

/// What a request needs beside the event.
#[derive(Debug, Clone)]
pub(super) struct Target {
    /// The request line, and the headers that are the same in all requests.
    pub(super) head: Vec<u8>,
    /// The replay that runs, if any.
    pub(super) replay: Option<Replay>,
}

/// A replay: its id, and the last event that belongs to it.
#[derive(Debug, Clone)]
pub(super) struct Replay {
    /// As it stands in a header.
    pub(super) id: String,
    pub(super) boundary: u64,
}

/// Whether a message is a dead letter that was sent to its subscription again.
pub(super) fn is_redriven(message: &Message) -> bool {
    message.subject.starts_with(subject::REDRIVE_PREFIX)
}

/// Says why a message is no event, if it is none.
pub(super) fn check(message: &Message) -> Result<(), String> {
    let Some(headers) = &message.headers else {
        return Err("the message has no headers, so it is no CloudEvent".to_owned());
    };
    for (name, expected) in REQUIRED {
        match (headers.get(name.clone()).map(HeaderValue::as_str), expected) {
            (None | Some(""), _) => {
                return Err(format!("the header {name} is missing, so it is no CloudEvent"));
            }
            (Some(value), Some(expected)) if value != expected => {
                return Err(format!("the header {name} is {value:?}, not {expected:?}"));
            }
            _ => {}
        }
    }
    for (name, value) in own_headers(headers) {
        if !name.bytes().all(is_token) {
            return Err(format!("{name:?} is no name of an attribute"));
        }
        if !value.bytes().all(|byte| matches!(byte, b' '..=b'~' | b'\t')) {
            return Err(format!("the value of {name} is not encoded as it should be"));
        }
    }
    Ok(())
}

/// What names of headers consist of (RFC 9110).
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// What the order of an event hangs on, in its form on the bus.
pub(super) fn key(message: &Message) -> Option<&str> {
    let headers = message.headers.as_ref()?;
    headers.get(PARTITION_KEY).or_else(|| headers.get(ID)).map(HeaderValue::as_str)
}

/// The event's headers as they are delivered.
pub(crate) fn own_headers(headers: &HeaderMap) -> impl Iterator<Item = (&str, &str)> {
    headers.iter().filter_map(|(name, values)| {
        let name: &str = name.as_ref();
        let traced = || TRACE_HEADERS.contains(&name).then_some(name);
        let delivered = wire::delivered_header(name).or_else(traced)?;
        Some((delivered, values.first()?.as_str()))
    })
}

/// The event's attributes, by name, in their form on the bus.
pub(crate) fn attributes(message: &Message) -> impl Iterator<Item = (&str, &str)> {
    message.headers.iter().flat_map(HeaderMap::iter).filter_map(|(name, values)| {
        let name: &str = name.as_ref();
        Some((name.strip_prefix(HEADER_PREFIX)?, values.first()?.as_str()))
    })
}

/// The publisher's trace, as it stands beside the event.
pub(super) fn trace(message: &Message) -> impl Iterator<Item = (&'static str, &str)> {
    let headers = message.headers.as_ref();
    TRACE_HEADERS.into_iter().filter_map(move |name| Some((name, headers?.get(name)?.as_str())))
}

/// The trace of an event that was published in none.
pub(super) fn begin(message: &Message) -> Option<http::HeaderValue> {
    let headers = message.headers.as_ref()?;
    let text = |name| headers.get(name).map(HeaderValue::as_str);
    Some(Context::of_event(text(SOURCE)?, text(ID)?).header())
}

/// The request line of every delivery, and the headers that are the same in all.
pub(super) fn fixed(path: &str, headers: &[(&str, &str)]) -> Vec<u8> {
    let mut head = format!("POST {path} HTTP/1.1\r\n").into_bytes();
    for (name, value) in headers {
        line(&mut head, name, value);
    }
    head
}

/// The request for one attempt, from 1, to deliver an event that was checked.
/// `trace`: the delivery's own `traceparent`, where it has a span.
pub(super) fn build(
    message: &Message,
    sequence: u64,
    attempt: u32,
    target: &Target,
    trace: Option<&str>,
) -> Request {
    let mut head = Vec::with_capacity(target.head.len() + message.length + ROOM);
    head.extend_from_slice(&target.head);
    let mut kept = None;
    for (name, value) in message.headers.iter().flat_map(own_headers) {
        if name == PARENT {
            kept = Some(value);
        } else {
            line(&mut head, name, value);
        }
    }
    match trace.or(kept) {
        Some(trace) => line(&mut head, PARENT, trace),
        None => {
            line(&mut head, PARENT, begin(message).as_ref().and_then(|it| it.to_str().ok()).unwrap_or(""));
        }
    }
    let mut number = itoa::Buffer::new();
    line(&mut head, "murmur-sequence", number.format(sequence));
    line(&mut head, "murmur-attempt", number.format(attempt));
    line(&mut head, "murmur-replay", target.replay_of(sequence));
    line(&mut head, "content-length", number.format(message.payload.len()));
    head.extend_from_slice(b"\r\n");
    Request { head, body: message.payload.clone(), body_time: BODY_TIME }
}

/// The request that delivers a batch. `trace`: its own `traceparent`, where it has a span.
pub(super) fn of_batch(body: Vec<u8>, target: &Target, trace: Option<&str>) -> Request {
    let mut head = Vec::with_capacity(target.head.len() + ROOM);
    head.extend_from_slice(&target.head);
    line(&mut head, "content-type", BATCH_CONTENT_TYPE);
    if let Some(trace) = trace {
        line(&mut head, PARENT, trace);
    }
    line(&mut head, "content-length", itoa::Buffer::new().format(body.len()));
    head.extend_from_slice(b"\r\n");
    // What it says of each event is in the body: that may take as long as the answer.
    Request { head, body: Bytes::from(body), body_time: Duration::MAX }
}

impl Target {
    /// Which replay the delivery of an event belongs to.
    pub(super) fn replay_of(&self, sequence: u64) -> &str {
        self.replay.as_ref().filter(|replay| sequence <= replay.boundary).map_or("false", |replay| &replay.id)
    }
}

fn line(head: &mut Vec<u8>, name: &str, value: &str) {
    for part in [name, ": ", value, "\r\n"] {
        head.extend_from_slice(part.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use async_nats::HeaderMap as BusHeaders;

    fn message(headers: &[(&str, &str)]) -> Message {
        let mut map = BusHeaders::new();
        for (name, value) in headers {
            map.insert(*name, *value);
        }
        Message {
            subject: "events.a.1.T".into(),
            reply: None,
            payload: Bytes::from_static(b"{}"),
            headers: Some(map),
            status: None,
            description: None,
            length: 0,
        }
    }

    const GOOD: [(&str, &str); 5] = [
        ("murmur-format", "1"),
        ("ce-specversion", "1.0"),
        ("ce-id", "1"),
        ("ce-source", "/a"),
        ("ce-type", "T"),
    ];

    #[test]
    fn a_message_that_lacks_something_is_no_event() {
        assert_eq!(check(&message(&GOOD)), Ok(()));
        for missing in 0..GOOD.len() {
            let mut headers = GOOD.to_vec();
            let (name, _) = headers.remove(missing);
            assert!(check(&message(&headers)).unwrap_err().contains(name));
        }
        assert!(check(&Message { headers: None, ..message(&[]) }).is_err());
    }

    #[test]
    fn an_event_in_a_format_from_the_future_or_with_a_broken_header_is_refused() {
        let mut newer = GOOD.to_vec();
        newer[0].1 = "2";
        assert!(check(&message(&newer)).is_err());
        let mut broken = GOOD.to_vec();
        broken.push(("ce-a(b", "1"));
        assert!(check(&message(&broken)).is_err());
        let mut smuggling = GOOD.to_vec();
        smuggling.push(("ce-a", "1\u{b}2"));
        assert!(check(&message(&smuggling)).is_err());
    }

    #[test]
    fn the_key_is_the_partition_key_or_else_the_id() {
        assert_eq!(key(&message(&GOOD)), Some("1"));
        let mut keyed = GOOD.to_vec();
        keyed.push(("ce-partitionkey", "k"));
        assert_eq!(key(&message(&keyed)), Some("k"));
    }
}
