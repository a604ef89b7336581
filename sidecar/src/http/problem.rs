//! Errors that the sidecar itself answers with: RFC 9457 problem details with
//! a stable `code`.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use http::{Response as HttpResponse, StatusCode};
use http_body_util::Full;
use serde::{Serialize, Serializer};

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
    /// 415: CloudEvents, but not in a format that is taken.
    FormatNotSupported,
    /// 403: the service does not publish this type.
    TypeNotPublished,
    /// 409: a part of a batch was stored before, the rest is not.
    PartlyStored,
    /// 422: the data does not meet the schema of its type.
    SchemaViolated,
    /// 500: the schema of the type is not valid.
    SchemaInvalid,
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
            Self::FormatNotSupported => {
                (StatusCode::UNSUPPORTED_MEDIA_TYPE, "formatNotSupported", "Not in this format")
            }
            Self::PartlyStored => {
                (StatusCode::CONFLICT, "partlyStored", "A part of the batch was stored before")
            }
            Self::SchemaViolated => {
                (StatusCode::UNPROCESSABLE_ENTITY, "schemaViolated", "The data does not meet its schema")
            }
            Self::SchemaInvalid => {
                (StatusCode::INTERNAL_SERVER_ERROR, "schemaInvalid", "The schema of the type is not valid")
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
    results: Vec<FailedEvent>,
    retry_after: Option<u32>,
}

/// The event that it is about: with the same id and source it can be sent again safely.
#[derive(Debug, Default, Serialize)]
pub(crate) struct FailedEvent {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) source: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "outcome_text")]
    pub(crate) outcome: Option<Outcome>,
    /// Of a batch: where it was stored before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) sequence: Option<u64>,
}

fn outcome_text<S: Serializer>(outcome: &Option<Outcome>, serializer: S) -> Result<S::Ok, S::Error> {
    let text = outcome.map(|outcome| match outcome {
        Outcome::Stored => "stored",
        Outcome::NotStored => "notStored",
        Outcome::Unknown => "unknown",
    });
    text.serialize(serializer)
}

#[derive(Serialize)]
struct Body<'a> {
    r#type: &'static str,
    title: &'static str,
    status: u16,
    code: &'static str,
    detail: &'a str,
    #[serde(flatten)]
    event: &'a FailedEvent,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    results: &'a [FailedEvent],
}

impl Problem {
    /// An error with what happened and what to do about it.
    pub(crate) fn new(code: Code, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into(), event: None, results: Vec::new(), retry_after: None }
    }

    /// Says first which part of the request it is about.
    pub(crate) fn preceded_by(mut self, part: &str) -> Self {
        self.detail.insert_str(0, part);
        self
    }

    /// Names the event.
    pub(crate) fn about(mut self, event: FailedEvent) -> Self {
        self.event = Some(event);
        self
    }

    /// Names the events of a batch.
    pub(crate) fn about_each(mut self, events: impl Iterator<Item = FailedEvent>) -> Self {
        self.results = events.collect();
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
            event: &event,
            results: &self.results,
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
