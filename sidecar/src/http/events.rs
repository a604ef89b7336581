//! `POST /v1/events` and `POST /v1/events/{type}`: publish one event.

use std::sync::Arc;

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
use uuid::Uuid;

use super::Response;
use super::body::{self, BodyError};
use super::local::Local;
use super::problem::{Code, FailedEvent, Problem};
use crate::metrics::{PublishLabels, Published};
use crate::publish::{Outcome, Outgoing, PublishError, Stored};
use crate::trace::{self, Context, Kind, Span};

/// `ce-id`: the id of the event that an answer is about.
pub(super) const ID_HEADER: HeaderName = HeaderName::from_static("ce-id");
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// A publish that failed, with how it is counted.
struct Failure(Published, Problem);

impl From<InvalidEvent> for Failure {
    fn from(error: InvalidEvent) -> Self {
        Self(Published::Malformed, Problem::new(Code::Malformed, error.to_string()))
    }
}

/// What is filled in: a sortable unique id, the service as the source, now.
pub(super) struct Filled<'a>(pub(super) &'a str);

impl Defaults for Filled<'_> {
    fn id(&self) -> String {
        Uuid::now_v7().to_string()
    }
    fn source(&self) -> String {
        self.0.to_owned()
    }
    fn time(&self) -> String {
        jiff::Timestamp::now().to_string()
    }
}

#[derive(Serialize)]
struct Answer<'a> {
    id: &'a str,
    sequence: u64,
    duplicate: bool,
}

impl Local {
    /// Publishes the event in the request; `path_type` is the path's own type, still encoded.
    pub(super) async fn publish(&self, request: Request<Incoming>, path_type: Option<String>) -> Response {
        let (outcome, response) = match self.try_publish(request, path_type).await {
            Ok((outgoing, stored)) => {
                let outcome = if stored.duplicate { Published::Duplicate } else { Published::Stored };
                (outcome, success(outgoing.event(), stored))
            }
            Err(Failure(outcome, problem)) => (outcome, problem.response()),
        };
        self.metrics.published.get_or_create(&PublishLabels { outcome }).inc();
        response
    }

