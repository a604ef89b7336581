//! Delivery of a backlog: through the sidecar to a service that answers 204 at
//! once, and to a bare consumer that acknowledges at once. And what a sidecar
//! with nothing to do costs.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use futures::StreamExt;
use murmur_mesh::config::Ordering;
use murmur_mesh::event::{Defaults, Draft};
use murmur_mesh::wire;
use murmur_test_support::mesh;
use murmur_test_support::process::{cpu_seconds, memory};

use super::Arguments;
use super::bed::{Bed, Started, subscription};
use super::publish::body;
use crate::http::Receiver;
use crate::table::{Bar, Table, median};

/// Measures delivery, and memory and CPU when idle.
///
/// # Errors
/// When events do not arrive.
pub async fn measure(arguments: &Arguments, table: &mut Table) -> Result<()> {
    let bed = Bed::start().await?;
    fill(&bed, arguments.backlog).await?;
    let receiver = Receiver::start().await?;
    let (mut through, mut bare, mut cpu, mut peak) = (vec![], vec![], vec![], vec![]);
    let (mut started, mut first_publish) = (vec![], vec![]);
    for round in 0..arguments.rounds {
        let name = format!("round-{round}");
        let subscription = subscription(&name, receiver.port)?;
        mesh::durables(&bed.client().await?, &subscription).await?;
        receiver.reset();
        let Started { sidecar, started: ready, first_publish: published } =
            bed.sidecar(&arguments.sidecar, vec![subscription]).await?;
        through.push(receiver.rate_of(arguments.backlog).await?);
        cpu.push(cpu_seconds(sidecar.pid()?)? / arguments.backlog as f64 * 1e6);
        peak.push(memory(sidecar.pid()?, "VmHWM")?);
        started.push(ready * 1e3);
        first_publish.push(published * 1e3);
        drop(sidecar);
        bare.push(without(&bed, &format!("bare-{round}"), arguments.backlog).await?);
    }
    let scenario = format!("deliver a backlog of {}", arguments.backlog);
    table.add(&scenario, "throughput", "events/s", median(through), Some(median(bare)), Bar::None);
    table.add(&scenario, "sidecar's CPU", "s/million", median(cpu), None, Bar::None);
    table.add(&scenario, "peak memory", "MiB", median(peak), None, Bar::AtMost(32.0));
    table.add("start, broker there", "started", "ms", median(started), None, Bar::AtMost(80.0));
    table.add("start, broker there", "first publish", "ms", median(first_publish), None, Bar::AtMost(80.0));
    idle(arguments, table, receiver.port).await
}

async fn idle(arguments: &Arguments, table: &mut Table, port: u16) -> Result<()> {
    let bed = Bed::start().await?;
    let mut subscription = subscription("idle", port)?;
    // What a subscription has that says nothing about it.
    subscription.ordering = Ordering::Key { shards: 4 };
    mesh::durables(&bed.client().await?, &subscription).await?;
    let sidecar = bed.sidecar(&arguments.sidecar, vec![subscription]).await?.sidecar;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let (began, before) = (Instant::now(), cpu_seconds(sidecar.pid()?)?);
    tokio::time::sleep(Duration::from_secs(10)).await;
    let share = (cpu_seconds(sidecar.pid()?)? - before) / began.elapsed().as_secs_f64() * 100.0;
    table.add(
        "idle, one subscription",
        "resident memory",
        "MiB",
        memory(sidecar.pid()?, "VmRSS")?,
        None,
        Bar::AtMost(12.0),
    );
    table.add("idle, one subscription", "CPU", "% of a core", share, None, Bar::AtMost(0.2));
    Ok(())
}

struct Fixed(u64);

impl Defaults for Fixed {
    fn id(&self) -> String {
        format!("event-{}", self.0)
    }
    fn source(&self) -> String {
        "/bench/feed".to_owned()
    }
    fn time(&self) -> String {
        "2026-11-21T09:00:00Z".to_owned()
    }
}

/// Stores events as a sidecar would, many keys.
async fn fill(bed: &Bed, count: u64) -> Result<()> {
    let context = bed.client().await?;
    let service = "feed".parse()?;
    let mut window = futures::stream::FuturesOrdered::new();
    for number in 0..count {
        let mut draft = Draft::default();
        draft.set("type", "Tick".to_owned())?;
        draft.set("datacontenttype", "application/json".to_owned())?;
        draft.set_data(body());
        let event = draft.complete(&Fixed(number))?;
        let mut headers = async_nats::HeaderMap::new();
        for (name, value) in wire::headers(&event) {
            headers.insert(name.as_ref(), value.as_ref());
        }
        let subject = event.subject(&service);
        window.push_back(
            context.publish_with_headers(subject, headers, event.into_data()).await?.into_future(),
        );
        if window.len() > 255 {
            window.next().await.context("empty window")??;
        }
    }
    while let Some(ack) = window.next().await {
        ack?;
    }
    Ok(())
}

async fn without(bed: &Bed, name: &str, count: u64) -> Result<f64> {
    let mut subscription = subscription(name, 1)?;
    subscription.ordering = Ordering::None;
    let consumer = mesh::durables(&bed.client().await?, &subscription).await?.pop().context("no durable")?;
    let mut messages = consumer.messages().await?;
    let mut began = None;
    for _ in 0..count {
        let message = messages.next().await.context("no more messages")??;
        began.get_or_insert_with(Instant::now);
        message.ack().await.map_err(|error| anyhow::anyhow!("ack: {error}"))?;
    }
    Ok((count - 1) as f64 / began.context("nothing came")?.elapsed().as_secs_f64())
}
