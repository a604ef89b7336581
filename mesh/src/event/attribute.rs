//! Attributes: their names, their values, and what is wrong with them.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use percent_encoding::{AsciiSet, CONTROLS, percent_decode, utf8_percent_encode};

use crate::name::InvalidName;

/// `time`, the moment of the occurrence, in RFC 3339.
pub const TIME: &str = "time";
/// `datacontenttype`, the media type of the data.
pub const DATA_CONTENT_TYPE: &str = "datacontenttype";
/// `partitionkey`, the extension that events which belong together share.
pub const PARTITION_KEY: &str = "partitionkey";

/// The longest value of an attribute, in bytes.
///
/// CloudEvents asks intermediaries to forward events of 64 KiB; the bus takes
/// headers up to its payload limit. This bounds one attribute well below both.
pub const LONGEST_VALUE: usize = 8 * 1024;

/// Why something is not a valid CloudEvent. Each text says what to change.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidEvent {
    /// No `type`.
    #[error("the event has no type: send the header ce-type, or post to /v1/events/{{type}}")]
    NoType,
    /// A required attribute that nobody filled in.
    #[error("the attribute {0} is missing")]
    Missing(&'static str),
    /// A `type` that cannot be a subject.
    #[error(transparent)]
    Type(#[from] InvalidName),
    /// Path and event name different types.
    #[error("the event's type {event:?} contradicts {path:?} in the path: leave one of them out")]
    TypeContradicts {
        /// As the event says.
        event: String,
        /// As the path says.
        path: String,
    },
    /// Another version of CloudEvents.
    #[error("specversion {0:?} is not supported: send \"1.0\"")]
    SpecVersion(String),
    /// An attribute's name breaks the rule.
    #[error("{0:?} is not an attribute name: only lower-case letters and digits are allowed, at most 128")]
    AttributeName(String),
    /// An attribute's value breaks a rule.
    #[error("the attribute {name} is not valid: {rule}")]
    AttributeValue {
        /// The attribute.
        name: String,
        /// The rule.
        rule: &'static str,
    },
    /// An attribute came more than once.
    #[error("the attribute {0} is there more than once")]
    Twice(String),
    /// Not the JSON of an event.
    #[error("the body is not a CloudEvent in JSON: {0}")]
    Json(String),
    /// `data_base64` is not base64.
    #[error("data_base64 is not base64: {0}")]
    Base64(String),
    /// A content type that cannot be used here.
    #[error("{0}")]
    ContentType(&'static str),
}

/// The name of an optional or extension attribute: lower-case letters and digits.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct AttributeName(Cow<'static, str>);

impl AttributeName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// `time`.
    pub(crate) const fn time() -> Self {
        Self(Cow::Borrowed(TIME))
    }
}

impl FromStr for AttributeName {
    type Err = InvalidEvent;

    fn from_str(text: &str) -> Result<Self, InvalidEvent> {
        // The frequent ones need no allocation.
        for known in [TIME, DATA_CONTENT_TYPE, PARTITION_KEY, "subject", "dataschema"] {
            if text == known {
                return Ok(Self(Cow::Borrowed(known)));
            }
        }
        // "data" and "data_base64" are members of the JSON form, never attributes.
        let valid = (1..=128).contains(&text.len())
            && text != "data"
            && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        if !valid {
            return Err(InvalidEvent::AttributeName(text.chars().take(128).collect()));
        }
        Ok(Self(Cow::Owned(text.to_owned())))
    }
}

impl fmt::Display for AttributeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Checks a value by the rules of CloudEvents 1.0 for its attribute.
pub(super) fn check_value(name: &str, value: &str) -> Result<(), InvalidEvent> {
    let invalid = |rule| Err(InvalidEvent::AttributeValue { name: name.chars().take(128).collect(), rule });
    if value.is_empty() {
        return invalid("it must not be empty; leave it out instead");
    }
    if value.len() > LONGEST_VALUE {
        return invalid("it must be at most 8 KiB");
    }
    if value.chars().any(char::is_control) {
        return invalid("control characters are not allowed");
    }
    match name {
        TIME if value.parse::<jiff::Timestamp>().is_err() => {
            invalid("it must be a time of RFC 3339 such as 2026-11-21T09:00:00Z")
        }
        "source" | "dataschema" if value.contains(char::is_whitespace) => {
            invalid("it must be a URI reference, without white space")
        }
        _ => Ok(()),
    }
}

/// What the HTTP binding (1.0.2, section 3.1.3.2) encodes in a header's value:
/// space, double quote, percent and all that is not printable ASCII.
const ENCODED: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'%');

/// A value as it stands in a header.
pub fn encode(value: &str) -> Cow<'_, str> {
    utf8_percent_encode(value, ENCODED).into()
}

/// The value that stands in a header, as far as it is one: for those who only look at it.
pub fn decoded(header: &str) -> Cow<'_, str> {
    percent_decode(header.as_bytes()).decode_utf8_lossy()
}

/// The value that stands in a header; quotes around it are taken off, as the
/// HTTP binding asks of receivers.
pub(crate) fn decode(name: &str, header: &[u8]) -> Result<String, InvalidEvent> {
    let inner = header.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\"")).unwrap_or(header);
    match percent_decode(inner).decode_utf8() {
        Ok(value) => Ok(value.into_owned()),
        Err(_) => Err(InvalidEvent::AttributeValue {
            name: name.to_owned(),
            rule: "it must be percent-encoded UTF-8",
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_survives_its_form_in_a_header() {
        for (value, header) in [
            ("plain", "plain"),
            ("Euro € 100%", "Euro%20%E2%82%AC%20100%25"),
            ("a\"b", "a%22b"),
            ("a,b;c", "a,b;c"),
        ] {
            assert_eq!(encode(value), header);
            assert_eq!(decode("x", header.as_bytes()).unwrap(), value);
        }
    }

    #[test]
    fn a_receiver_takes_quotes_off_and_refuses_what_is_not_utf8() {
        assert_eq!(decode("x", b"\"a b\"").unwrap(), "a b");
        assert!(decode("x", b"%FF").is_err());
    }

    #[test]
    fn a_bad_value_is_refused_with_the_rule_that_it_breaks() {
        for (name, value) in [
            ("id", ""),
            ("subject", "a\u{7}"),
            ("time", "yesterday"),
            ("source", "a b"),
            ("subject", &"x".repeat(LONGEST_VALUE + 1)),
        ] {
            assert!(
                matches!(check_value(name, value), Err(InvalidEvent::AttributeValue { .. })),
                "{name}={value}"
            );
        }
    }

    #[test]
    fn an_attribute_name_is_lower_case_letters_and_digits() {
        assert!("traceparent".parse::<AttributeName>().is_ok());
        for bad in ["", "Abc", "a-b", "data", "data_base64", &"x".repeat(129)] {
            assert!(bad.parse::<AttributeName>().is_err(), "{bad}");
        }
    }
}
