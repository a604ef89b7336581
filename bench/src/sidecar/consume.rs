//! The floor of receiving, each part on a thread of its own: a bare client of the
//! bus that acknowledges what it gets, and a bare HTTP client that posts.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use async_nats::Client;
use async_nats::jetstream::consumer::{PullConsumer, pull};
use async_nats::jetstream::{self, Message};
use bytes::Bytes;
use futures::StreamExt;
use http::{Request, StatusCode};
use http_body_util::Full;
use murmur_mesh::durable::PIN_GROUP;
use murmur_mesh::stream;
use murmur_test_support::sidecar::TOKEN;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::loads::body;
use crate::alone::{self, Ran};
use crate::arrivals::Arrivals;
use crate::http::{Connection, connections, send};
use crate::load::{Load, counted};

/// How long a backlog may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// Takes so many events of a durable; gives the rate between the first and the last.
pub(super) async fn backlog(url: String, durable: String, count: u64) -> Result<Ran<Result<f64>>> {
    alone::run(move || async move {
        let taken = async {
            let (client, mut messages) = messages(url, &durable).await?;
            let mut began = None;
            for _ in 0..count {
                let message = messages.next().await.context("the durable has ended")??;
                began.get_or_insert_with(Instant::now);
                acknowledge(&message).await?;
            }
            let rate = count.saturating_sub(1) as f64
                / began.context("nothing was waited for")?.elapsed().as_secs_f64();
            client.flush().await?;
            Ok(rate)
        };
        let taken = timeout(PATIENCE, taken).await;
        taken.with_context(|| format!("{durable} has not given {count} events within {PATIENCE:?}"))?
    })
    .await
}

/// Takes what comes, notes its arrival, and goes on until it is told to end.
pub(super) async fn live(
    url: String,
    durable: String,
    arrivals: Arrivals,
    mut end: oneshot::Receiver<()>,
) -> Result<Ran<Result<()>>> {
    alone::run(move || async move {
        let (client, mut messages) = messages(url, &durable).await?;
        loop {
            let message = tokio::select! {
                message = messages.next() => message.context("the durable has ended")??,
                _ = &mut end => break,
            };
            arrivals.arrived(&message.payload);
            acknowledge(&message).await?;
        }
        Ok(client.flush().await?)
    })
    .await
}

/// The events of a pinned durable as a bare client gets them.
async fn messages(url: String, durable: &str) -> Result<(Client, pull::Stream)> {
    let client = async_nats::connect(url).await?;
    let context = jetstream::new(client.clone());
    let consumer: PullConsumer = context.get_consumer_from_stream(durable, stream::EVENTS).await?;
    Ok((client, consumer.stream().group(PIN_GROUP).messages().await?))
}

async fn acknowledge(message: &Message) -> Result<()> {
    message.ack().await.map_err(|error| anyhow!("an acknowledgement could not be sent: {error}"))
}

/// Posts so many 1 KiB requests that look as deliveries do.
pub(super) async fn posts(port: u16, clients: usize, count: u64) -> Result<Ran<Result<Load>>> {
    alone::run(move || async move {
        let request = delivery()?;
        let connections = connections(port, clients).await?;
        let clients = connections.into_iter().map(|connection| (connection, request.clone())).collect();
        let one = |(mut connection, request): (Connection, Request<Full<Bytes>>), _| async move {
            send(&mut connection, request.clone(), StatusCode::NO_CONTENT).await?;
            Ok((connection, request))
        };
        counted(clients, count, one).await
    })
    .await
}

/// With the headers that a sidecar sends.
fn delivery() -> Result<Request<Full<Bytes>>> {
    let request = Request::post("/events")
        .header("host", "127.0.0.1:8080")
        .header("authorization", format!("Bearer {TOKEN}"))
        .header("murmur-subscription", "round-0")
        .header("ce-specversion", "1.0")
        .header("ce-id", "019aa5c4-7d1c-7c3e-9d0a-3f1f6f1b2c4d")
        .header("ce-source", "/mesh/tested")
        .header("ce-type", "Tick")
        .header("ce-time", "2026-11-21T09:00:00.123456Z")
        .header("content-type", "application/json")
        .header("murmur-sequence", "123456")
        .header("murmur-attempt", "1")
        .header("murmur-replay", "false");
    Ok(request.body(Full::new(body()))?)
}
