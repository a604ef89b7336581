//! The request that delivers an event: CloudEvents' HTTP binding, binary mode.

use async_nats::{HeaderMap as BusHeaders, HeaderValue as BusValue, Message};
use bytes::Bytes;
use http::header::{AUTHORIZATION, HOST, HeaderName, HeaderValue};
use http::{HeaderMap, Method, Request};
use http_body_util::Full;
use murmur_mesh::subject;
use murmur_mesh::wire::{self, FORMAT, FORMAT_HEADER};

use crate::publish::TRACE_HEADERS;

const SUBSCRIPTION: HeaderName = HeaderName::from_static("murmur-subscription");
const SEQUENCE: HeaderName = HeaderName::from_static("murmur-sequence");
const ATTEMPT: HeaderName = HeaderName::from_static("murmur-attempt");
const REPLAY: HeaderName = HeaderName::from_static("murmur-replay");
/// What an event cannot be without, with what is known of its value.
const REQUIRED: [(&str, Option<&str>); 5] = [
    (FORMAT_HEADER, Some(FORMAT)),
    ("ce-specversion", Some("1.0")),
    ("ce-id", None),
    ("ce-source", None),
    ("ce-type", None),
];

/// What a request needs beside the event.
#[derive(Debug, Clone)]
pub(super) struct Target {
    /// `127.0.0.1:<port>`.
    pub(super) host: HeaderValue,
    pub(super) path: http::Uri,
    pub(super) subscription: HeaderValue,
    pub(super) authorization: HeaderValue,
    /// The replay that runs, if any.
    pub(super) replay: Option<Replay>,
}

/// A replay: its id, and the last event that belongs to it.
#[derive(Debug, Clone)]
pub(super) struct Replay {
    pub(super) id: HeaderValue,
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
        match (headers.get(name).map(BusValue::as_str), expected) {
            (None | Some(""), _) => {
                return Err(format!("the header {name} is missing, so it is no CloudEvent"));
            }
            (Some(value), Some(expected)) if value != expected => {
                return Err(format!("the header {name} is {value:?}, not {expected:?}"));
            }
            _ => {}
        }
    }
    own_headers(headers).map(drop)
}

/// What the order of an event hangs on, in its form on the bus.
pub(super) fn key(message: &Message) -> Option<&str> {
    let headers = message.headers.as_ref()?;
    headers.get("ce-partitionkey").or_else(|| headers.get("ce-id")).map(BusValue::as_str)
}

/// The event's headers as they are delivered.
pub(crate) fn own_headers(headers: &BusHeaders) -> Result<HeaderMap, String> {
    let mut own = HeaderMap::with_capacity(headers.len() + 8);
    for (name, values) in headers.iter() {
        let name: &str = name.as_ref();
        let delivered = wire::delivered_header(name);
        let traced = TRACE_HEADERS.contains(&name).then_some(name);
        let (Some(delivered), Some(value)) = (delivered.or(traced), values.first()) else { continue };
        let name = HeaderName::from_bytes(delivered.as_bytes())
            .map_err(|_| format!("{delivered:?} is no name of an attribute"))?;
        let value = HeaderValue::from_str(value.as_str())
            .map_err(|_| format!("the value of {delivered} is not encoded as it should be"))?;
        own.insert(name, value);
    }
    Ok(own)
}

/// The request for one attempt, from 1.
pub(super) fn build(message: &Message, sequence: u64, attempt: u32, target: &Target) -> Request<Full<Bytes>> {
    let mut request = Request::new(Full::new(message.payload.clone()));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = target.path.clone();
    // Checked when the event was taken in.
    let mut headers = message.headers.as_ref().and_then(|own| own_headers(own).ok()).unwrap_or_default();
    headers.insert(HOST, target.host.clone());
    headers.insert(AUTHORIZATION, target.authorization.clone());
    headers.insert(SUBSCRIPTION, target.subscription.clone());
    headers.insert(SEQUENCE, HeaderValue::from(sequence));
    headers.insert(ATTEMPT, HeaderValue::from(attempt));
    let replay = target.replay.as_ref().filter(|replay| sequence <= replay.boundary);
    let replay = replay.map_or(HeaderValue::from_static("false"), |replay| replay.id.clone());
    headers.insert(REPLAY, replay);
    *request.headers_mut() = headers;
    request
}

#[cfg(test)]
mod tests {
    use super::*;

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
    }

    #[test]
    fn the_key_is_the_partition_key_or_else_the_id() {
        assert_eq!(key(&message(&GOOD)), Some("1"));
        let mut keyed = GOOD.to_vec();
        keyed.push(("ce-partitionkey", "k"));
        assert_eq!(key(&message(&keyed)), Some("k"));
    }
}
