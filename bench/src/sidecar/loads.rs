//! Publishing, through HTTP and by a bare client, each on a thread of its own.

use std::fmt;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::alone::{self, Ran};
use crate::arrivals::Arrivals;
use crate::bare::{self, Batch};
use crate::load::{Load, closed, counted, paced};
use crate::poster::Poster;
use anyhow::Result;
use async_nats::jetstream;
use bytes::Bytes;
use http::StatusCode;

/// Connections over which a fixed rate is spread: never the bottleneck.
const CONNECTIONS: usize = 64;

/// Where a bare client publishes: what the durables' filters let through.
pub(super) const BARE_SUBJECT: &str = "events.bare.0.Tick";

/// 1 KiB of JSON.
pub(super) fn body() -> Bytes {
    Bytes::from(format!("{{\"filler\":\"{}\"}}", "x".repeat(1024 - 13)))
}

/// What the events of a load hold.
#[derive(Clone)]
pub(super) enum Bodies {
    /// Always the same.
    Same(Bytes),
    /// Each says when it was due.
    Timed(Arrivals),
}

impl Bodies {
    fn of(&self, due: Instant) -> Bytes {
        match self {
            Self::Same(body) => body.clone(),
            Self::Timed(arrivals) => arrivals.body(due),
        }
    }
}

/// How requests follow one another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// So many clients, each with its next request after the answer to the last.
    Clients(usize),
    /// So many requests a second.
    Rate(u32),
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Clients(1) => f.write_str("1 client"),
            Self::Clients(clients) => write!(f, "{clients} clients"),
            Self::Rate(rate) => write!(f, "{rate}/s"),
        }
    }
}

impl Shape {
    fn clients(self) -> usize {
        match self {
            Self::Clients(clients) => clients,
            Self::Rate(_) => CONNECTIONS,
        }
    }

    async fn run<C, F, Fut>(self, clients: Vec<C>, time: Duration, one: F) -> Result<Load>
    where
        C: Send + 'static,
        F: Fn(C, Instant) -> Fut + Copy + Send + 'static,
        Fut: Future<Output = Result<C>> + Send,
    {
        match self {
            Self::Clients(_) => closed(clients, time, one).await,
            Self::Rate(rate) => paced(clients, rate, time, one).await,
        }
    }
}

/// Posts events to a port: a sidecar's, or that of a server that only answers
/// `expected`.
pub(super) async fn over_http(
    port: u16,
    shape: Shape,
    time: Duration,
    expected: StatusCode,
    bodies: Bodies,
) -> Result<Ran<Result<Load>>> {
    alone::run(move || async move {
        let posters = Poster::connect_many(port, shape.clients()).await?;
        let clients = posters.into_iter().map(|poster| (poster, bodies.clone())).collect();
        let one = move |(mut poster, bodies): (Poster, Bodies), due| async move {
            poster.publish(&bodies.of(due), expected).await?;
            Ok((poster, bodies))
        };
        shape.run(clients, time, one).await
    })
    .await
}

/// Stores so many events through a sidecar, as fast as it takes them.
pub(super) async fn store(port: u16, count: u64) -> Result<()> {
    let clients = Poster::connect_many(port, 256).await?.into_iter().map(|poster| (poster, body())).collect();
    let one = |(mut poster, body): (Poster, Bytes), _| async move {
        poster.publish(&body, StatusCode::OK).await?;
        Ok((poster, body))
    };
    counted(clients, count, one).await.map(drop)
}

/// Publishes with a bare client, so many events at once as an atomic batch, one batch after the other: events a second.
pub(super) async fn bare_batches(url: String, size: usize, time: Duration) -> Result<f64> {
    let ran = alone::run(move || async move {
        let client = async_nats::connect(url).await?;
        let one = move |(client, body): (async_nats::Client, Bytes), _| async move {
            let mut batch = Batch::begin(&client, BARE_SUBJECT);
            for _ in 1..size {
                batch.send(body.clone()).await?;
            }
            batch.commit(body.clone()).await?;
            Ok((client, body))
        };
        closed(vec![(client, body())], time, one).await
    });
    Ok(ran.await?.result?.rate * size as f64)
}

/// Publishes with a bare client, each event with its acknowledgement.
pub(super) async fn bare(
    url: String,
    shape: Shape,
    time: Duration,
    bodies: Bodies,
) -> Result<Ran<Result<Load>>> {
    alone::run(move || async move {
        let client = jetstream::new(async_nats::connect(url).await?);
        let run = SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos();
        let clients =
            (0..shape.clients()).map(|number| (client.clone(), bodies.clone(), number, 0_u64)).collect();
        let one = move |(client, bodies, number, count): (jetstream::Context, Bodies, usize, u64), due| async move {
            let id = format!("{run}-{number}-{count}");
            bare::store(&client, BARE_SUBJECT, id, bodies.of(due)).await?;
            Ok((client, bodies, number, count + 1))
        };
        shape.run(clients, time, one).await
    })
    .await
}
