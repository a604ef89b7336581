//! Several events in one request, in CloudEvents' JSON batch format, and what the
//! service says about each. Pure.

use std::collections::HashMap;
use std::time::Duration;

use async_nats::Message;
use data_encoding::BASE64;
use murmur_mesh::event::{attribute, structured};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::request;
use super::verdict::Verdict;
use crate::trace::PARENT;

/// The largest body of a request.
pub(super) const LARGEST: usize = 4 << 20;
/// What an event may need beside its bytes, each of which may take six when escaped.
const OVERHEAD: usize = 256;
/// The longest wait that the service may ask for.
const LONGEST_AFTER: f64 = 600.0;

/// How many bytes an event may need in a batch.
pub(super) fn room(message: &Message) -> usize {
    message.length * 3 + OVERHEAD
}

/// Writes one event, with its place in the store, the attempt and the replay as extensions,
/// and its publisher's trace, unless it has CloudEvents' extension for that itself.
pub(super) fn write(body: &mut Vec<u8>, message: &Message, sequence: u64, attempt: u32, replay: &str) {
    body.push(if body.is_empty() { b'[' } else { b',' });
    body.extend_from_slice(
        format!("{{\"murmursequence\":\"{sequence}\",\"murmurattempt\":{attempt}").as_bytes(),
    );
    field(body, "murmurreplay", replay);
    let (mut json, mut traced) = (true, false);
    for (name, value) in request::attributes(message) {
        let value = attribute::decoded(value);
        if name == "datacontenttype" {
            json = structured::is_json(&value);
        }
        traced |= name == PARENT;
        field(body, name, &value);
    }
    if !traced {
        for (name, value) in request::trace(message) {
            traced |= name == PARENT;
            field(body, name, value);
        }
    }
    if !traced && let Some(begins) = request::begin(message).as_ref().and_then(|begins| begins.to_str().ok())
    {
        field(body, PARENT, begins);
    }
    let data = &message.payload;
    if !data.is_empty() {
        let raw = std::str::from_utf8(data).ok().filter(|_| json);
        match raw.filter(|text| serde_json::from_str::<&RawValue>(text).is_ok()) {
            Some(text) => {
                body.extend_from_slice(b",\"data\":");
                body.extend_from_slice(text.as_bytes());
            }
            None => field(body, "data_base64", &BASE64.encode(data)),
        }
    }
    body.push(b'}');
}

fn field(body: &mut Vec<u8>, name: &str, value: &str) {
    // Texts can always be written.
    let (name, value) = (serde_json::to_string(name), serde_json::to_string(value));
    body.extend_from_slice(format!(",{}:{}", name.unwrap_or_default(), value.unwrap_or_default()).as_bytes());
}

/// What the service says of one event.
#[derive(Debug, Clone, PartialEq, Deserialize)]
struct Named {
    sequence: Sequence,
    outcome: Outcome,
    /// Seconds.
    after: Option<f64>,
    reason: Option<String>,
}

/// As it came, or as a number.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(untagged)]
enum Sequence {
    Text(String),
    Number(u64),
}

#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Outcome {
    Done,
    Retry,
    Reject,
}

/// What the service said of a batch that it took.
#[derive(Debug, PartialEq)]
pub(super) struct Results(Option<HashMap<u64, Named>>);

impl Results {
    /// Reads the body of a 2xx, which must be all there. One that is no JSON object, or one without
    /// results, says that all is done.
    ///
    /// # Errors
    /// When it is an object that cannot be understood.
    pub(super) fn read(body: &[u8]) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Body {
            results: Option<Vec<Named>>,
        }
        if !body.trim_ascii_start().starts_with(b"{") {
            return Ok(Self(None));
        }
        let parsed: Body = serde_json::from_slice(body)
            .map_err(|error| format!("the results of a batch cannot be read: {error}"))?;
        let Some(results) = parsed.results else { return Ok(Self(None)) };
        let number = |named: &Named| match &named.sequence {
            Sequence::Text(text) => text.parse().ok(),
            Sequence::Number(number) => Some(*number),
        };
        Ok(Self(Some(results.into_iter().filter_map(|one| Some((number(&one)?, one))).collect())))
    }

    /// What is to be done with one event, and how long the service asks to wait before.
    pub(super) fn of(&self, sequence: u64) -> (Verdict, Option<Duration>) {
        let Some(results) = &self.0 else { return (Verdict::Done, None) };
        let Some(named) = results.get(&sequence) else {
            return (
                Verdict::Failed("the service did not name it among the results of its batch".into()),
                None,
            );
        };
        let after = named.after.map(|after| Duration::from_secs_f64(after.clamp(0.0, LONGEST_AFTER)));
        let reason = || named.reason.clone().unwrap_or_else(|| "the service gave no reason".to_owned());
        match named.outcome {
            Outcome::Done => (Verdict::Done, None),
            Outcome::Retry => (Verdict::Failed(reason()), after),
            Outcome::Reject => (Verdict::Rejected(reason()), None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_that_speaks_of_no_results_says_that_all_is_done() {
        for body in ["", "OK", "{}", "<html>", "null"] {
            assert_eq!(Results::read(body.as_bytes()).unwrap().of(1).0, Verdict::Done, "{body}");
        }
    }

    #[test]
    fn each_event_has_its_outcome_and_who_is_not_named_is_tried_again() {
        let results = Results::read(
            br#"{"results": [{"sequence": "1", "outcome": "done"},
                {"sequence": 2, "outcome": "retry", "after": 1.5, "reason": "later"},
                {"sequence": "3", "outcome": "reject", "reason": "no"}]}"#,
        )
        .unwrap();
        assert_eq!(results.of(1), (Verdict::Done, None));
        assert_eq!(results.of(2), (Verdict::Failed("later".into()), Some(Duration::from_millis(1500))));
        assert_eq!(results.of(3), (Verdict::Rejected("no".into()), None));
        assert!(matches!(results.of(4).0, Verdict::Failed(_)));
    }

    #[test]
    fn results_that_cannot_be_read_are_an_error() {
        assert!(Results::read(br#"{"results": [{"sequence": "1", "outcome": "maybe"}]}"#).is_err());
        assert!(Results::read(br#"{"results": 7}"#).is_err());
        for cut in [r#"{"results": ["#, r#"{"res"#, "{"] {
            assert!(Results::read(cut.as_bytes()).is_err(), "{cut}");
        }
    }
}
