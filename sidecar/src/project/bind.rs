//! An event as the statements see it.

use async_nats::Message;
use murmur_mesh::event::{attribute, structured};
use murmur_mesh::name::EventType;
use murmur_projection::Event;

use crate::deliver::attributes;

/// Its attributes and, where it is JSON, its data.
pub(super) fn event(message: &Message) -> Event<'_> {
    let attributes: Vec<_> =
        attributes(message).map(|(name, value)| (name, attribute::decoded(value))).collect();
    let content_type = attributes.iter().find(|(name, _)| *name == "datacontenttype");
    let data = content_type
        .is_none_or(|(_, value)| structured::is_json(value))
        .then(|| serde_json::from_slice(&message.payload).ok())
        .flatten();
    Event { attributes, data }
}

/// Its type.
pub(super) fn event_type(event: &Event<'_>) -> Option<EventType> {
    event.attributes.iter().find(|(name, _)| *name == "type")?.1.parse().ok()
}
