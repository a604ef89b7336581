//! A projection of a backlog, beside a bare program that does the same inserts, as
//! many to a transaction, and acknowledges what it has committed.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use async_nats::HeaderMap;
use async_nats::jetstream::consumer::PullConsumer;
use async_nats::jetstream::{self, Message};
use futures::StreamExt;
use futures::future::try_join_all;
use murmur_mesh::config::{LogLevel, On, OnChange, Projection, StreamIdentity, Subscription, Target};
use murmur_mesh::durable::PIN_GROUP;
use murmur_mesh::stream;
use murmur_test_support::process::memory;
use murmur_test_support::{Postgres, Sidecar, mesh};
use serde::Deserialize;
use tempfile::TempDir;

use super::Arguments;
use super::bed::{Bed, UNSYNCED};
use super::loads::BARE_SUBJECT;
use crate::alone;
use crate::table::{Bar, Table, largest, median};

/// How long a round may take.
const PATIENCE: Duration = Duration::from_secs(180);
/// Events in a transaction of the bare program: as many as the sidecar may hold.
const TRANSACTION: usize = 512;
const SCHEMA: &str = "CREATE TABLE products (id BIGINT PRIMARY KEY, title TEXT, image TEXT)";
const UPSERT: &str = "ON CONFLICT (id) DO UPDATE SET title = excluded.title, image = excluded.image";

/// Where the tables are, new for each round.
enum Database {
    Sqlite(TempDir),
    Postgres(Box<Postgres>),
}

/// What a bare program reads of an event.
#[derive(Deserialize)]
struct Product {
    id: i64,
    title: String,
    image: String,
}

/// Measures it for both databases.
///
/// # Errors
/// When a server cannot be started, or events are not applied.
pub async fn measure(arguments: &Arguments, table: &mut Table) -> Result<()> {
    for engine in ["SQLite", "Postgres"] {
        let scenario = format!("project {} into {engine}", arguments.backlog);
        if !arguments.wants(&scenario) {
            continue;
        }
        let bed = Bed::with(UNSYNCED).await?;
        fill(&bed, arguments.backlog).await.context("the backlog could not be stored")?;
        let (mut projected, mut bare, mut peak) = (vec![], vec![], vec![]);
        for round in 0..arguments.rounds.min(3) {
            let database = Database::start(engine).await?;
            let (rate, used) = with_sidecar(&bed, arguments, &database, round).await?;
            projected.push(rate);
            peak.push(used);
            let database = Database::start(engine).await?;
            bare.push(without(&bed, arguments, &database, round).await?);
        }
        let (projected, bare) = (median(projected), median(bare));
        table.add(&scenario, "throughput", "events/s", projected, Some(bare), Bar::RatioAtLeast(0.7));
        table.add(&scenario, "peak memory", "MB", largest(&peak), None, Bar::AtMost(48.0));
    }
    Ok(())
}

impl Database {
    async fn start(engine: &str) -> Result<Self> {
        if engine == "Postgres" {
            return Ok(Self::Postgres(Box::new(Postgres::start(&[]).await?)));
        }
        let folder = tempfile::tempdir()?;
        let connection = rusqlite::Connection::open(folder.path().join("service.db"))?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        Ok(Self::Sqlite(folder))
    }

    fn environment(&self) -> Result<(&'static str, PathBuf)> {
        Ok(match self {
            Self::Sqlite(folder) => ("MURMUR_DATABASE_PATH", folder.path().join("service.db")),
            Self::Postgres(server) => ("MURMUR_DATABASE", server.credentials()?),
        })
    }

    /// Looks into it as a reader of the service's would: over one connection, or what looks on costs more than
    /// what is measured.
    async fn reader(&self) -> Result<Reader> {
        Ok(match self {
            Self::Sqlite(folder) => {
                Reader::Sqlite(rusqlite::Connection::open(folder.path().join("service.db"))?)
            }
            Self::Postgres(server) => Reader::Postgres(server.connect("service", "service").await?),
        })
    }
}

