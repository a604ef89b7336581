//! Errors that the sidecar itself answers with: RFC 9457 problem details with
//! a stable `code`.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use http::{Response as HttpResponse, StatusCode};
use http_body_util::Full;
use serde::Serialize;

use super::Response;
use crate::publish::Outcome;

/// Marks an answer that comes from the sidecar, not from a service behind it.
pub(crate) const ERROR_HEADER: HeaderName = HeaderName::from_static("murmur-error");
const PROBLEM_JSON: HeaderValue = HeaderValue::from_static("application/problem+json");

/// What went wrong, for programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Code {
    /// 400: not a valid event or query.
    Malformed,
    /// 415: batches are not taken here.
    BatchNotSupported,
    /// 403: the service does not publish this type.
    TypeNotPublished,
    /// 404: no such path.
    NotFound,
    /// 405: not with this method.
    MethodNotAllowed,
    /// 408: the body did not come in time.
    BodyTimeout,
    /// 413: larger than the bus takes.
    TooLarge,
    /// 429: too much in flight.
    TooMuchInFlight,
    /// 503: the bus is away.
    BusAway,
    /// 503: the bus refused it for a reason of its own.
    BusRefused,
    /// 504: no answer in time.
    NoAnswer,
    /// 507: the event store is full.
    StoreFull,
    /// 400: `murmur-quorum` is not a number, or larger than what can be.
    BadQuorum,
    /// 403: the service does not ask this query.
    QueryNotAllowed,
    /// 400: `murmur-timeout` is not a duration, or too long.
    BadTimeout,
    /// 403: the service does not call this one.
    CallNotAllowed,
    /// 501: another protocol was asked for.
    UpgradeNotSupported,
    /// 502: the target gave no answer, or one that is not HTTP.
    Broken,
    /// 503: there is no replica of the target.
    NoReplicas,
    /// 503: no replica of the target listens.
    Unreachable,
    /// 504: the target did not answer in time.
    CallTimeout,
}

impl Code {
    fn texts(self) -> (StatusCode, &'static str, &'static str) {
        match self {
            Self::Malformed => (StatusCode::BAD_REQUEST, "malformed", "Not valid"),
            Self::BatchNotSupported => {
                (StatusCode::UNSUPPORTED_MEDIA_TYPE, "batchNotSupported", "Batches are not taken here")
            }
            Self::TypeNotPublished => {
                (StatusCode::FORBIDDEN, "typeNotPublished", "The service does not publish this type")
            }
            Self::NotFound => (StatusCode::NOT_FOUND, "notFound", "No such path"),
            Self::MethodNotAllowed => {
                (StatusCode::METHOD_NOT_ALLOWED, "methodNotAllowed", "Not with this method")
            }
            Self::BodyTimeout => {
                (StatusCode::REQUEST_TIMEOUT, "bodyTimeout", "The body did not come in time")
            }
            Self::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "tooLarge", "Too large"),
            Self::TooMuchInFlight => {
                (StatusCode::TOO_MANY_REQUESTS, "tooMuchInFlight", "Too much is in flight")
            }
            Self::BusAway => (StatusCode::SERVICE_UNAVAILABLE, "busAway", "The bus is away"),
            Self::BusRefused => (StatusCode::SERVICE_UNAVAILABLE, "busRefused", "The bus refused the event"),
            Self::NoAnswer => (StatusCode::GATEWAY_TIMEOUT, "noAnswer", "No answer in time"),
            Self::StoreFull => (StatusCode::INSUFFICIENT_STORAGE, "storeFull", "The event store is full"),
            Self::BadQuorum => (StatusCode::BAD_REQUEST, "badQuorum", "Not a valid quorum"),
            Self::QueryNotAllowed => {
                (StatusCode::FORBIDDEN, "queryNotAllowed", "The service does not ask this query")
            }
            Self::BadTimeout => (StatusCode::BAD_REQUEST, "badTimeout", "Not a valid timeout"),
            Self::CallNotAllowed => {
                (StatusCode::FORBIDDEN, "callNotAllowed", "The service does not call this one")
            }
            Self::UpgradeNotSupported => {
                (StatusCode::NOT_IMPLEMENTED, "upgradeNotSupported", "No other protocol is supported")
            }
            Self::Broken => (StatusCode::BAD_GATEWAY, "broken", "The service gave no answer"),
            Self::NoReplicas => (StatusCode::SERVICE_UNAVAILABLE, "noReplicas", "The service has no replica"),
            Self::Unreachable => {
                (StatusCode::SERVICE_UNAVAILABLE, "unreachable", "The service cannot be reached")
            }
            Self::CallTimeout => {
                (StatusCode::GATEWAY_TIMEOUT, "callTimeout", "The service did not answer in time")
            }
        }
    }
}

/// One error.
#[derive(Debug)]
pub(crate) struct Problem {
    code: Code,
    detail: String,
    event: Option<FailedEvent>,
    retry_after: Option<u32>,
}

/// The event that it is about: with the same id and source it can be sent again safely.
#[derive(Debug, Default)]
pub(crate) struct FailedEvent {
    pub(crate) id: Option<String>,
    pub(crate) source: Option<String>,
    pub(crate) outcome: Option<Outcome>,
}

#[derive(Serialize)]
struct Body<'a> {
    r#type: &'static str,
    title: &'static str,
    status: u16,
    code: &'static str,
    detail: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    outcome: Option<&'static str>,
}

impl Problem {
    /// An error with what happened and what to do about it.
    pub(crate) fn new(code: Code, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into(), event: None, retry_after: None }
    }

    /// Names the event.
    pub(crate) fn about(mut self, event: FailedEvent) -> Self {
        self.event = Some(event);
        self
    }

    /// Says when to try again, in seconds.
    pub(crate) fn retry_after(mut self, seconds: u32) -> Self {
        self.retry_after = Some(seconds);
        self
    }

    /// The answer.
    pub(crate) fn response(self) -> Response {
        let (status, code, title) = self.code.texts();
        let event = self.event.unwrap_or_default();
        let body = Body {
            r#type: "about:blank",
            title,
            status: status.as_u16(),
            code,
            detail: &self.detail,
            id: event.id.as_deref(),
            source: event.source.as_deref(),
            outcome: event.outcome.map(|outcome| match outcome {
                Outcome::NotStored => "notStored",
                Outcome::Unknown => "unknown",
            }),
        };
        // Strings and numbers always have a JSON form.
        let json = serde_json::to_vec(&body).unwrap_or_default();
        let mut response = HttpResponse::new(Full::new(Bytes::from(json)));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, PROBLEM_JSON);
        headers.insert(ERROR_HEADER, HeaderValue::from_static(code));
        if let Some(seconds) = self.retry_after {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if let Some(id) = event.id.as_deref().and_then(|id| HeaderValue::from_str(id).ok()) {
            headers.insert(super::events::ID_HEADER, id);
        }
        response
    }
}
