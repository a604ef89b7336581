//! Events in JSON (CloudEvents JSON format 1.0.2): one object with attributes
//! and data, or, in batch content mode, an array of them.

use std::fmt;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use serde::de::{Deserialize, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::Draft;
use super::attribute::{DATA_CONTENT_TYPE, InvalidEvent};

/// The media type of one event in JSON.
pub const CONTENT_TYPE: &str = "application/cloudevents+json";

/// The media type of a batch of events in JSON.
pub const BATCH_CONTENT_TYPE: &str = "application/cloudevents-batch+json";

/// Whether a media type says that the body is itself one or more CloudEvents,
/// in whatever format.
pub fn is_cloud_event(content_type: &str) -> bool {
    let media_type = content_type.split(';').next().unwrap_or_default().trim();
    media_type.get(..23).is_some_and(|prefix| prefix.eq_ignore_ascii_case("application/cloudevents"))
}

/// Whether a media type is that of one event in JSON.
pub fn is_single_json(content_type: &str) -> bool {
    is_media_type(content_type, CONTENT_TYPE)
}

/// Whether a media type is that of a batch of events in JSON.
pub fn is_batch_json(content_type: &str) -> bool {
    is_media_type(content_type, BATCH_CONTENT_TYPE)
}

fn is_media_type(content_type: &str, wanted: &str) -> bool {
    content_type.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case(wanted)
}

/// Reads an event from its JSON. JSON data keeps its bytes as they are: it is
/// a slice of `body`, neither parsed nor copied.
///
/// # Errors
/// When the body is not such an object, or an attribute is not valid.
pub fn read(body: &Bytes) -> Result<Draft, InvalidEvent> {
    let members: Members<'_> =
        serde_json::from_slice(body).map_err(|error| InvalidEvent::Json(error.to_string()))?;
    let mut draft = Draft::default();
    let mut data = None;
    let mut binary = None;
    for (name, raw) in members.0 {
        match name.as_str() {
            "data" => set_once(&mut data, raw, "data")?,
            "data_base64" => set_once(&mut binary, raw, "data_base64")?,
            _ => {
                if let Some(value) = attribute_value(&name, raw)? {
                    draft.set(&name, value)?;
                }
            }
        }
    }
    match (data, binary) {
        (Some(_), Some(_)) => {
            return Err(InvalidEvent::Json("data and data_base64 exclude each other".to_owned()));
        }
        (Some(raw), None) => set_json_data(&mut draft, body, raw)?,
        (None, Some(raw)) => draft.set_data(decoded(raw)?),
        (None, None) => {}
    }
    Ok(draft)
}

/// Why something is not a batch of events. Each text says what to change.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidBatch {
    /// Not a JSON array of objects.
    #[error("the body is not a JSON array of CloudEvents: {0}")]
    Json(String),
    /// Too long.
    #[error("a batch may have {0} events: send several")]
    TooMany(usize),
    /// One of its events.
    #[error("event {index} of the batch (from 0): {error}")]
    Event {
        /// Which, from 0.
        index: usize,
        /// What is wrong with it.
        error: InvalidEvent,
    },
}

/// Reads a batch of at most `most` events from its JSON; their data are slices of `body`.
///
/// # Errors
/// When the body is not an array, has more, or one of its events is not valid.
pub fn read_batch(body: &Bytes, most: usize) -> Result<Vec<Draft>, InvalidBatch> {
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let elements = Elements(most).deserialize(&mut deserializer);
    let Some(elements) = elements.map_err(|error| InvalidBatch::Json(error.to_string()))? else {
        return Err(InvalidBatch::TooMany(most));
    };
    deserializer.end().map_err(|error| InvalidBatch::Json(error.to_string()))?;
    let events = elements.into_iter().enumerate().map(|(index, raw)| {
        read(&body.slice_ref(raw.get().as_bytes())).map_err(|error| InvalidBatch::Event { index, error })
    });
    events.collect()
}

/// The elements of an array, values untouched; nothing when there are more than so many.
struct Elements(usize);

