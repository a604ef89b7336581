//! What an event holds at the place that a placeholder names.

use std::borrow::Cow;

use serde_json::Number;

/// An event, as placeholders see it.
#[derive(Debug)]
pub struct Event<'a> {
    /// Its CloudEvents attributes, by name.
    pub attributes: Vec<(&'a str, Cow<'a, str>)>,
    /// Its data, where that is JSON.
    pub data: Option<serde_json::Value>,
}

/// A value that is bound.
#[derive(Debug, Clone, PartialEq)]
pub enum Value<'a> {
    /// NULL.
    Null,
    /// true or false.
    Boolean(bool),
    /// A number.
    Number(&'a Number),
    /// A text.
    Text(&'a str),
    /// A list or an object.
    Json(&'a serde_json::Value),
}

/// The event has no such value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the event has no {0}; write :{0}? if it may be absent")]
pub struct Missing(pub String);

/// Where a value stands in an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameter {
    /// As it is written, without the colon and the question mark.
    text: String,
    place: Place,
    optional: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    Attribute(String),
    Data(Vec<String>),
}

impl Parameter {
    /// Reads a placeholder.
    ///
    /// # Errors
    /// When it names neither the data nor an attribute.
    pub(crate) fn parse(placeholder: &str) -> Result<Self, String> {
        let text = placeholder.trim_start_matches(':');
        let (text, optional) = text.strip_suffix('?').map_or((text, false), |text| (text, true));
        let mut segments = segments(text);
        let first = segments.remove(0);
        let place = match first.as_str() {
            "data" => Place::Data(segments),
            _ if !segments.is_empty() => {
                return Err(format!(
                    "{placeholder} is no value of an event: only data has members, as in :data.{}",
                    segments[0]
                ));
            }
            name if name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit()) => {
                Place::Attribute(first)
            }
            _ => {
                return Err(format!(
                    "{placeholder} is no attribute of an event: names of attributes have lower-case letters and digits"
                ));
            }
        };
        Ok(Self { text: text.to_owned(), place, optional })
    }

    /// Its value in an event.
    ///
    /// # Errors
    /// When the event has none, and must.
    pub fn of<'a>(&self, event: &'a Event<'_>) -> Result<Value<'a>, Missing> {
        let found = match &self.place {
            Place::Attribute(name) => {
                let mut attributes = event.attributes.iter();
                attributes.find(|(other, _)| other == name).map(|(_, value)| Value::Text(value))
            }
            Place::Data(path) => event.data.as_ref().and_then(|data| member(data, path)).map(Value::of),
        };
        match found {
            Some(value) => Ok(value),
            None if self.optional => Ok(Value::Null),
            None => Err(Missing(self.text.clone())),
        }
    }
}

fn segments(text: &str) -> Vec<String> {
    let mut all = Vec::new();
    let mut rest = text;
    loop {
        let quoted = rest.strip_prefix('"').and_then(|inner| {
            let end = inner.find("\".").or(inner.len().checked_sub(1))?;
            Some((&inner[..end], inner[end..].strip_prefix("\".")))
        });
        let (segment, behind) = quoted.unwrap_or_else(|| match rest.split_once('.') {
            Some((segment, behind)) => (segment, Some(behind)),
            None => (rest, None),
        });
        all.push(segment.replace("\"\"", "\""));
        match behind {
            Some(behind) => rest = behind,
            None => return all,
        }
    }
}

fn member<'a>(data: &'a serde_json::Value, path: &[String]) -> Option<&'a serde_json::Value> {
    path.iter().try_fold(data, |value, segment| match value {
        serde_json::Value::Object(members) => members.get(segment),
        serde_json::Value::Array(items) => items.get(segment.parse::<usize>().ok()?),
        _ => None,
    })
}

impl<'a> Value<'a> {
    fn of(value: &'a serde_json::Value) -> Self {
        match value {
            serde_json::Value::Null => Self::Null,
            serde_json::Value::Bool(value) => Self::Boolean(*value),
            serde_json::Value::Number(number) => Self::Number(number),
            serde_json::Value::String(text) => Self::Text(text),
            json => Self::Json(json),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn event() -> Event<'static> {
        Event {
            attributes: vec![("id", "7".into()), ("source", "/shop".into())],
            data: Some(json!({"id": 5, "a b": true, "nothing": null, "list": [1, {"x": "y"}], "": 1})),
        }
    }

    #[test]
    fn a_placeholder_names_an_attribute_or_a_place_in_the_data() {
        let event = event();
        let of = |placeholder: &str| Parameter::parse(placeholder).unwrap().of(&event).unwrap();
        assert_eq!(of(":id"), Value::Text("7"));
        assert_eq!(of(":data.id"), Value::Number(&5.into()));
        assert_eq!(of(":data.\"a b\""), Value::Boolean(true));
        assert_eq!(of(":data.list.1.x"), Value::Text("y"));
        assert_eq!(of(":data.list.1"), Value::Json(&json!({"x": "y"})));
        assert_eq!(of(":data"), Value::Json(event.data.as_ref().unwrap()));
    }

    #[test]
    fn null_is_a_value_and_what_is_absent_is_none_unless_it_may_be() {
        let event = event();
        let of = |placeholder: &str| Parameter::parse(placeholder).unwrap().of(&event);
        assert_eq!(of(":data.nothing"), Ok(Value::Null));
        for absent in [":data.x", ":data.id.x", ":data.list.7", ":subject"] {
            assert_eq!(of(absent), Err(Missing(absent[1..].to_owned())), "{absent}");
            assert_eq!(of(&format!("{absent}?")), Ok(Value::Null), "{absent}");
        }
        let bytes = Event { attributes: vec![], data: None };
        assert!(Parameter::parse(":data").unwrap().of(&bytes).is_err());
    }

    #[test]
    fn what_can_be_no_value_is_refused() {
        for wrong in [":source.x", ":dataId", ":event.data.id"] {
            assert!(Parameter::parse(wrong).is_err(), "{wrong}");
        }
    }
}
