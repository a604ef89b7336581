//! `POST /v1/events` and `POST /v1/events/{type}`: publish an event, or a batch of them.

mod batch;
mod failure;

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use http::request::Parts;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use murmur_mesh::event::{Defaults, Draft, Event, InvalidEvent, http_binary, structured};
use murmur_mesh::name::EventType;
use percent_encoding::percent_decode_str;
use serde::Serialize;
use tokio::time::Instant;
use uuid::Builder;

use self::failure::Failure;
use super::Response;
use super::body::{self, BodyError};
use super::local::Local;
use super::problem::{Code, Problem};
use crate::metrics::Published;
use crate::publish::{Admitted, Outgoing, Stored};
use crate::trace::{self, Context, Kind, Span};

/// `ce-id`: the id of the event that an answer is about.
pub(super) const ID_HEADER: HeaderName = HeaderName::from_static("ce-id");
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// What is filled in: a sortable unique id, the service as the source, now.
pub(super) struct Filled<'a>(pub(super) &'a str);

impl Defaults for Filled<'_> {
    fn id(&self) -> String {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let millis = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
        // Random numbers of this thread's own generator: no call of the system for each event.
        Builder::from_unix_timestamp_millis(millis, &rand::random()).into_uuid().to_string()
    }
    fn source(&self) -> String {
        self.0.to_owned()
    }
    fn time(&self) -> String {
        jiff::Timestamp::now().to_string()
    }
}

/// What is said of an event that is stored.
#[derive(Serialize)]
struct Answer<'a> {
    id: &'a str,
    sequence: u64,
    duplicate: bool,
}

impl<'a> Answer<'a> {
    fn new(outgoing: &'a Outgoing, stored: Stored) -> Self {
        Self { id: outgoing.event().id(), sequence: stored.sequence, duplicate: stored.duplicate }
    }
}

impl Local {
    /// Publishes what is in the request; `path_type` is the path's own type, still encoded.
    pub(super) async fn publish(&self, request: Request<Incoming>, path_type: Option<String>) -> Response {
        let (parts, incoming) = request.into_parts();
        if path_type.is_none() && structured::is_batch_json(content_type(&parts.headers)) {
            return Box::pin(self.publish_batch(&parts, incoming)).await;
        }
        match self.publish_one(parts, incoming, path_type).await {
            Ok((outgoing, stored)) => {
                self.count_stored(stored);
                success(&outgoing, stored)
            }
            Err(failure) => self.count_failure(failure),
        }
    }

    async fn publish_one(
        &self,
        mut parts: Parts,
        incoming: Incoming,
        path_type: Option<String>,
    ) -> Result<(Arc<Outgoing>, Stored), Failure> {
        let (body, room) = self.take_in(&parts, incoming, self.largest_body()).await?;
        let event = draft(&parts, body, path_type)?.complete(&Filled(&self.source))?;
        self.door.borrow().check(&event)?;
        let mut span = self.publish_span(&event, &mut parts.headers);
        let key = &self.message_id_key;
        let outgoing = Arc::new(Outgoing::new(event, &self.service, key, &parts.headers, Some(room)));
        let started = Instant::now();
        let result = self.publisher.publish(&outgoing).await;
        self.metrics.publishes.seconds.observe(started.elapsed().as_secs_f64());
        match result {
            Ok(stored) => Ok((outgoing, stored)),
            Err(error) => {
                span.fails(&error);
                Err(Failure::of_one(&error, outgoing.event()))
            }
        }
    }

    /// The span of a publish, within the trace of the request or else of the
    /// event itself (CloudEvents' Distributed Tracing extension); it goes with the event.
    fn publish_span(&self, event: &Event, headers: &mut HeaderMap) -> Span {
        let parent = Context::extract(headers);
        let parent = parent.or_else(|| Context::parse(event.attribute(trace::PARENT)?));
        let name = || format!("publish {}", event.event_type());
        let mut span = self.tracer.start(parent, Kind::Producer, name);
        span.note("messaging.system", "murmur");
        span.note("messaging.message.id", event.id());
        self.tracer.keep(&span, parent, headers);
        span
    }

    /// Takes the body in, and room for it.
    async fn take_in(
        &self,
        parts: &Parts,
        incoming: Incoming,
        largest: usize,
    ) -> Result<(Bytes, Admitted), Failure> {
        let announced = body::announced(&incoming);
        if announced > largest {
            return Err(Failure::too_large(largest));
        }
        let too_much = || Failure::too_much(&parts.headers);
        let mut room = self.in_flight.admit(announced).ok_or_else(too_much)?;
        let timeout = self.limits.body_timeout;
        match body::collect(incoming, largest, &mut room, timeout).await {
            Ok(body) => Ok((body, room)),
            Err(BodyError::TooLarge) => Err(Failure::too_large(largest)),
            Err(BodyError::NoRoom) => Err(too_much()),
            Err(BodyError::TimedOut) => {
                let detail = format!("the body did not come within {timeout:?}");
                Err(Failure::new(Published::Malformed, Problem::new(Code::BodyTimeout, detail)))
            }
            Err(BodyError::Broken(cause)) => {
                Err(Failure::malformed(format!("the body could not be read: {cause}")))
            }
        }
    }

    fn count_stored(&self, stored: Stored) {
        let outcome = if stored.duplicate { Published::Duplicate } else { Published::Stored };
        self.metrics.publishes.count(outcome, 1);
    }

    fn count_failure(&self, failure: Failure) -> Response {
        self.metrics.publishes.count(failure.counted, failure.events);
        failure.problem.response()
    }
}

/// Reads the event in whatever form it came.
fn draft(parts: &Parts, body: Bytes, path_type: Option<String>) -> Result<Draft, Failure> {
    if let Some(encoded) = path_type {
        let text = percent_decode_str(&encoded)
            .decode_utf8()
            .map_err(|_| Failure::malformed("the type in the path must be percent-encoded UTF-8"))?;
        let event_type: EventType = text.parse().map_err(InvalidEvent::from)?;
        let mut draft = http_binary::read(&parts.headers, body)?;
        draft.set_type_from_path(event_type)?;
        return Ok(draft);
    }
    let content_type = content_type(&parts.headers);
    if structured::is_single_json(content_type) {
        return Ok(structured::read(&body)?);
    }
    if structured::is_cloud_event(content_type) {
        let detail = format!(
            "{content_type:?} is not taken: send application/cloudevents+json, \
             application/cloudevents-batch+json, or one event in ce- headers"
        );
        return Err(Failure::new(Published::Malformed, Problem::new(Code::FormatNotSupported, detail)));
    }
    Ok(http_binary::read(&parts.headers, body)?)
}

fn content_type(headers: &HeaderMap) -> &str {
    headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("")
}

fn success(outgoing: &Outgoing, stored: Stored) -> Response {
    let mut response = json(&Answer::new(outgoing, stored));
    if let Some(id) = encoded_id(outgoing.event()) {
        response.headers_mut().insert(ID_HEADER, id);
    }
    response
}

fn json(answer: &impl Serialize) -> Response {
    // Strings and numbers always have a JSON form.
    let json = serde_json::to_vec(answer).unwrap_or_default();
    let mut response = Response::new(Full::new(Bytes::from(json)));
    *response.status_mut() = StatusCode::OK;
    response.headers_mut().insert(CONTENT_TYPE, JSON);
    response
}

/// An id may hold any character: outside printable ASCII it is only in the body.
fn encoded_id(event: &Event) -> Option<HeaderValue> {
    HeaderValue::from_str(event.id()).ok()
}
