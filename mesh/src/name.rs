//! Names, parsed once at the edge: a value of one of these types is valid.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Why a text is not a valid name: what was expected and what was found.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind} {value:?} is not valid: {rule}")]
pub struct InvalidName {
    /// What kind of name was expected.
    pub kind: &'static str,
    /// The text that was refused, cut to 128 characters.
    pub value: String,
    /// The rule that it breaks.
    pub rule: &'static str,
}

impl InvalidName {
    pub(crate) fn new(kind: &'static str, value: &str, rule: &'static str) -> Self {
        Self { kind, value: value.chars().take(128).collect(), rule }
    }
}

/// Declares a validated string newtype.
macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $check:path) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidName;
            fn from_str(text: &str) -> Result<Self, InvalidName> {
                match $check(text) {
                    Ok(()) => Ok(Self(text.to_owned())),
                    Err(rule) => Err(InvalidName::new($kind, text, rule)),
                }
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidName;
            fn try_from(text: String) -> Result<Self, InvalidName> {
                match $check(&text) {
                    Ok(()) => Ok(Self(text)),
                    Err(rule) => Err(InvalidName::new($kind, &text, rule)),
                }
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name! {
    /// A Microservice's name: a DNS-1035 label of at most 40 characters, so that
    /// every object derived from it still fits into 63.
    ServiceName, "service name", service
}
name! {
    /// An EventSubscription's name: a DNS-1123 label of at most 52 characters.
    SubscriptionName, "subscription name", subscription
}
name! {
    /// A mesh is a namespace; its name is a DNS-1123 label of at most 63 characters.
    MeshName, "mesh name", mesh
}
name! {
    /// A CloudEvents type that can become tokens of a subject: 1 to 255 bytes,
    /// no control characters, no empty part between dots.
    EventType, "event type", event_type
}

/// Suffixes that the operator uses for a service's own objects.
pub const RESERVED_SERVICE_SUFFIXES: [&str; 3] = ["-db", "-pods", "-backup"];

fn service(text: &str) -> Result<(), &'static str> {
    if !text.starts_with(|c: char| c.is_ascii_lowercase()) {
        return Err("it must start with a lower-case letter");
    }
    label(text, 40, "it must be at most 40 characters")?;
    if RESERVED_SERVICE_SUFFIXES.iter().any(|suffix| text.ends_with(suffix)) {
        return Err("the endings -db, -pods and -backup are reserved for a service's own objects");
    }
    Ok(())
}

fn subscription(text: &str) -> Result<(), &'static str> {
    label(text, 52, "it must be at most 52 characters")
}

fn mesh(text: &str) -> Result<(), &'static str> {
    label(text, 63, "it must be at most 63 characters")
}

fn label(text: &str, longest: usize, too_long: &'static str) -> Result<(), &'static str> {
    if text.is_empty() {
        return Err("it must not be empty");
    }
    if text.len() > longest {
        return Err(too_long);
    }
    if !text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-') {
        return Err("only lower-case letters, digits and '-' are allowed");
    }
    if text.starts_with('-') || text.ends_with('-') {
        return Err("it must start and end with a letter or digit");
    }
    Ok(())
}

fn event_type(text: &str) -> Result<(), &'static str> {
    if text.is_empty() {
        return Err("it must not be empty");
    }
    if text.len() > 255 {
        return Err("it must be at most 255 bytes");
    }
    if text.chars().any(char::is_control) {
        return Err("control characters are not allowed");
    }
    if text.split('.').any(str::is_empty) {
        return Err("no part between dots may be empty");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_name_is_a_dns_1035_label_of_at_most_40_characters() {
        for good in ["a", "users", "a-1", &"x".repeat(40)] {
            assert!(good.parse::<ServiceName>().is_ok(), "{good}");
        }
        for bad in ["", "1a", "-a", "a-", "A", "a_b", "a.b", &"x".repeat(41), "x-db", "x-pods", "x-backup"] {
            assert!(bad.parse::<ServiceName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_subscription_name_may_start_with_a_digit_and_has_at_most_52_characters() {
        assert!("1-a".parse::<SubscriptionName>().is_ok());
        assert!("x".repeat(52).parse::<SubscriptionName>().is_ok());
        assert!("x".repeat(53).parse::<SubscriptionName>().is_err());
    }

    #[test]
    fn an_event_type_has_no_empty_part_and_no_control_character() {
        for good in ["UserCreated", "com.example.user.created.v1", "größe", "a b", "a*>"] {
            assert!(good.parse::<EventType>().is_ok(), "{good}");
        }
        for bad in ["", ".", "a..b", ".a", "a.", "a\nb", &"x".repeat(256)] {
            assert!(bad.parse::<EventType>().is_err(), "{bad}");
        }
    }

    #[test]
    fn the_error_says_what_was_expected_and_why_it_failed() {
        let error = "Users".parse::<ServiceName>().unwrap_err().to_string();
        assert_eq!(error, "service name \"Users\" is not valid: it must start with a lower-case letter");
    }
}
