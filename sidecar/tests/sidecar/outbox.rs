//! The outbox: what the service commits in its own database is in the event store
//! exactly once, in order per key, and nothing else is.

mod checker;
mod faults;
mod postgres;
mod sqlite;

use std::collections::BTreeMap;
use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::jetstream::consumer::AckPolicy;
use async_nats::jetstream::consumer::pull::Config;
use futures::StreamExt;
use murmur_mesh::stream::EVENTS;
use murmur_sidecar::database::DatabaseSettings;
use serde_json::json;

use crate::support::{Setup, World, eventually, get};

/// The event store as the world's configuration names it.
const STORE: &str = "2026-11-21T09:00:00Z";

/// A world whose service has an outbox in this database.
async fn world(database: DatabaseSettings, setup: Setup) -> World {
    let config = json!({"outbox": true});
    let world = World::start(Setup { database: Some(database), config, sidecar: false, ..setup }).await;
    world.outbox_durable().await;
    world
}

/// A message of the event store.
#[derive(Debug)]
struct Stored {
    subject: String,
    headers: HeaderMap,
    data: String,
}

impl Stored {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.as_str())
    }
}

/// All of the event store, in its order.
async fn stored(world: &World) -> Vec<Stored> {
    let stream = world.js.get_stream(EVENTS).await.unwrap();
    let count = stream.get_info().await.unwrap().state.messages;
    let config = Config { ack_policy: AckPolicy::None, ..Config::default() };
    let messages = stream.create_consumer(config).await.unwrap().messages().await.unwrap();
    let messages = messages.take(usize::try_from(count).unwrap()).map(|message| {
        let message = message.unwrap();
        Stored {
            subject: message.subject.to_string(),
            headers: message.headers.clone().unwrap_or_default(),
            data: String::from_utf8_lossy(&message.payload).into_owned(),
        }
    });
    let all = tokio::time::timeout(Duration::from_secs(30), messages.collect::<Vec<_>>());
    if count == 0 { Vec::new() } else { all.await.unwrap() }
}

/// The ids of the events of each key, in the order of the event store.
fn by_key(stored: &[Stored]) -> BTreeMap<String, Vec<String>> {
    let mut keys = BTreeMap::<String, Vec<String>>::new();
    for one in stored {
        let key = one.header("ce-partitionkey").to_owned();
        keys.entry(key).or_default().push(one.header("ce-id").to_owned());
    }
    keys
}

async fn until_stored(world: &World, count: u64) {
    eventually("all is stored", async || world.stored(EVENTS).await >= count).await;
}

/// How the outbox stands, as the sidecar says.
async fn standing(world: &World) -> serde_json::Value {
    get(world.local, "/v1/status").await.json()["outbox"].clone()
}