impl<'de> DeserializeSeed<'de> for Elements {
    type Value = Option<Vec<&'de RawValue>>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Elements {
    type Value = Option<Vec<&'de RawValue>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<Self::Value, A::Error> {
        let mut elements = Vec::new();
        while let Some(element) = array.next_element()? {
            if elements.len() < self.0 {
                elements.push(element);
            } else {
                // The rest is only read to its end.
                while array.next_element::<IgnoredAny>()?.is_some() {}
                return Ok(None);
            }
        }
        Ok(Some(elements))
    }
}

fn set_once<'a>(place: &mut Option<&'a RawValue>, raw: &'a RawValue, name: &str) -> Result<(), InvalidEvent> {
    if place.replace(raw).is_some() { Err(InvalidEvent::Twice(name.to_owned())) } else { Ok(()) }
}

/// `data` is JSON unless `datacontenttype` says otherwise; then a JSON string
/// stands for its text (JSON format, section 3.1.1).
fn set_json_data(draft: &mut Draft, body: &Bytes, raw: &RawValue) -> Result<(), InvalidEvent> {
    let content_type =
        draft.attributes.iter().find(|(name, _)| name.as_str() == DATA_CONTENT_TYPE).map(|(_, value)| value);
    match content_type {
        Some(content_type) if !is_json(content_type) && raw.get().starts_with('"') => {
            let text: String =
                serde_json::from_str(raw.get()).map_err(|error| InvalidEvent::Json(error.to_string()))?;
            draft.set_data(Bytes::from(text));
        }
        Some(_) => draft.set_data(body.slice_ref(raw.get().as_bytes())),
        None => {
            draft.set_data(body.slice_ref(raw.get().as_bytes()));
            draft.set(DATA_CONTENT_TYPE, "application/json".to_owned())?;
        }
    }
    Ok(())
}

/// A media type whose subtype is `json` or ends with `+json`.
pub fn is_json(content_type: &str) -> bool {
    let media_type = content_type.split(';').next().unwrap_or_default().trim();
    media_type.rsplit('/').next().is_some_and(|subtype| {
        subtype.rsplit('+').next().is_some_and(|last| last.eq_ignore_ascii_case("json"))
    })
}

fn decoded(raw: &RawValue) -> Result<Bytes, InvalidEvent> {
    let text: String =
        serde_json::from_str(raw.get()).map_err(|error| InvalidEvent::Base64(error.to_string()))?;
    let data = BASE64_STANDARD.decode(text).map_err(|error| InvalidEvent::Base64(error.to_string()))?;
    Ok(Bytes::from(data))
}

/// The canonical text of an attribute's JSON value; `None` for null, which
/// means that it is absent.
fn attribute_value(name: &str, raw: &RawValue) -> Result<Option<String>, InvalidEvent> {
    let invalid = |rule| InvalidEvent::AttributeValue { name: name.chars().take(128).collect(), rule };
    match serde_json::from_str(raw.get()) {
        Ok(serde_json::Value::String(text)) => Ok(Some(text)),
        Ok(serde_json::Value::Bool(value)) => Ok(Some(value.to_string())),
        Ok(serde_json::Value::Number(number)) if number.is_i64() => Ok(Some(number.to_string())),
        Ok(serde_json::Value::Null) => Ok(None),
        Ok(_) => Err(invalid("it must be a string, a boolean or an integer")),
        Err(_) => Err(invalid("it is not JSON")),
    }
}

