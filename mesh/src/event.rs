//! Events: CloudEvents 1.0, whatever form they come in.
//!
//! [`http_binary`] and [`structured`] read the two forms in which a service may
//! post an event into a [`Draft`]; [`Draft::complete`] fills in what is absent
//! and gives the [`Event`]. Its form on the bus is [`crate::wire`].

pub mod attribute;
pub mod http_binary;
pub mod structured;

use bytes::Bytes;

use crate::name::{EventType, ServiceName};
use crate::partition::Partition;
use crate::subject;

pub use attribute::{AttributeName, InvalidEvent};

/// A complete, valid CloudEvent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    id: String,
    source: String,
    event_type: EventType,
    attributes: Vec<(AttributeName, String)>,
    data: Bytes,
}

impl Event {
    /// `id`: with `source`, what makes the event one and the same.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// `source`: where it happened.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// `type`: what happened.
    pub fn event_type(&self) -> &EventType {
        &self.event_type
    }

    /// All attributes but `id`, `source`, `type` and `specversion`, in the
    /// order in which they came: optional ones and extensions.
    pub fn attributes(&self) -> &[(AttributeName, String)] {
        &self.attributes
    }

    /// An optional or extension attribute.
    pub fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find(|(found, _)| found.as_str() == name).map(|(_, value)| value.as_str())
    }

    /// The data, byte for byte; empty when there is none.
    pub fn data(&self) -> &Bytes {
        &self.data
    }

    /// What its order and its partition hang on: `partitionkey`, else `id`.
    pub fn key(&self) -> &str {
        self.attribute(attribute::PARTITION_KEY).unwrap_or(&self.id)
    }

    /// Where it is stored when `service` publishes it.
    pub fn subject(&self, service: &ServiceName) -> String {
        subject::event(service, Partition::of(self.key()), &self.event_type)
    }

    /// Takes it apart: what goes to the bus needs no copy of the data.
    pub fn into_data(self) -> Bytes {
        self.data
    }
}

/// An event as it came in: what may be absent may still be absent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Draft {
    id: Option<String>,
    source: Option<String>,
    event_type: Option<EventType>,
    attributes: Vec<(AttributeName, String)>,
    data: Bytes,
}

/// What is filled in where an event has none; each is asked for only then.
pub trait Defaults {
    /// A new, unique id.
    fn id(&self) -> String;
    /// The service's own source.
    fn source(&self) -> String;
    /// Now, in RFC 3339.
    fn time(&self) -> String;
}

impl Draft {
    /// Sets one attribute, after checking its name and its value.
    ///
    /// # Errors
    /// When the name or the value breaks a rule of CloudEvents 1.0, or the
    /// attribute was set before.
    pub fn set(&mut self, name: &str, value: String) -> Result<(), InvalidEvent> {
        attribute::check_value(name, &value)?;
        let twice = match name {
            "specversion" if value == "1.0" => false,
            "specversion" => return Err(InvalidEvent::SpecVersion(value)),
            "id" => self.id.replace(value).is_some(),
            "source" => self.source.replace(value).is_some(),
            "type" => self.event_type.replace(value.try_into()?).is_some(),
            _ => {
                let name: AttributeName = name.parse()?;
                let twice = self.attributes.iter().any(|(found, _)| *found == name);
                self.attributes.push((name, value));
                twice
            }
        };
        if twice { Err(InvalidEvent::Twice(name.to_owned())) } else { Ok(()) }
    }

    /// Sets the data.
    pub fn set_data(&mut self, data: Bytes) {
        self.data = data;
    }

    /// The type, when it is known already.
    pub fn event_type(&self) -> Option<&EventType> {
        self.event_type.as_ref()
    }

    /// Takes the type from the request's path, which must not contradict the event's own.
    ///
    /// # Errors
    /// When the event names another type.
    pub fn set_type_from_path(&mut self, event_type: EventType) -> Result<(), InvalidEvent> {
        match &self.event_type {
            Some(own) if *own != event_type => {
                Err(InvalidEvent::TypeContradicts { event: own.to_string(), path: event_type.to_string() })
            }
            _ => {
                self.event_type = Some(event_type);
                Ok(())
            }
        }
    }

