//! `POST /v1/queries/{type}`: ask every service that answers.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName};
use http::{HeaderMap, HeaderValue, Request};
use http_body_util::Full;
use hyper::body::Incoming;
use murmur_mesh::event::{Event, InvalidEvent, http_binary};
use murmur_mesh::name::EventType;
use murmur_mesh::query::LONGEST_TIMEOUT;
use percent_encoding::percent_decode_str;
use tokio::time::Instant;

use super::body::{self, BodyError};
use super::events::Filled;
use super::local::Local;
use super::problem::{Code, Problem};
use super::{Response, timeout};
use crate::metrics::Asked;
use crate::publish::TRACE_HEADERS;
use crate::query::AskError;
use crate::trace::{Context, Kind};

/// How many answers are enough.
const QUORUM: HeaderName = HeaderName::from_static("murmur-quorum");
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// A query that failed, with how it is counted.
struct Failure(Asked, Problem);

impl From<InvalidEvent> for Failure {
    fn from(error: InvalidEvent) -> Self {
        Self(Asked::Refused, Problem::new(Code::Malformed, error.to_string()))
    }
}

impl Local {
    /// Asks; `encoded` is the type in the path.
    pub(super) async fn query(&self, request: Request<Incoming>, encoded: &str) -> Response {
        let started = Instant::now();
        let query: Option<EventType> =
            percent_decode_str(encoded).decode_utf8().ok().and_then(|text| text.parse().ok());
        let Some(query) = query else {
            self.metrics.queries.asked(None, Asked::Refused);
            let detail = "the path must end in the type of a query, percent-encoded";
            return Problem::new(Code::Malformed, detail).response();
        };
        let (outcome, response) = match self.try_query(request, &query).await {
            Ok((complete, json)) => {
                let mut response = Response::new(Full::new(Bytes::from(json)));
                response.headers_mut().insert(CONTENT_TYPE, JSON);
                (if complete { Asked::Complete } else { Asked::Partial }, response)
            }
            Err(Failure(outcome, problem)) => (outcome, problem.response()),
        };
        // What may not be asked could be any text: it is no label.
        let known = (outcome != Asked::Refused).then_some(&query);
        self.metrics.queries.asked(known, outcome);
        self.metrics.queries.ask_seconds.observe(started.elapsed().as_secs_f64());
        response
    }

    async fn try_query(
        &self,
        request: Request<Incoming>,
        query: &EventType,
    ) -> Result<(bool, Vec<u8>), Failure> {
        let (mut parts, incoming) = request.into_parts();
        let services = self.asks.expected(query).map_err(|error| failed(&error))?;
        let longest = timeout::asked(&parts.headers, LONGEST_TIMEOUT)
            .map_err(|error| Failure(Asked::Refused, Problem::new(Code::BadTimeout, error.to_string())))?
            .unwrap_or(self.limits.query_timeout);
        let quorum = quorum(&parts.headers, services.len())
            .map_err(|expected| failed(&AskError::Quorum { query: query.clone(), expected }))?;
        let largest = self.largest_body();
        let announced = body::announced(&incoming);
        if announced > largest {
            return Err(unread(BodyError::TooLarge, largest));
        }
        let admitted = self.queries_in_flight.admit(announced);
        let mut room = admitted.ok_or_else(|| unread(BodyError::NoRoom, largest))?;
        let body = body::collect(incoming, largest, &mut room, self.limits.body_timeout)
            .await
            .map_err(|error| unread(error, largest))?;
        let mut draft = http_binary::read(&parts.headers, body)?;
        draft.set_type_from_path(query.clone())?;
        let event: Event = draft.complete(&Filled(&self.source))?;
        let parent = Context::extract(&parts.headers);
        let mut span = self.tracer.start(parent, Kind::Client, || format!("query {query}"));
        span.note("messaging.message.id", event.id());
        span.inject(&mut parts.headers);
        let trace = TRACE_HEADERS.map(|name| parts.headers.get(name).cloned());
        let result = self.asks.ask(event, trace, services, quorum, longest, room).await;
        let result = result.map_err(|error| {
            span.fails(&error);
            failed(&error)
        })?;
        span.note("murmur.complete", &result.complete);
        Ok((result.complete, result.json))
    }
}

/// How many answers are enough; `Err`: how many there can be.
fn quorum(headers: &HeaderMap, expected: usize) -> Result<Option<usize>, usize> {
    let Some(value) = headers.get(QUORUM) else { return Ok(None) };
    let number = value.to_str().ok().and_then(|text| text.parse().ok());
    match number.filter(|number| (1..=expected).contains(number)) {
        Some(number) => Ok(Some(number)),
        None => Err(expected),
    }
}

fn unread(error: BodyError, largest: usize) -> Failure {
    let (outcome, code, detail) = match error {
        BodyError::TooLarge => (Asked::Refused, Code::TooLarge, format!("the body may have {largest} bytes")),
        BodyError::NoRoom => {
            let detail = "more queries are under way than the sidecar takes at once: ask again, more slowly";
            let problem = Problem::new(Code::TooMuchInFlight, detail).retry_after(1);
            return Failure(Asked::TooMany, problem);
        }
        BodyError::TimedOut => {
            (Asked::Refused, Code::BodyTimeout, "the body did not come in time".to_owned())
        }
        BodyError::Broken(cause) => {
            (Asked::Refused, Code::Malformed, format!("the body could not be read: {cause}"))
        }
    };
    Failure(outcome, Problem::new(code, detail))
}

fn failed(error: &AskError) -> Failure {
    let problem = |code| Problem::new(code, error.to_string());
    match error {
        AskError::NotAllowed { .. } => Failure(Asked::Refused, problem(Code::QueryNotAllowed)),
        AskError::Quorum { .. } => Failure(Asked::Refused, problem(Code::BadQuorum)),
        AskError::Away | AskError::Lost => Failure(Asked::BusAway, problem(Code::BusAway).retry_after(1)),
        AskError::Nobody { .. } => Failure(Asked::Nobody, problem(Code::NoAnswer)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quorum_is_from_one_to_all() {
        let of = |value: &str| quorum(&HeaderMap::from_iter([(QUORUM, value.parse().unwrap())]), 3);
        assert_eq!(quorum(&HeaderMap::new(), 3), Ok(None));
        assert_eq!(of("1"), Ok(Some(1)));
        assert_eq!(of("3"), Ok(Some(3)));
        for wrong in ["0", "4", "-1", "x", ""] {
            assert_eq!(of(wrong), Err(3), "{wrong}");
        }
    }
}
