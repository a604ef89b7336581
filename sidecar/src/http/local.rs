//! The local HTTP: what the service in this pod may ask for.

use std::sync::Arc;

use bytes::Bytes;
use http::header::ALLOW;
use http::{HeaderValue, Method, Request};
use http_body_util::Full;
use hyper::body::Incoming;
use murmur_mesh::config::SidecarConfig;
use murmur_mesh::message_id::MessageIdKey;
use murmur_mesh::name::ServiceName;
use tokio::sync::watch;

use super::problem::{Code, Problem};
use super::server::Handler;
use super::{Answer, Response};
use crate::board::Board;
use crate::bus::Bus;
use crate::call::Calls;
use crate::drain::Drain;
use crate::limits::Limits;
use crate::metrics::Metrics;
use crate::publish::{Door, GroupCommit, InFlight};
use crate::query::Asks;
use crate::trace::Tracer;

/// The smallest limit on a body, however small the bus' own is.
const SMALLEST_LIMIT: usize = 1 << 10;
/// Where other services are.
const SERVICES: &str = "/v1/services/";
/// Where queries are asked.
const QUERIES: &str = "/v1/queries/";

/// Answers the service.
pub(crate) struct Local {
    pub(crate) service: ServiceName,
    /// The `source` of events that name none.
    pub(crate) source: String,
    pub(crate) message_id_key: MessageIdKey,
    pub(crate) configuration: watch::Receiver<Arc<SidecarConfig>>,
    pub(crate) bus: Bus,
    pub(crate) door: watch::Receiver<Arc<Door>>,
    pub(crate) publisher: Arc<GroupCommit>,
    pub(crate) in_flight: Arc<InFlight>,
    pub(crate) calls: Calls,
    pub(crate) asks: Asks,
    pub(crate) tracer: Tracer,
    pub(crate) queries_in_flight: Arc<InFlight>,
    pub(crate) limits: Limits,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) board: Arc<Board>,
    pub(crate) drain: Drain,
}

impl Handler for Local {
    async fn handle(&self, request: Request<Incoming>) -> http::Response<Answer> {
        if request.uri().path().starts_with(SERVICES) {
            return self.call(request).await;
        }
        self.answer(request).await.map(Answer::Own)
    }
}

impl Local {
    async fn answer(&self, request: Request<Incoming>) -> Response {
        let path = request.uri().path();
        let method = request.method();
        match path {
            "/v1/events" if method == Method::POST => self.publish(request, None).await,
            "/v1/events" => not_allowed("POST"),
            "/v1/status" if method == Method::GET => self.status(),
            "/v1/status" => not_allowed("GET"),
            "/v1/drain" if method == Method::POST => {
                self.drain.start();
                self.drain.finished().await;
                Response::new(Full::new(Bytes::from_static(b"drained\n")))
            }
            "/v1/drain" => not_allowed("POST"),
            _ if path.starts_with(QUERIES) && method == Method::POST => {
                let query = path[QUERIES.len()..].to_owned();
                self.query(request, &query).await
            }
            _ if path.starts_with(QUERIES) => not_allowed("POST"),
            _ => match path.strip_prefix("/v1/events/") {
                Some(event_type) if method == Method::POST => {
                    let event_type = event_type.to_owned();
                    self.publish(request, Some(event_type)).await
                }
                Some(_) => not_allowed("POST"),
                None => {
                    let detail = format!(
                        "there is nothing at {path}: there are /v1/events, /v1/events/{{type}}, /v1/queries/{{type}}, \
                         /v1/services/{{name}}/{{path}} and /v1/status"
                    );
                    Problem::new(Code::NotFound, detail).response()
                }
            },
        }
    }

    /// What the bus takes, less what a message needs beside its data.
    pub(super) fn largest_body(&self) -> usize {
        self.bus.client().max_payload().saturating_sub(self.limits.headroom).max(SMALLEST_LIMIT)
    }
}

fn not_allowed(allowed: &'static str) -> Response {
    let mut response =
        Problem::new(Code::MethodNotAllowed, format!("only {allowed} is allowed here")).response();
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
    response
}