    async fn try_publish(
        &self,
        request: Request<Incoming>,
        path_type: Option<String>,
    ) -> Result<(Arc<Outgoing>, Stored), Failure> {
        let (mut parts, incoming) = request.into_parts();
        let largest = self.largest_body();
        let announced = body::announced(&incoming);
        if announced > largest {
            return Err(too_large(largest));
        }
        let mut room = self.in_flight.admit(announced).ok_or_else(|| too_much(&parts.headers))?;
        let collected = body::collect(incoming, largest, &mut room, self.limits.body_timeout).await;
        let body = collected.map_err(|error| match error {
            BodyError::TooLarge => too_large(largest),
            BodyError::NoRoom => too_much(&parts.headers),
            BodyError::TimedOut => {
                let detail = format!("the body did not come within {:?}", self.limits.body_timeout);
                Failure(Published::Malformed, Problem::new(Code::BodyTimeout, detail))
            }
            BodyError::Broken(cause) => {
                let detail = format!("the body could not be read: {cause}");
                Failure(Published::Malformed, Problem::new(Code::Malformed, detail))
            }
        })?;
        let event = draft(&parts, body, path_type)?.complete(&Filled(&self.source))?;
        if !self.configuration.borrow().publishes.contains(event.event_type()) {
            let detail = format!(
                "{} does not publish {}: add it to spec.publishes of the Microservice",
                self.service,
                event.event_type()
            );
            return Err(Failure(Published::Forbidden, Problem::new(Code::TypeNotPublished, detail)));
        }
        let mut span = self.publish_span(&event, &mut parts.headers);
        let key = &self.message_id_key;
        let outgoing = Arc::new(Outgoing::new(event, &self.service, key, &parts.headers, Some(room)));
        let started = Instant::now();
        let result = self.publisher.publish(&outgoing).await;
        self.metrics.publish_seconds.observe(started.elapsed().as_secs_f64());
        match result {
            Ok(stored) => Ok((outgoing, stored)),
            Err(error) => {
                span.fails(&error);
                Err(failed(&error, outgoing.event()))
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
        span.inject(headers);
        span
    }
}

/// Reads the event in whatever form it came.
fn draft(parts: &Parts, body: Bytes, path_type: Option<String>) -> Result<Draft, Failure> {
    let content_type = parts.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
    if let Some(encoded) = path_type {
        let text = percent_decode_str(&encoded)
            .decode_utf8()
            .map_err(|_| malformed("the type in the path must be percent-encoded UTF-8"))?;
        let event_type: EventType = text.parse().map_err(InvalidEvent::from)?;
        let mut draft = http_binary::read(&parts.headers, body)?;
        draft.set_type_from_path(event_type)?;
        return Ok(draft);
    }
    if structured::is_single_json(content_type) {
        return Ok(structured::read(&body)?);
    }
    if structured::is_cloud_event(content_type) {
        let detail = format!(
            "{content_type:?} is not taken: send one event, as application/cloudevents+json or in ce- headers"
        );
        return Err(Failure(Published::Malformed, Problem::new(Code::BatchNotSupported, detail)));
    }
    Ok(http_binary::read(&parts.headers, body)?)
}

fn success(event: &Event, stored: Stored) -> Response {
    let answer = Answer { id: event.id(), sequence: stored.sequence, duplicate: stored.duplicate };
    // Strings and numbers always have a JSON form.
    let json = serde_json::to_vec(&answer).unwrap_or_default();
    let mut response = Response::new(Full::new(Bytes::from(json)));
    *response.status_mut() = StatusCode::OK;
    response.headers_mut().insert(CONTENT_TYPE, JSON);
    if let Some(id) = encoded_id(event.id()) {
        response.headers_mut().insert(ID_HEADER, id);
    }
    response
}

/// An id may hold any character: outside printable ASCII it is only in the body.
fn encoded_id(id: &str) -> Option<HeaderValue> {
    HeaderValue::from_str(id).ok()
}

fn malformed(detail: &str) -> Failure {
    Failure(Published::Malformed, Problem::new(Code::Malformed, detail))
}

fn too_large(largest: usize) -> Failure {
    let detail =
        format!("the body may have {largest} bytes: keep large data elsewhere and send a link to it");
    Failure(Published::TooLarge, Problem::new(Code::TooLarge, detail))
}

/// Refused before the body was read: all that is known of the event is in its headers.
fn too_much(headers: &HeaderMap) -> Failure {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let event =
        FailedEvent { id: text("ce-id"), source: text("ce-source"), outcome: Some(Outcome::NotStored) };
    let detail =
        "more events are under way than the sidecar takes at once: send the event again, more slowly";
    Failure(Published::TooMuch, Problem::new(Code::TooMuchInFlight, detail).about(event).retry_after(1))
}

fn failed(error: &PublishError, event: &Event) -> Failure {
    let (counted, code, retry_after) = match error {
        PublishError::Away | PublishError::NoStore => (Published::BusAway, Code::BusAway, Some(1)),
        PublishError::Lost => (Published::Unknown, Code::BusAway, Some(1)),
        PublishError::TimedOut => (Published::Unknown, Code::NoAnswer, None),
        PublishError::Full(_) => (Published::StoreFull, Code::StoreFull, None),
        PublishError::TooLarge => (Published::TooLarge, Code::TooLarge, None),
        PublishError::Refused { .. } | PublishError::Unreadable(_) => {
            (Published::Refused, Code::BusRefused, Some(1))
        }
    };
    let advice = match (code, error.outcome()) {
        (Code::TooLarge, _) => "keep large data elsewhere and send a link to it",
        (Code::StoreFull, _) => {
            "it takes events again once its limit is raised (spec.eventStore of the Mesh)"
        }
        (_, Outcome::NotStored) => "it was not stored: send it again",
        (_, Outcome::Unknown) => {
            "it may have been stored: send it again with the same id and source within the duplicate window"
        }
    };
    let event = FailedEvent {
        id: Some(event.id().to_owned()),
        source: Some(event.source().to_owned()),
        outcome: Some(error.outcome()),
    };
    let mut problem = Problem::new(code, format!("{error}; {advice}")).about(event);
    if let Some(seconds) = retry_after {
        problem = problem.retry_after(seconds);
    }
    Failure(counted, problem)
}
