//! Projections: events become rows of the service's own database, each with its
//! effect once.

mod database;
mod events;
mod kills;
mod rebuild;

use murmur_mesh::stream::DEAD_LETTERS;
use serde_json::{Value, json};

use crate::support::{Database, Engine, Setup, World, eventually, get};

/// Tables in which a repeated effect shows, and the order of effects.
fn schema(engine: Engine) -> String {
    let counting = match engine {
        Engine::Sqlite => "place INTEGER PRIMARY KEY AUTOINCREMENT",
        Engine::Postgres => "place BIGSERIAL PRIMARY KEY",
    };
    format!(
        "CREATE TABLE IF NOT EXISTS applied ({counting}, id TEXT NOT NULL);\n\
         CREATE TABLE IF NOT EXISTS sums (key TEXT PRIMARY KEY, total INTEGER NOT NULL CHECK (total < 1000000));\n\
         CREATE INDEX IF NOT EXISTS by_total ON sums (total)"
    )
}

/// Murmur's own table, in which the position stands.
fn positions(engine: Engine) -> &'static str {
    match engine {
        Engine::Sqlite => "murmur_projections",
        Engine::Postgres => "murmur.projections",
    }
}

const SQL: &str = "INSERT INTO applied (id) VALUES (:id);\n\
    INSERT INTO sums VALUES (:partitionkey, :data.n) \
    ON CONFLICT (key) DO UPDATE SET total = sums.total + excluded.total";

fn projection(engine: Engine) -> Value {
    json!({
        "name": "model",
        "ordering": {"policy": "key", "shards": 1},
        "projection": {
            "tables": ["applied", "sums"],
            "onChange": "rebuild",
            "schema": schema(engine),
            "on": [{"type": "T", "sql": SQL}],
        },
        "retry": {"maxAttempts": 3, "initialDelay": 50, "factor": 2, "maxDelay": 200},
        "deadLetter": "keep",
    })
}

async fn world(database: &Database, projection: Value, sidecar: bool) -> World {
    World::start(Setup {
        subscriptions: vec![projection],
        database: Some(database.settings()),
        sidecar,
        ..Setup::default()
    })
    .await
}

async fn store(world: &World, id: usize, key: &str, data: &str) {
    let subject = murmur_mesh::subject::event(
        &"filler".parse().unwrap(),
        murmur_mesh::partition::Partition::of(key),
        &"T".parse().unwrap(),
    );
    world.store_at(subject, &id.to_string(), key, data).await.await.unwrap();
}

async fn fill(world: &World, ids: std::ops::RangeInclusive<usize>) {
    for id in ids {
        store(world, id, &format!("k{}", id % 3), r#"{"n": 1}"#).await;
    }
}

/// Ids in the order in which they had their effect.
async fn applied(database: &Database) -> Vec<usize> {
    let rows = database.try_texts("SELECT id FROM applied ORDER BY place").await.unwrap_or_default();
    rows.iter().map(|id| id.parse().unwrap()).collect()
}

async fn total(database: &Database) -> usize {
    database.texts("SELECT sum(total) FROM sums").await[0].parse().unwrap()
}

async fn until_applied(database: &Database, ids: impl IntoIterator<Item = usize>) {
    let ids: Vec<usize> = ids.into_iter().collect();
    eventually("all are applied", async || applied(database).await.len() >= ids.len()).await;
    assert_eq!(applied(database).await, ids);
}

async fn held(world: &World) -> String {
    let status = get(world.local, "/v1/status").await.json();
    status["subscriptions"][0]["held"].as_str().unwrap_or_default().to_owned()
}

async fn until_held(world: &World, word: &str) {
    eventually(&format!("it holds because of {word}"), async || held(world).await.contains(word)).await;
}

/// The cause of each dead letter.
async fn causes(world: &World) -> Vec<String> {
    let mut causes = Vec::new();
    for sequence in 1..=world.stored(DEAD_LETTERS).await {
        let letter = world.message(DEAD_LETTERS, sequence).await;
        causes.push(letter.headers.get("murmur-dead-cause").map(ToString::to_string).unwrap_or_default());
    }
    causes
}

/// Tests that are the same for both databases.
macro_rules! on_both {
    ($($name:ident),* $(,)?) => {
        mod sqlite { $(#[tokio::test] async fn $name() { super::$name(super::Engine::Sqlite).await; })* }
        mod postgres { $(#[tokio::test] async fn $name() { super::$name(super::Engine::Postgres).await; })* }
    };
}

use on_both;