/// The members of the object in their order, values untouched.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;

        impl<'de> Visitor<'de> for Object {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::with_capacity(8);
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }

        deserializer.deserialize_map(Object)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Event;
    use crate::event::tests::Fixed;

    fn event(json: &'static str) -> Result<Event, InvalidEvent> {
        read(&Bytes::from_static(json.as_bytes()))?.complete(&Fixed)
    }

    #[test]
    fn json_data_keeps_its_bytes() {
        let event =
            event(r#"{"specversion":"1.0","type":"A","id":"1","source":"s","data": {"b" : 1.50, "a":[ ]} }"#)
                .unwrap();
        assert_eq!(&event.data()[..], br#"{"b" : 1.50, "a":[ ]}"#);
        assert_eq!(event.attribute("datacontenttype"), Some("application/json"));
    }

    #[test]
    fn a_string_of_another_media_type_is_its_text_and_a_json_string_stays_json() {
        assert_eq!(
            &event(r#"{"type":"A","datacontenttype":"text/xml","data":"<a/>"}"#).unwrap().data()[..],
            b"<a/>"
        );
        assert_eq!(&event(r#"{"type":"A","data":"<a/>"}"#).unwrap().data()[..], b"\"<a/>\"");
        let json = r#"{"type":"A","datacontenttype":"application/vnd.x+json; charset=utf-8","data":"x"}"#;
        assert_eq!(&event(json).unwrap().data()[..], b"\"x\"");
    }

    #[test]
    fn data_base64_is_decoded() {
        assert_eq!(&event(r#"{"type":"A","data_base64":"AAEC"}"#).unwrap().data()[..], [0, 1, 2]);
        assert!(matches!(event(r#"{"type":"A","data_base64":"%"}"#), Err(InvalidEvent::Base64(_))));
    }

    #[test]
    fn extensions_may_be_booleans_and_integers_and_null_is_absent() {
        let event = event(r#"{"type":"A","flag":true,"count":-3,"subject":null}"#).unwrap();
        assert_eq!(event.attribute("flag"), Some("true"));
        assert_eq!(event.attribute("count"), Some("-3"));
        assert_eq!(event.attribute("subject"), None);
    }

    #[test]
    fn what_is_not_an_event_is_refused_with_its_reason() {
        for json in [
            "",
            "[]",
            "{",
            r#"{"type":"A","data":1,"data_base64":"AA=="}"#,
            r#"{"type":"A","data":1,"data":2}"#,
            r#"{"type":"A","id":{}}"#,
            r#"{"type":"A","count":1.5}"#,
            r#"{"type":"A","UPPER":"x"}"#,
            r#"{"specversion":"0.3","type":"A"}"#,
            r#"{"data":1}"#,
        ] {
            assert!(event(json).is_err(), "{json}");
        }
    }

    #[test]
    fn a_batch_is_an_array_of_events_that_keep_their_bytes() {
        let body = Bytes::from_static(
            br#" [{"type":"A","data": {"b" : 1.50} }, {"type":"B","data_base64":"AAEC"}] "#,
        );
        let batch = read_batch(&body, 2).unwrap();
        let data: Vec<_> =
            batch.into_iter().map(|draft| draft.complete(&Fixed).unwrap().into_data()).collect();
        assert_eq!(data, [&br#"{"b" : 1.50}"#[..], &[0, 1, 2]]);
        assert_eq!(read_batch(&Bytes::from_static(b"[]"), 2).unwrap(), []);
    }

    #[test]
    fn what_is_not_a_batch_is_refused_with_its_reason() {
        let batch = |json: &'static str| read_batch(&Bytes::from_static(json.as_bytes()), 2).unwrap_err();
        for json in ["", "{}", "[", "[{}", "[] []", "[{},]"] {
            assert!(matches!(batch(json), InvalidBatch::Json(_)), "{json}");
        }
        assert_eq!(batch(r#"[1,2,3]"#), InvalidBatch::TooMany(2));
        assert!(matches!(batch(r#"[{"type":"A"},1]"#), InvalidBatch::Event { index: 1, .. }));
        assert!(matches!(batch(r#"[{"specversion":"0.3"}]"#), InvalidBatch::Event { index: 0, .. }));
    }

    #[test]
    fn media_types_of_cloud_events_are_recognised() {
        assert!(is_cloud_event("Application/CloudEvents+JSON; charset=utf-8"));
        assert!(is_cloud_event("application/cloudevents-batch+json"));
        assert!(!is_cloud_event("application/json"));
        assert!(is_single_json("application/cloudevents+json;charset=UTF-8"));
        assert!(!is_single_json("application/cloudevents-batch+json"));
        assert!(is_batch_json("application/cloudevents-batch+json; charset=utf-8"));
        assert!(!is_batch_json("application/cloudevents-batch+avro"));
    }
}