    /// Gives the event without filling anything in.
    ///
    /// # Errors
    /// When `id`, `source` or `type` is missing.
    pub fn complete_as_is(self) -> Result<Event, InvalidEvent> {
        let Self { id, source, event_type, attributes, data } = self;
        Ok(Event {
            id: id.ok_or(InvalidEvent::Missing("id"))?,
            source: source.ok_or(InvalidEvent::Missing("source"))?,
            event_type: event_type.ok_or(InvalidEvent::NoType)?,
            attributes,
            data,
        })
    }

    /// Fills in what may be absent and gives the event.
    ///
    /// # Errors
    /// When there is no type.
    pub fn complete(self, defaults: &impl Defaults) -> Result<Event, InvalidEvent> {
        let Self { id, source, event_type, mut attributes, data } = self;
        let event_type = event_type.ok_or(InvalidEvent::NoType)?;
        if !attributes.iter().any(|(name, _)| name.as_str() == attribute::TIME) {
            attributes.push((AttributeName::time(), defaults.time()));
        }
        Ok(Event {
            id: id.unwrap_or_else(|| defaults.id()),
            source: source.unwrap_or_else(|| defaults.source()),
            event_type,
            attributes,
            data,
        })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) struct Fixed;

    impl Defaults for Fixed {
        fn id(&self) -> String {
            "new-id".into()
        }
        fn source(&self) -> String {
            "/shop/users".into()
        }
        fn time(&self) -> String {
            "2026-11-21T09:00:00Z".into()
        }
    }

    #[test]
    fn what_is_absent_is_filled_in_and_what_is_there_is_kept() {
        let mut draft = Draft::default();
        draft.set("type", "UserCreated".into()).unwrap();
        let event = draft.clone().complete(&Fixed).unwrap();
        assert_eq!((event.id(), event.source()), ("new-id", "/shop/users"));
        assert_eq!(event.attribute("time"), Some("2026-11-21T09:00:00Z"));

        draft.set("id", "1".into()).unwrap();
        draft.set("source", "mine".into()).unwrap();
        draft.set("time", "2020-01-01T00:00:00+01:00".into()).unwrap();
        let event = draft.complete(&Fixed).unwrap();
        assert_eq!((event.id(), event.source()), ("1", "mine"));
        assert_eq!(event.attribute("time"), Some("2020-01-01T00:00:00+01:00"));
    }

    #[test]
    fn the_partition_key_goes_before_the_id() {
        let mut draft = Draft::default();
        draft.set("type", "T".into()).unwrap();
        draft.set("id", "1".into()).unwrap();
        let users = "users".parse().unwrap();
        assert_eq!(draft.clone().complete(&Fixed).unwrap().subject(&users), "events.users.24.T");
        draft.set("partitionkey", "user-1".into()).unwrap();
        assert_eq!(draft.complete(&Fixed).unwrap().subject(&users), "events.users.9.T");
    }

    #[test]
    fn an_event_without_a_type_is_refused() {
        assert_eq!(Draft::default().complete(&Fixed).unwrap_err(), InvalidEvent::NoType);
    }

    #[test]
    fn a_type_that_contradicts_the_path_is_refused() {
        let mut draft = Draft::default();
        draft.set("type", "A".into()).unwrap();
        assert!(draft.set_type_from_path("A".parse().unwrap()).is_ok());
        assert!(draft.set_type_from_path("B".parse().unwrap()).is_err());
    }

    #[test]
    fn an_attribute_that_comes_twice_is_refused() {
        for name in ["id", "subject", "myextension"] {
            let mut draft = Draft::default();
            draft.set(name, "1".into()).unwrap();
            assert_eq!(draft.set(name, "2".into()).unwrap_err(), InvalidEvent::Twice(name.into()));
        }
    }
}
