//! A row of the outbox, and the event that it stands for. Pure.

use bytes::Bytes;
use data_encoding::BASE64;
use murmur_mesh::event::{Draft, Event, InvalidEvent};
use serde_json::{Map, Value};

/// A row as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row {
    /// Its place: rows are published in this order.
    pub(super) position: i64,
    /// How many bytes its columns have.
    pub(super) size: usize,
    /// What is in them; an error says why they could not be read.
    pub(super) columns: Result<Columns, Unreadable>,
}

/// Why a row's columns were not read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Unreadable {
    /// They are larger than an event may be, so they were left where they are.
    TooLarge,
    /// This one holds bytes where text belongs.
    NotText(&'static str),
}

/// The columns of a row. What may be NULL is an option.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Columns {
    pub(super) id: String,
    pub(super) event_type: String,
    pub(super) source: Option<String>,
    pub(super) subject: Option<String>,
    pub(super) partition_key: Option<String>,
    pub(super) data: Option<Bytes>,
    pub(super) data_base64: Option<String>,
    pub(super) data_content_type: Option<String>,
    pub(super) time: Option<String>,
    pub(super) extensions: Option<String>,
    pub(super) trace_parent: Option<String>,
}

/// Why a row is no event. Each text says what to change.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum NoEvent {
    /// It is too large.
    #[error(
        "the row has {size} bytes and may have {largest}: keep large data elsewhere and send a link to it"
    )]
    TooLarge { size: usize, largest: usize },
    /// A column of the wrong kind.
    #[error("the column {0} holds bytes where text belongs")]
    NotText(&'static str),
    /// Two kinds of data.
    #[error("data and data_base64 exclude each other: one of them must be NULL")]
    TwoData,
    /// `data_base64` is not base64.
    #[error("data_base64 is not base64: {0}")]
    Base64(data_encoding::DecodeError),
    /// `extensions` is not an object.
    #[error("extensions must be NULL or a JSON object of texts, numbers and booleans: {0}")]
    Extensions(String),
    /// An attribute breaks a rule of CloudEvents.
    #[error(transparent)]
    Event(#[from] InvalidEvent),
}

impl Row {
    /// The event, with this source if it names none; `largest`: how many bytes it may have.
    pub(super) fn event(&self, source: &str, largest: usize) -> Result<Event, NoEvent> {
        let too_large = NoEvent::TooLarge { size: self.size, largest };
        match &self.columns {
            Err(Unreadable::TooLarge) => Err(too_large),
            Err(Unreadable::NotText(column)) => Err(NoEvent::NotText(column)),
            Ok(_) if self.size > largest => Err(too_large),
            Ok(columns) => columns.event(source),
        }
    }
}

impl Columns {
    fn event(&self, source: &str) -> Result<Event, NoEvent> {
        let mut draft = Draft::default();
        let data = self.data()?;
        draft.set("id", self.id.clone())?;
        draft.set("type", self.event_type.clone())?;
        draft.set("source", self.source.clone().unwrap_or_else(|| source.to_owned()))?;
        let content_type = self.data_content_type.as_ref().filter(|_| data.is_some());
        for (name, value) in [
            ("time", self.time.as_ref()),
            ("subject", self.subject.as_ref()),
            ("datacontenttype", content_type),
            ("partitionkey", self.partition_key.as_ref()),
        ] {
            if let Some(value) = value {
                draft.set(name, value.clone())?;
            }
        }
        for (name, value) in self.extensions()? {
            let value = match value {
                Value::String(text) => text,
                Value::Number(number) => number.to_string(),
                Value::Bool(flag) => flag.to_string(),
                Value::Null => continue,
                Value::Array(_) | Value::Object(_) => {
                    return Err(NoEvent::Extensions(format!("{name} is none of these")));
                }
            };
            draft.set(&name, value)?;
        }
        draft.set_data(data.unwrap_or_default());
        Ok(draft.complete_as_is()?)
    }

    fn data(&self) -> Result<Option<Bytes>, NoEvent> {
        match (&self.data, &self.data_base64) {
            (Some(_), Some(_)) => Err(NoEvent::TwoData),
            (data, None) => Ok(data.clone()),
            (None, Some(text)) => {
                BASE64.decode(text.as_bytes()).map(|bytes| Some(bytes.into())).map_err(NoEvent::Base64)
            }
        }
    }

    fn extensions(&self) -> Result<Map<String, Value>, NoEvent> {
        let Some(text) = &self.extensions else { return Ok(Map::new()) };
        serde_json::from_str(text).map_err(|error| NoEvent::Extensions(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn columns() -> Columns {
        Columns { id: "1".into(), event_type: "OrderPlaced".into(), ..Columns::default() }
    }

    fn row(columns: Columns) -> Row {
        Row { position: 1, size: 100, columns: Ok(columns) }
    }

    fn event(columns: Columns) -> Result<Event, NoEvent> {
        row(columns).event("/shop/orders", 1000)
    }

    #[test]
    fn a_row_becomes_an_event_with_the_services_own_source() {
        let event = event(Columns {
            subject: Some("order 7".into()),
            partition_key: Some("7".into()),
            data: Some(Bytes::from_static(b"{\"id\": 7}")),
            data_content_type: Some("application/json".into()),
            time: Some("2026-11-21T09:00:00.5Z".into()),
            extensions: Some(r#"{"tenant":"a","attempt":3,"test":true,"none":null}"#.into()),
            ..columns()
        })
        .unwrap();
        assert_eq!((event.id(), event.source(), event.key()), ("1", "/shop/orders", "7"));
        assert_eq!(event.data(), &Bytes::from_static(b"{\"id\": 7}"));
        let attributes: Vec<_> =
            event.attributes().iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(
            attributes,
            [
                ("time", "2026-11-21T09:00:00.5Z"),
                ("subject", "order 7"),
                ("datacontenttype", "application/json"),
                ("partitionkey", "7"),
                ("attempt", "3"),
                ("tenant", "a"),
                ("test", "true"),
            ]
        );
    }

    #[test]
    fn a_row_without_data_has_no_content_type_and_binary_data_is_decoded() {
        let none = event(Columns { data_content_type: Some("application/json".into()), ..columns() });
        assert_eq!(none.unwrap().attribute("datacontenttype"), None);
        let binary = event(Columns { data_base64: Some("AP8=".into()), ..columns() });
        assert_eq!(binary.unwrap().data(), &Bytes::from_static(&[0, 255]));
    }

    #[test]
    fn a_row_that_is_no_event_says_what_to_change() {
        for (wrong, cause) in [
            (Columns { id: String::new(), ..columns() }, "id"),
            (Columns { event_type: "a..b".into(), ..columns() }, "event type"),
            (Columns { time: Some("yesterday".into()), ..columns() }, "time"),
            (Columns { extensions: Some("[]".into()), ..columns() }, "extensions"),
            (Columns { extensions: Some(r#"{"a":{}}"#.into()), ..columns() }, "extensions"),
            (Columns { extensions: Some(r#"{"A-b":"c"}"#.into()), ..columns() }, "A-b"),
            (Columns { extensions: Some(r#"{"id":"2"}"#.into()), ..columns() }, "more than once"),
            (Columns { data_base64: Some("!".into()), ..columns() }, "data_base64"),
            (Columns { data: Some(Bytes::new()), data_base64: Some(String::new()), ..columns() }, "exclude"),
        ] {
            let error = event(wrong).unwrap_err().to_string();
            assert!(error.contains(cause), "{error}");
        }
        let large = Row { size: 1001, ..row(columns()) };
        assert!(large.event("s", 1000).unwrap_err().to_string().contains("1001 bytes"));
    }
}
