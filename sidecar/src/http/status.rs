//! `GET /v1/status`: how the sidecar is, for people.

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Response as HttpResponse};
use http_body_util::Full;
use murmur_mesh::report::OutboxReport;
use serde::Serialize;

use super::Response;
use super::local::Local;
use crate::board::Standing;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    version: &'static str,
    service: String,
    mesh: String,
    generation: u64,
    bus: BusStatus,
    draining: bool,
    publishes: Vec<String>,
    asks: Vec<String>,
    answers: Vec<String>,
    calls: Vec<String>,
    subscriptions: Vec<Standing>,
    /// Of the sidecar that relays it.
    #[serde(skip_serializing_if = "Option::is_none")]
    outbox: Option<OutboxReport>,
    limits: LimitsStatus,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct BusStatus {
    connected: bool,
    connects: u64,
    seconds: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct LimitsStatus {
    body_bytes: usize,
    publishes_in_flight: usize,
    publish_bytes_in_flight: usize,
    calls_in_flight: usize,
    queries_in_flight: usize,
    answers_in_flight: usize,
    query_bytes_in_flight: usize,
    delivery_bytes: usize,
    connections: usize,
}

impl Local {
    /// A snapshot of it all.
    pub(super) fn status(&self) -> Response {
        let link = self.bus.link();
        let configuration = self.configuration.borrow().clone();
        let status = Status {
            version: env!("CARGO_PKG_VERSION"),
            service: self.service.to_string(),
            mesh: configuration.mesh.to_string(),
            generation: configuration.generation,
            bus: BusStatus {
                connected: link.connected,
                connects: link.connects,
                seconds: link.since.elapsed().as_secs(),
            },
            draining: self.drain.is_started(),
            publishes: configuration.publishes.iter().map(ToString::to_string).collect(),
            asks: configuration.asks.iter().map(|ask| ask.query.to_string()).collect(),
            answers: configuration.answers.iter().map(|answer| answer.query.to_string()).collect(),
            calls: configuration.calls.iter().map(|call| call.service.to_string()).collect(),
            subscriptions: self.board.standings(),
            outbox: self.board.outbox(),
            limits: LimitsStatus {
                body_bytes: self.largest_body(),
                publishes_in_flight: self.limits.publishes,
                publish_bytes_in_flight: self.limits.publish_bytes,
                calls_in_flight: self.limits.calls,
                queries_in_flight: self.limits.queries,
                answers_in_flight: self.limits.answers,
                query_bytes_in_flight: self.limits.query_bytes,
                delivery_bytes: self.limits.delivery_bytes,
                connections: self.limits.connections,
            },
        };
        // Strings, numbers and booleans always have a JSON form.
        let json = serde_json::to_vec_pretty(&status).unwrap_or_default();
        let mut response = HttpResponse::new(Full::new(Bytes::from(json)));
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        response
    }
}
