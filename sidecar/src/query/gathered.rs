//! The answers to a query, put together. Pure.

use data_encoding::BASE64;
use murmur_mesh::event::structured;
use serde::Serialize;
use serde_json::value::RawValue;

use super::part::{Outcome, Part, Spoken};

/// What the asking service gets.
#[derive(Debug, Serialize)]
pub(super) struct Gathered<'a> {
    complete: bool,
    results: Vec<Entry<'a>>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Entry<'a> {
    service: &'a str,
    outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content_type: Option<&'a str>,
    /// JSON, as the service wrote it.
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a RawValue>,
    /// Anything else.
    #[serde(skip_serializing_if = "Option::is_none")]
    data_base64: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<&'a str>,
}

impl<'a> Gathered<'a> {
    /// Of these parts.
    pub(super) fn of(parts: &'a [Part]) -> Self {
        Self {
            complete: parts.iter().all(|part| part.outcome.is_answered()),
            results: parts.iter().map(entry).collect(),
        }
    }
}

fn entry(part: &Part) -> Entry<'_> {
    let mut entry = Entry {
        service: part.service.as_str(),
        outcome: name(&part.outcome),
        status: None,
        content_type: None,
        data: None,
        data_base64: None,
        detail: None,
    };
    match &part.outcome {
        Outcome::Spoke(spoken) => {
            entry.status = Some(spoken.status);
            entry.content_type = spoken.content_type.as_deref();
            entry.data = json(spoken);
            if entry.data.is_none() && !spoken.data.is_empty() {
                entry.data_base64 = Some(BASE64.encode(&spoken.data));
            }
        }
        Outcome::Failed(detail) => entry.detail = Some(detail),
        Outcome::Absent | Outcome::TimedOut | Outcome::NotAwaited => {}
    }
    entry
}

/// An outcome as the asking service reads it.
pub(super) fn name(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Spoke(spoken) if spoken.is_success() => "answered",
        Outcome::Spoke(_) | Outcome::Failed(_) => "failed",
        Outcome::Absent => "absent",
        Outcome::TimedOut => "timedOut",
        Outcome::NotAwaited => "notAwaited",
    }
}

/// The data, if it says that it is JSON and is.
fn json(spoken: &Spoken) -> Option<&RawValue> {
    structured::is_json(spoken.content_type.as_deref()?)
        .then(|| serde_json::from_slice(&spoken.data).ok())
        .flatten()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use serde_json::{Value, json};

    use super::*;

    fn spoke(service: &str, status: u16, content_type: &str, data: &'static [u8]) -> Part {
        let content_type = Some(content_type.to_owned()).filter(|text| !text.is_empty());
        let spoken = Spoken { status, content_type, data: Bytes::from_static(data) };
        Part { service: service.parse().unwrap(), outcome: Outcome::Spoke(spoken) }
    }

    fn gathered(parts: &[Part]) -> Value {
        serde_json::to_value(Gathered::of(parts)).unwrap()
    }

    #[test]
    fn json_is_passed_on_as_it_is_and_anything_else_in_base64() {
        let parts = [
            spoke("a", 200, "application/json; charset=utf-8", b"{\"n\": 1.0}"),
            spoke("b", 404, "application/problem+json", b"{}"),
            spoke("c", 200, "text/plain", b"hi"),
            spoke("d", 200, "application/json", b"{broken"),
            spoke("e", 204, "", b""),
        ];
        assert_eq!(
            gathered(&parts),
            json!({"complete": false, "results": [
                {"service": "a", "outcome": "answered", "status": 200,
                    "contentType": "application/json; charset=utf-8", "data": {"n": 1.0}},
                {"service": "b", "outcome": "failed", "status": 404,
                    "contentType": "application/problem+json", "data": {}},
                {"service": "c", "outcome": "answered", "status": 200, "contentType": "text/plain", "dataBase64": "aGk="},
                {"service": "d", "outcome": "answered", "status": 200,
                    "contentType": "application/json", "dataBase64": "e2Jyb2tlbg=="},
                {"service": "e", "outcome": "answered", "status": 204},
            ]})
        );
        let text = serde_json::to_string(&Gathered::of(&parts[..1])).unwrap();
        assert!(text.contains(r#""data":{"n": 1.0}"#), "byte for byte: {text}");
        assert!(text.contains(r#""complete":true"#));
    }

    #[test]
    fn who_did_not_answer_is_named_with_the_reason() {
        let part = |outcome| Part { service: "a".parse().unwrap(), outcome };
        let parts = [
            part(Outcome::Failed("why".to_owned())),
            part(Outcome::Absent),
            part(Outcome::TimedOut),
            part(Outcome::NotAwaited),
        ];
        let outcomes: Vec<_> = gathered(&parts)["results"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| one["outcome"].clone())
            .collect();
        assert_eq!(outcomes, ["failed", "absent", "timedOut", "notAwaited"]);
        assert_eq!(gathered(&parts)["results"][0]["detail"], "why");
    }
}
