//! Durations in the form of the Gateway API (GEP-2257): `1h30m`, `10s`, `500ms`.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// The form: up to four numbers of up to five digits, each with its unit.
const PATTERN: &str = "^([0-9]{1,5}(h|m|s|ms)){1,4}$";

/// A duration as it is written in a resource.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct GatewayDuration(pub String);

/// The text is not a duration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidDuration(pub String);

impl fmt::Display for InvalidDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?} is not a duration: write numbers with the units h, m, s and ms, such as 1h30m or 500ms",
            self.0
        )
    }
}

impl std::error::Error for InvalidDuration {}

impl GatewayDuration {
    /// Reads the text.
    ///
    /// # Errors
    /// When it breaks the form; the API server refuses such a text, so that it
    /// can only come from a resource that is older than the rule.
    pub fn parse(&self) -> Result<Duration, InvalidDuration> {
        murmur_mesh::duration::parse(&self.0)
            .ok_or_else(|| InvalidDuration(self.0.chars().take(64).collect()))
    }
}

impl From<&str> for GatewayDuration {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl JsonSchema for GatewayDuration {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "GatewayDuration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "pattern": PATTERN, "maxLength": 32})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_of_the_gateway_api_are_read() {
        for (text, milliseconds) in
            [("0s", 0), ("500ms", 500), ("10s", 10_000), ("1h30m", 5_400_000), ("1h1m1s1ms", 3_661_001)]
        {
            assert_eq!(
                GatewayDuration::from(text).parse(),
                Ok(Duration::from_millis(milliseconds)),
                "{text}"
            );
        }
    }

    #[test]
    fn what_is_not_a_duration_is_refused_with_an_example() {
        for text in ["", "1", "s", "1.5s", "-1s", "1d", "100000s", "1s1s1s1s1s", "1s ", "1µs"] {
            let error = GatewayDuration::from(text).parse().unwrap_err();
            assert!(error.to_string().contains("such as 1h30m"), "{text}");
        }
    }
}
