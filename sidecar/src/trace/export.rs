//! Sends finished spans to the collector, many at a time, beside everything else.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST, HeaderValue};
use http::{Method, Request};
use http_body_util::{BodyExt, Full};
use prometheus_client::metrics::counter::Counter;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use super::settings::Endpoint;
use super::{Finished, otlp};
use crate::connections::{Connections, Failure, exchange};

/// How long a span waits for others; as OpenTelemetry's SDKs do.
const DELAY: Duration = Duration::from_secs(5);
/// The most spans in one request.
const MOST: usize = 512;
/// How long the collector may take.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How often a request is tried before its spans are dropped.
const TRIES: u32 = 3;
/// How long the end of the process waits for the last spans.
const END: Duration = Duration::from_secs(1);

/// The way from finished spans to the collector.
pub(crate) struct Exporter {
    pub(crate) endpoint: Endpoint,
    /// What all spans have in common.
    pub(crate) resource: Vec<(&'static str, String)>,
    pub(crate) spans: mpsc::Receiver<Finished>,
    pub(crate) exported: Counter,
    pub(crate) dropped: Counter,
}

impl Exporter {
    /// Exports until it is stopped, and then what is left.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let connections = Connections::default();
        let mut is_away = false;
        loop {
            let mut spans = Vec::new();
            let until = async {
                // It begins with the first, so that nothing is done while there are none.
                if self.spans.recv_many(&mut spans, MOST).await == 0 {
                    return;
                }
                let end = Instant::now() + DELAY;
                while spans.len() < MOST {
                    let room = MOST - spans.len();
                    match timeout_at(end, self.spans.recv_many(&mut spans, room)).await {
                        Ok(1..) => {}
                        Ok(0) | Err(_) => return,
                    }
                }
            };
            let stopped = tokio::select! {
                biased;
                () = stop.cancelled() => true,
                () = until => false,
            };
            if stopped {
                while let Ok(span) = self.spans.try_recv() {
                    spans.push(span);
                }
                if !spans.is_empty() {
                    let _ = timeout(END, self.send(&connections, &spans)).await;
                }
                return;
            }
            if spans.is_empty() {
                return;
            }
            self.export(&connections, &spans, &mut is_away, &stop).await;
        }
    }

    /// Sends these, again if need be; says once that the collector is away.
    async fn export(
        &self,
        connections: &Connections<Full<Bytes>>,
        spans: &[Finished],
        is_away: &mut bool,
        stop: &CancellationToken,
    ) {
        for attempt in 1..=TRIES {
            let sent = tokio::select! {
                sent = self.send(connections, spans) => sent,
                () = stop.cancelled() => break,
            };
            match sent {
                Ok(()) => {
                    self.exported.inc_by(spans.len() as u64);
                    if std::mem::take(is_away) {
                        tracing::info!("the collector takes spans again");
                    }
                    return;
                }
                Err(error) => {
                    if !std::mem::replace(is_away, true) {
                        tracing::warn!(%error, collector = self.endpoint.authority, "cannot export spans");
                    }
                }
            }
            tokio::select! {
                () = sleep(DELAY * attempt) => {}
                () = stop.cancelled() => break,
            }
        }
        self.dropped.inc_by(spans.len() as u64);
    }

    async fn send(&self, connections: &Connections<Full<Bytes>>, spans: &[Finished]) -> io::Result<()> {
        let body = Bytes::from(otlp::body(&self.resource, spans).to_string());
        timeout(TIMEOUT, self.post(connections, body)).await?
    }

    async fn post(&self, connections: &Connections<Full<Bytes>>, body: Bytes) -> io::Result<()> {
        let address = tokio::net::lookup_host(&self.endpoint.authority).await?.next();
        let address = address.ok_or_else(|| io::Error::other("it has no address"))?;
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.endpoint.path.clone();
        let headers = request.headers_mut();
        headers.extend(self.endpoint.headers.clone());
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(HOST, HeaderValue::from_str(&self.endpoint.authority).map_err(io::Error::other)?);
        let (response, connection) = exchange(connections, address, request).await.map_err(|failure| {
            let (Failure::Refused(_, cause) | Failure::Lost { cause, .. } | Failure::NotHttp(cause)) =
                failure;
            io::Error::other(cause)
        })?;
        let status = response.status();
        // A short word of thanks, or of what is wrong.
        let mut answer = response.into_body();
        let mut length = 0;
        while let Some(frame) = answer.frame().await {
            length += frame.map_err(io::Error::other)?.data_ref().map_or(0, Bytes::len);
            if length > 64 << 10 {
                return Err(io::Error::other("its answer does not end"));
            }
        }
        connections.keep(address, connection);
        if status.is_success() { Ok(()) } else { Err(io::Error::other(format!("it answered {status}"))) }
    }
}
