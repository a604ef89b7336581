//! Probes and metrics, on the pod's address: GET only, nothing can be changed here.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, Request, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use tokio::time::Instant;

use super::server::Handler;
use super::{Answer, Response};
use crate::board::Board;
use crate::metrics::Metrics;
use crate::startup::Readiness;

/// How long endpoints take to learn that a pod is ending; until then requests still arrive.
const ENDPOINTS_SETTLE: Duration = Duration::from_secs(5);
/// Between two looks at the deliveries in progress.
const LOOK: Duration = Duration::from_millis(50);
const OPEN_METRICS: HeaderValue =
    HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");

/// Answers the kubelet and Prometheus.
pub(crate) struct Admin {
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) board: Arc<Board>,
    pub(crate) readiness: Readiness,
}

impl Handler for Admin {
    async fn handle(&self, request: Request<Incoming>) -> http::Response<Answer> {
        self.answer(&request).await.map(Answer::Own)
    }
}

impl Admin {
    async fn answer(&self, request: &Request<Incoming>) -> Response {
        if request.method() != Method::GET {
            return text(StatusCode::METHOD_NOT_ALLOWED, "only GET is allowed here\n");
        }
        match request.uri().path() {
            // It answers at all only once configuration is parsed and everything is bound.
            // The bus gates neither start nor, unless that is asked for, readiness: its outage stops no service.
            "/startedz" | "/livez" => text(StatusCode::OK, "ok\n"),
            "/readyz" if self.readiness.is_ready() => text(StatusCode::OK, "ok\n"),
            "/readyz" => text(StatusCode::SERVICE_UNAVAILABLE, "the service has not caught up yet\n"),
            "/metrics" => {
                let mut response = Response::new(Full::new(Bytes::from(self.metrics.text())));
                response.headers_mut().insert(CONTENT_TYPE, OPEN_METRICS);
                response
            }
            "/drained" => self.drained().await,
            _ => text(StatusCode::NOT_FOUND, "there are /startedz, /livez, /readyz, /metrics and /drained\n"),
        }
    }

    /// The service's preStop: answers once endpoints have settled and the
    /// deliveries in progress have ended. It starts nothing: what makes the
    /// deliveries end is the sidecar's own preStop, `murmur-sidecar drain`.
    async fn drained(&self) -> Response {
        let asked = Instant::now();
        let longest = asked + ENDPOINTS_SETTLE + self.board.longest_timeout();
        tokio::time::sleep(ENDPOINTS_SETTLE).await;
        while self.board.deliveries_in_flight() > 0 && Instant::now() < longest {
            tokio::time::sleep(LOOK).await;
        }
        text(StatusCode::OK, "drained\n")
    }
}

fn text(status: StatusCode, text: &'static str) -> Response {
    let mut response = Response::new(Full::new(Bytes::from_static(text.as_bytes())));
    *response.status_mut() = status;
    response
}
