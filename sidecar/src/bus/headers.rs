//! Headers of a message that has many.
//!
//! The client keeps headers in a map of owned strings. For the ten of an event
//! that costs some 5 µs, a fifth of all that publishing it does. So they go as
//! the one value of the first of them, with the line breaks that NATS puts
//! between headers (ADR-4) already in it. A value with a line break of its own
//! cannot begin another header: it is percent-encoded, as attributes of events are.

use std::borrow::Cow;

use async_nats::{HeaderMap, HeaderName, HeaderValue};
use serde::Deserialize;
use serde::de::IntoDeserializer;
use serde::de::value::Error;

/// About what the headers of an event take.
const ROOM: usize = 512;
const BREAK: &str = "\r\n";

/// The headers of a message, `first` and then the others.
pub(crate) fn headers<'a>(
    (first, value): (&'static str, &str),
    others: impl Iterator<Item = (Cow<'static, str>, Cow<'a, str>)>,
) -> HeaderMap {
    let mut text = String::with_capacity(ROOM);
    text.push_str(&in_one_line(value));
    for (name, value) in others {
        for part in [BREAK, &name, ": ", &in_one_line(&value)] {
            text.push_str(part);
        }
    }
    // Of its ways to make a value this one looks for no line breaks.
    match HeaderValue::deserialize(IntoDeserializer::<Error>::into_deserializer(text.as_str())) {
        Ok(lines) => one(first, lines),
        // A later client may.
        Err(_) => one_by_one(first, &text),
    }
}

/// A header's value without line breaks.
fn in_one_line(value: &str) -> Cow<'_, str> {
    // All of it, not up to the first: many bytes are compared at once so.
    let breaks = value.bytes().fold(false, |found, byte| found | (byte == b'\r') | (byte == b'\n'));
    if breaks { value.replace('\r', "%0D").replace('\n', "%0A").into() } else { value.into() }
}

fn one(name: &'static str, value: HeaderValue) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(HeaderName::from_static(name), value);
    headers
}

fn one_by_one(first: &'static str, text: &str) -> HeaderMap {
    let mut lines = text.split(BREAK);
    let mut headers = one(first, lines.next().unwrap_or_default().into());
    for (name, value) in lines.filter_map(|line| line.split_once(": ")) {
        headers.insert(name, value);
    }
    headers
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some() -> impl Iterator<Item = (Cow<'static, str>, Cow<'static, str>)> {
        [("ce-id", "1: a"), ("ce-source", "/s")].map(|(name, value)| (name.into(), value.into())).into_iter()
    }

    #[test]
    fn all_go_as_one_value_with_the_breaks_that_nats_puts_between_headers() {
        let headers = headers(("Nats-Msg-Id", "m"), some());
        assert_eq!(
            headers.get("Nats-Msg-Id").map(HeaderValue::as_str),
            Some("m\r\nce-id: 1: a\r\nce-source: /s")
        );
        assert_eq!(headers.len(), 1);
    }

    #[test]
    fn a_line_break_in_a_value_begins_no_other_header() {
        let others = [("ce-id", "1\r\nNats-Msg-Id: x"), ("ce-source", "/s\n")];
        let others = others.map(|(name, value)| (name.into(), value.into()));
        let headers = headers(("Nats-Msg-Id", "m\rn"), others.into_iter());
        assert_eq!(
            headers.get("Nats-Msg-Id").map(HeaderValue::as_str),
            Some("m%0Dn\r\nce-id: 1%0D%0ANats-Msg-Id: x\r\nce-source: /s%0A")
        );
    }

    #[test]
    fn a_client_that_takes_no_such_value_gets_them_one_by_one() {
        let headers = one_by_one("Nats-Msg-Id", "m\r\nce-id: 1: a\r\nce-source: /s");
        let expected = [("Nats-Msg-Id", "m"), ("ce-id", "1: a"), ("ce-source", "/s")];
        assert_eq!(headers.len(), expected.len());
        for (name, value) in expected {
            assert_eq!(headers.get(name).map(HeaderValue::as_str), Some(value));
        }
    }
}
