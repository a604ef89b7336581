//! The loads of the publishing benchmark, each on a thread of its own.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use async_nats::HeaderMap;
use async_nats::jetstream;
use bytes::Bytes;
use murmur_test_support::http::connect;

use super::body;
use crate::alone::{self, Ran};
use crate::http;
use crate::load::{Load, closed, paced};

/// Connections over which a fixed rate is spread: never the bottleneck.
const CONNECTIONS: usize = 64;

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
        F: Fn(C) -> Fut + Copy + Send + 'static,
        Fut: Future<Output = Result<C>> + Send,
    {
        match self {
            Self::Clients(_) => closed(clients, time, one).await,
            Self::Rate(rate) => paced(clients, rate, time, one).await,
        }
    }
}

/// Posts events to a port: a sidecar's, or that of a server that only answers.
pub(super) async fn over_http(
    port: u16,
    shape: Shape,
    time: Duration,
    only_answers: bool,
) -> Result<Ran<Result<Load>>> {
    alone::run(move || async move {
        let mut connections = Vec::with_capacity(shape.clients());
        for _ in 0..shape.clients() {
            connections.push((connect(port).await?, body()));
        }
        let one = move |(mut sender, body): (_, Bytes)| async move {
            if only_answers {
                http::post(&mut sender, &body).await?;
            } else {
                http::publish(&mut sender, &body).await?;
            }
            Ok((sender, body))
        };
        shape.run(connections, time, one).await
    })
    .await
}

/// Publishes with a bare client, each event with its acknowledgement.
pub(super) async fn bare(url: String, shape: Shape, time: Duration) -> Result<Ran<Result<Load>>> {
    alone::run(move || async move {
        let client = jetstream::new(async_nats::connect(url).await?);
        let run = SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos();
        let clients = (0..shape.clients()).map(|number| (client.clone(), body(), number, 0_u64)).collect();
        let one = move |(client, body, number, count): (jetstream::Context, Bytes, usize, u64)| async move {
            // As many headers as a careful program sets: an id that makes a repeat safe.
            let mut headers = HeaderMap::new();
            headers.insert("Nats-Msg-Id", format!("{run}-{number}-{count}"));
            client.publish_with_headers("events.bare.0.Tick", headers, body.clone()).await?.await?;
            Ok((client, body, number, count + 1))
        };
        shape.run(clients, time, one).await
    })
    .await
}
