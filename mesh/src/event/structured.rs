//! An event in structured content mode: one JSON object with attributes and
//! data (CloudEvents JSON format 1.0.2).

use std::fmt;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::Draft;
use super::attribute::{DATA_CONTENT_TYPE, InvalidEvent};

/// The media type of one event in JSON.
pub const CONTENT_TYPE: &str = "application/cloudevents+json";

/// Whether a media type says that the body is itself one or more CloudEvents,
/// in whatever format.
pub fn is_cloud_event(content_type: &str) -> bool {
    let media_type = content_type.split(';').next().unwrap_or_default().trim();
    media_type.get(..23).is_some_and(|prefix| prefix.eq_ignore_ascii_case("application/cloudevents"))
}

/// Whether a media type is that of one event in JSON.
pub fn is_single_json(content_type: &str) -> bool {
    content_type.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case(CONTENT_TYPE)
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
fn is_json(content_type: &str) -> bool {
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
    fn media_types_of_cloud_events_are_recognised() {
        assert!(is_cloud_event("Application/CloudEvents+JSON; charset=utf-8"));
        assert!(is_cloud_event("application/cloudevents-batch+json"));
        assert!(!is_cloud_event("application/json"));
        assert!(is_single_json("application/cloudevents+json;charset=UTF-8"));
        assert!(!is_single_json("application/cloudevents-batch+json"));
    }
}
