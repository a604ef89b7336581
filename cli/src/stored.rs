//! A message as a stream holds it, and the event in it. Pure.

use anyhow::{Context, Result};
use bytes::Bytes;
use data_encoding::BASE64;
use murmur_mesh::event::attribute::{DATA_CONTENT_TYPE, InvalidEvent};
use murmur_mesh::{Event, wire};
use serde_json::{Map, Value, json};

/// A message of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Its place.
    pub sequence: u64,
    /// Its subject.
    pub subject: String,
    /// When it was stored, RFC 3339.
    pub time: String,
    /// Its headers.
    pub headers: Vec<(String, String)>,
    /// Its payload.
    pub data: Bytes,
}

impl Stored {
    /// Reads the member `message` of the API's answer.
    pub fn read(message: &Value) -> Result<Self> {
        let text = |field: &str| message[field].as_str().unwrap_or_default().to_owned();
        let bytes = |field: &str| {
            BASE64
                .decode(text(field).as_bytes())
                .with_context(|| format!("the message's {field} is not base64"))
        };
        Ok(Self {
            sequence: message["seq"].as_u64().context("the message has no sequence")?,
            subject: text("subject"),
            time: text("time"),
            headers: headers(&String::from_utf8_lossy(&bytes("hdrs")?)),
            data: bytes("data")?.into(),
        })
    }

    /// The event in it.
    pub fn event(&self) -> Result<Event, InvalidEvent> {
        let headers = self.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        wire::read(headers, self.data.clone())
    }

    /// The event in CloudEvents' JSON form; what is no event as its raw parts.
    pub fn event_json(&self) -> Value {
        let Ok(event) = self.event() else {
            let headers: Map<_, _> =
                self.headers.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
            return json!({"headers": headers, "data_base64": BASE64.encode(&self.data)});
        };
        let mut all = Map::new();
        for (name, value) in [
            ("specversion", "1.0"),
            ("id", event.id()),
            ("source", event.source()),
            ("type", event.event_type().as_str()),
        ] {
            all.insert(name.to_owned(), json!(value));
        }
        for (name, value) in event.attributes() {
            all.insert(name.as_str().to_owned(), json!(value));
        }
        let content_type = event.attribute(DATA_CONTENT_TYPE);
        let as_json = content_type
            .is_none_or(|kind| kind.contains("json"))
            .then(|| serde_json::from_slice::<Value>(event.data()).ok())
            .flatten();
        match (as_json, std::str::from_utf8(event.data())) {
            _ if event.data().is_empty() => None,
            (Some(data), _) => all.insert("data".to_owned(), data),
            (None, Ok(text)) => all.insert("data".to_owned(), json!(text)),
            (None, Err(_)) => all.insert("data_base64".to_owned(), json!(BASE64.encode(event.data()))),
        };
        Value::Object(all)
    }

    /// The data on one line, at most so many characters.
    pub fn summary(&self, longest: usize) -> String {
        let text = String::from_utf8_lossy(&self.data);
        let mut line: String =
            text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(longest).collect();
        if text.chars().count() > longest {
            line.push('…');
        }
        line
    }
}

/// The lines of a header block of NATS.
fn headers(block: &str) -> Vec<(String, String)> {
    block
        .split("\r\n")
        .skip(1)
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(content_type: &str, data: &[u8]) -> Stored {
        let block = format!(
            "NATS/1.0\r\nce-id: 1\r\nce-source: /a\r\nce-type: T\r\nce-datacontenttype: {content_type}\r\n\r\n"
        );
        let message = json!({"seq": 7, "subject": "events.a.1.T", "time": "2026-11-21T09:00:00Z",
            "hdrs": BASE64.encode(block.as_bytes()), "data": BASE64.encode(data)});
        Stored::read(&message).unwrap()
    }

    #[test]
    fn a_message_is_read_with_its_headers_and_shown_as_a_cloud_event() {
        let event = stored("application/json", br#"{"a":1}"#).event_json();
        assert_eq!(event["type"], "T");
        assert_eq!(event["data"], json!({"a": 1}));
        assert_eq!(stored("text/plain", b"hello").event_json()["data"], "hello");
        assert_eq!(stored("image/png", &[0xff, 0]).event_json()["data_base64"], "/wA=");
    }

    #[test]
    fn what_is_no_event_is_shown_as_it_is() {
        let message = json!({"seq": 1, "subject": "x", "data": "aGk="});
        assert_eq!(Stored::read(&message).unwrap().event_json()["data_base64"], "aGk=");
    }
}