enum Reader {
    Sqlite(rusqlite::Connection),
    Postgres(tokio_postgres::Client),
}

impl Reader {
    /// How many products are in, as they come in the order of their ids; 0 without the table.
    async fn products(&self) -> u64 {
        let highest = "SELECT max(id) FROM products";
        let read: Option<i64> = match self {
            Self::Sqlite(connection) => {
                connection.query_row(highest, [], |row| row.get::<_, Option<i64>>(0)).ok().flatten()
            }
            Self::Postgres(client) => {
                client.query_one(highest, &[]).await.ok().and_then(|row| row.try_get(0).ok())
            }
        };
        read.map_or(0, i64::unsigned_abs)
    }
}

async fn fill(bed: &Bed, count: u64) -> Result<()> {
    let client = bed.client().await?;
    let mut waiting = Vec::new();
    for id in 1..=count {
        let mut headers = HeaderMap::new();
        let number = id.to_string();
        for (name, value) in [
            ("murmur-format", "1"),
            ("ce-specversion", "1.0"),
            ("ce-id", number.as_str()),
            ("ce-source", "/mesh/bare"),
            ("ce-type", mesh::EVENT_TYPE),
            ("ce-datacontenttype", "application/json"),
        ] {
            headers.insert(name, value);
        }
        let data = format!(
            r#"{{"id":{id},"title":"Product number {id}","image":"product-{id}.jpeg","price":{id}.5,"description":"{}"}}"#,
            "x".repeat(100)
        );
        waiting.push(client.publish_with_headers(BARE_SUBJECT, headers, data.into()).await?);
        if waiting.len() == 256 {
            for stored in waiting.drain(..) {
                stored.await?;
            }
        }
    }
    for stored in waiting {
        stored.await?;
    }
    Ok(())
}

fn subscription(name: &str) -> Result<Subscription> {
    let sql = format!("INSERT INTO products VALUES (:data.id, :data.title, :data.image?) {UPSERT}");
    Ok(Subscription {
        target: Target::Projection(Projection {
            tables: vec!["products".to_owned()],
            on_change: OnChange::Rebuild,
            schema: SCHEMA.to_owned(),
            on: vec![On { event_type: mesh::EVENT_TYPE.parse()?, sql }],
        }),
        ..mesh::subscription(name, 1)?
    })
}

