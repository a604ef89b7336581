//! The outbox in SQLite and in Postgres: how long after its commit an event is
//! stored while nothing else happens, and how soon a backlog is published, beside
//! a bare program that reads the rows, publishes them with many in flight and
//! deletes them.

mod database;

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use async_nats::jetstream::consumer::AckPolicy;
use async_nats::jetstream::consumer::pull::Config;
use async_nats::jetstream::context::ContextBuilder;
use futures::StreamExt;
use futures::stream;
use murmur_mesh::config::{LogLevel, SidecarConfig, StreamIdentity};
use murmur_mesh::stream::EVENTS;
use murmur_test_support::process::memory;
use murmur_test_support::{Sidecar, mesh};
use tokio::time::{sleep, timeout};

use self::database::{Database, Kind};
use super::Arguments;
use super::bed::{Bed, SYNCED};
use super::loads::{BARE_SUBJECT, body};
use crate::table::{Bar, Table, largest, median, quantile};

/// Commits of a round while idle, each alone.
const COMMITS: usize = 200;
/// From one to the next.
const APART: Duration = Duration::from_millis(15);
/// Rows of a backlog.
const BACKLOG: usize = 50_000;
/// What the bare program reads, publishes and deletes at once.
const BARE_BATCH: usize = 256;
/// How long it waits for an acknowledgement.
const PATIENCE: Duration = Duration::from_secs(60);

/// Measures it.
///
/// # Errors
/// When a server is missing or an event does not arrive.
pub async fn measure(arguments: &Arguments, table: &mut Table) -> Result<()> {
    for kind in [Kind::Sqlite, Kind::Postgres] {
        let scenario = format!("outbox, {kind}, synced");
        if !arguments.wants(&scenario) {
            continue;
        }
        let (mut p50, mut p99, mut rates, mut bare, mut peaks) = (vec![], vec![], vec![], vec![], vec![]);
        for _ in 0..arguments.rounds {
            let delays = idle(&arguments.sidecar, kind).await?;
            p50.push(quantile(&delays, 0.5) * 1e3);
            p99.push(quantile(&delays, 0.99) * 1e3);
            let (rate, peak) = backlog(&arguments.sidecar, kind).await?;
            rates.push(rate);
            peaks.push(peak);
            bare.push(without(kind).await?);
        }
        let mut add = |figure, unit, murmur, bare, bar| table.add(&scenario, figure, unit, murmur, bare, bar);
        add("commit to stored, p50", "ms", median(p50), None, Bar::None);
        add("commit to stored, p99", "ms", median(p99), None, Bar::AtMost(50.0));
        add("backlog", "events/s", median(rates), Some(median(bare)), Bar::RatioAtLeast(0.7));
        add("peak memory", "MB", largest(&peaks), None, Bar::AtMost(48.0));
    }
    Ok(())
}

async fn bed() -> Result<Bed> {
    let bed = Bed::with(SYNCED).await?;
    mesh::outbox_durable(&bed.client().await?, mesh::SERVICE).await?;
    Ok(bed)
}

async fn sidecar(binary: &Path, bed: &Bed, database: &Database) -> Result<Sidecar> {
    let config = SidecarConfig {
        outbox: true,
        event_store: Some(StreamIdentity("the bench's".to_owned())),
        log_level: LogLevel::Warn,
        ..mesh::config(vec![])?
    };
    let (name, value) = database.environment()?;
    Sidecar::start(binary, &bed.broker().url(), &config, &[(name, &value)]).await
}

/// Seconds from each commit until a consumer has its event, sorted.
async fn idle(binary: &Path, kind: Kind) -> Result<Vec<f64>> {
    let (bed, mut database) = (bed().await?, Database::start(kind).await?);
    let _sidecar = sidecar(binary, &bed, &database).await?;
    let events = bed.client().await?.get_stream(EVENTS).await?;
    let consumer =
        events.create_consumer(Config { ack_policy: AckPolicy::None, ..Config::default() }).await?;
    let mut messages = consumer.messages().await?;
    let arriving = tokio::spawn(async move {
        let mut arrived = Vec::with_capacity(COMMITS + 1);
        while arrived.len() <= COMMITS {
            messages.next().await.context("the consumer has ended")??;
            arrived.push(Instant::now());
        }
        anyhow::Ok(arrived)
    });
    let mut committed = Vec::with_capacity(COMMITS + 1);
    for _ in 0..=COMMITS {
        database.insert(1).await?;
        committed.push(Instant::now());
        sleep(APART).await;
    }
    let arrived = timeout(Duration::from_secs(20), arriving).await.context("not all events came")???;
    // The first one waits for all that a start takes.
    let mut delays: Vec<f64> = committed
        .iter()
        .zip(arrived)
        .skip(1)
        .map(|(committed, arrived)| arrived.saturating_duration_since(*committed).as_secs_f64())
        .collect();
    delays.sort_by(f64::total_cmp);
    Ok(delays)
}

/// Rows a second of a backlog, and the sidecar's peak memory.
async fn backlog(binary: &Path, kind: Kind) -> Result<(f64, f64)> {
    let (bed, mut database) = (bed().await?, Database::start(kind).await?);
    // The tables are made, and the first row has gone.
    let mut sidecar = sidecar(binary, &bed, &database).await?;
    database.insert(1).await?;
    database.until_empty().await?;
    sidecar.end(Duration::from_secs(10)).await?;
    database.insert(BACKLOG).await?;
    let began = Instant::now();
    sidecar.resume().await?;
    database.until_empty().await?;
    let rate = BACKLOG as f64 / began.elapsed().as_secs_f64();
    Ok((rate, memory(sidecar.pid()?, "VmHWM")?))
}

/// The same by a bare program.
async fn without(kind: Kind) -> Result<f64> {
    let (bed, mut database) = (bed().await?, Database::start(kind).await?);
    database.make_bare_table().await?;
    database.insert(BACKLOG).await?;
    // Many wait for the disk together: the last of them for longer than the client's own 5 s, on a slow one.
    let client = async_nats::connect(bed.broker().url()).await?;
    let client = ContextBuilder::new().timeout(PATIENCE).build(client);
    let began = Instant::now();
    loop {
        let positions = database.read(BARE_BATCH).await?;
        if positions.is_empty() {
            break;
        }
        let published = stream::iter(&positions).map(|_| async {
            client.publish(BARE_SUBJECT, body()).await?.await?;
            anyhow::Ok(())
        });
        let mut published = published.buffer_unordered(BARE_BATCH);
        while let Some(result) = published.next().await {
            result?;
        }
        drop(published);
        database.delete(&positions).await?;
    }
    Ok(BACKLOG as f64 / began.elapsed().as_secs_f64())
}
