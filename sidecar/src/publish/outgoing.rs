//! An event on its way to the store.

use std::borrow::Cow;

use async_nats::HeaderMap;
use bytes::Bytes;
use http::HeaderValue;
use murmur_mesh::event::Event;
use murmur_mesh::message_id::MessageIdKey;
use murmur_mesh::name::ServiceName;
use murmur_mesh::wire::{self, MESSAGE_ID_HEADER, OUTBOX_POSITION};

use super::Admitted;
use crate::bus::headers::headers;

/// W3C Trace Context, kept beside the event: <https://www.w3.org/TR/trace-context/>.
pub(crate) const TRACE_HEADERS: [&str; 2] = ["traceparent", "tracestate"];
/// What a message weighs beside its data: headers, subject, places in queues.
pub(crate) const OVERHEAD: usize = 1 << 10;

/// An event, and all that its message on the bus is made of.
#[derive(Debug)]
pub(crate) struct Outgoing {
    event: Event,
    subject: String,
    message_id: String,
    /// The values of [`TRACE_HEADERS`].
    trace: [Option<HeaderValue>; 2],
    /// Where it stood in the outbox, if it comes from there.
    outbox_position: Option<i64>,
    /// Its share of what may be in flight, given back when nobody needs it any more.
    _room: Option<Admitted>,
}

impl Outgoing {
    /// The event as `service` publishes it, with the trace of the request that brought it.
    pub(crate) fn new(
        event: Event,
        service: &ServiceName,
        key: &MessageIdKey,
        request: &http::HeaderMap,
        room: Option<Admitted>,
    ) -> Self {
        let subject = event.subject(service);
        let message_id = key.message_id(service, event.source(), event.id());
        let trace = TRACE_HEADERS.map(|name| request.get(name).cloned());
        Self { event, subject, message_id, trace, outbox_position: None, _room: room }
    }

    /// The same, out of this place of the outbox.
    pub(crate) fn with_outbox_position(self, position: i64) -> Self {
        Self { outbox_position: Some(position), ..self }
    }

    /// The event.
    pub(crate) fn event(&self) -> &Event {
        &self.event
    }

    /// By what the broker recognises a repetition.
    pub(crate) fn message_id(&self) -> &str {
        &self.message_id
    }

    /// Where it is stored.
    pub(crate) fn subject(&self) -> &str {
        &self.subject
    }

    /// The headers of its message, made anew each time that it is sent.
    pub(crate) fn headers(&self) -> HeaderMap {
        let trace = TRACE_HEADERS.into_iter().zip(&self.trace).filter_map(|(name, value)| {
            Some((Cow::Borrowed(name), Cow::Borrowed(value.as_ref()?.to_str().ok()?)))
        });
        let position = self.outbox_position.map(|position| position.to_string().into());
        let position = position.map(|position| (Cow::Borrowed(OUTBOX_POSITION), position));
        let others = wire::headers(&self.event).chain(trace).chain(position);
        headers((MESSAGE_ID_HEADER, &self.message_id), others)
    }

    /// Its data.
    pub(crate) fn payload(&self) -> &Bytes {
        self.event.data()
    }

    /// About how many bytes its message has.
    pub(crate) fn weight(&self) -> usize {
        self.payload().len() + OVERHEAD
    }
}