async fn with_sidecar(
    bed: &Bed,
    arguments: &Arguments,
    database: &Database,
    round: u32,
) -> Result<(f64, f64)> {
    let subscription = subscription(&format!("round-{round}"))?;
    mesh::durables(&bed.client().await?, &subscription).await?;
    let mut config = mesh::config(vec![subscription])?;
    config.event_store = Some(StreamIdentity("2026-11-21T09:00:00Z".to_owned()));
    config.log_level = LogLevel::Warn;
    let (name, path) = database.environment()?;
    let environment = [(name, path.to_str().context("a path that is no text")?)];
    let sidecar =
        Sidecar::start(Path::new(&arguments.sidecar), &bed.broker().url(), &config, &environment).await?;
    let reader = &database.reader().await?;
    let until = |count: u64| async move {
        let began = Instant::now();
        loop {
            let products = reader.products().await;
            if products >= count {
                return Ok((Instant::now(), products));
            }
            if began.elapsed() > PATIENCE {
                bail!("{products} of {} events were applied within {PATIENCE:?}", arguments.backlog);
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let (began, first) = until(1).await?;
    let (ended, _) = until(arguments.backlog).await?;
    let rate = (arguments.backlog - first) as f64 / ended.duration_since(began).as_secs_f64();
    Ok((rate, memory(sidecar.pid()?, "VmHWM")?))
}

async fn without(bed: &Bed, arguments: &Arguments, database: &Database, round: u32) -> Result<f64> {
    let subscription = subscription(&format!("bare-{round}"))?;
    mesh::durables(&bed.client().await?, &subscription).await?;
    let (_, durable) = subscription.durables().next().context("a subscription without a durable")?;
    let (url, count) = (bed.broker().url(), arguments.backlog);
    let writer = match database {
        Database::Sqlite(folder) => Where::Sqlite(folder.path().join("service.db")),
        Database::Postgres(server) => Where::Postgres(server.port()),
    };
    alone::run(move || async move {
        tokio::time::timeout(PATIENCE, bare(url, durable.to_string(), count, writer)).await?
    })
    .await?
    .result
}

enum Where {
    Sqlite(PathBuf),
    Postgres(u16),
}

/// A connection of the bare program.
enum Writer {
    Sqlite(rusqlite::Connection),
    Postgres(tokio_postgres::Client, tokio_postgres::Statement),
}

impl Writer {
    async fn open(place: Where) -> Result<Self> {
        match place {
            Where::Sqlite(path) => {
                let connection = rusqlite::Connection::open(path)?;
                connection.pragma_update(None, "synchronous", "NORMAL")?;
                connection.execute_batch(SCHEMA)?;
                Ok(Self::Sqlite(connection))
            }
            Where::Postgres(port) => {
                let text = format!("host=127.0.0.1 port={port} user=service password=secret dbname=service");
                let (client, connection) = tokio_postgres::connect(&text, tokio_postgres::NoTls).await?;
                tokio::spawn(connection);
                client.batch_execute(SCHEMA).await?;
                let insert =
                    client.prepare(&format!("INSERT INTO products VALUES ($1, $2, $3) {UPSERT}")).await?;
                Ok(Self::Postgres(client, insert))
            }
        }
    }

    async fn write(&mut self, products: &[Product]) -> Result<()> {
        match self {
            Self::Sqlite(connection) => {
                let transaction = connection.transaction()?;
                {
                    let sql = format!("INSERT INTO products VALUES (?1, ?2, ?3) {UPSERT}");
                    let mut insert = transaction.prepare_cached(&sql)?;
                    for product in products {
                        insert.execute((product.id, &product.title, &product.image))?;
                    }
                }
                Ok(transaction.commit()?)
            }
            Self::Postgres(client, insert) => {
                let transaction = client.transaction().await?;
                let run = |product: &Product| {
                    let (transaction, insert) = (&transaction, &*insert);
                    let (id, title, image) = (product.id, product.title.clone(), product.image.clone());
                    async move { transaction.execute(insert, &[&id, &title, &image]).await }
                };
                try_join_all(products.iter().map(run)).await?;
                Ok(transaction.commit().await?)
            }
        }
    }
}

async fn bare(url: String, durable: String, count: u64, place: Where) -> Result<f64> {
    let mut writer = Writer::open(place).await?;
    let client = async_nats::connect(url).await?;
    let context = jetstream::new(client.clone());
    let consumer: PullConsumer = context.get_consumer_from_stream(durable, stream::EVENTS).await?;
    let stream = consumer.stream().group(PIN_GROUP).max_messages_per_batch(TRANSACTION);
    let mut messages = stream.messages().await?.ready_chunks(TRANSACTION);
    let (mut began, mut done) = (None, 0);
    while done < count {
        let chunk = messages.next().await.context("the durable has ended")?;
        let chunk: Vec<Message> = chunk.into_iter().collect::<Result<_, _>>()?;
        began.get_or_insert_with(Instant::now);
        let products: Vec<Product> =
            chunk.iter().map(|message| serde_json::from_slice(&message.payload)).collect::<Result<_, _>>()?;
        writer.write(&products).await?;
        for message in &chunk {
            message
                .ack()
                .await
                .map_err(|error| anyhow::anyhow!("an acknowledgement could not be sent: {error}"))?;
        }
        done += chunk.len() as u64;
    }
    let rate = count as f64 / began.context("nothing was waited for")?.elapsed().as_secs_f64();
    client.flush().await?;
    Ok(rate)
}
