//! End to end at a fixed rate: from the moment at which an event is due to be
//! published until it arrives. Through two sidecars, the publishing service's and
//! the receiving one's, as in production; and beside it bare on both ends: a
//! publisher that waits for its acknowledgement, and a consumer that acknowledges.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use http::StatusCode;
use murmur_mesh::config::SidecarConfig;
use murmur_test_support::mesh;
use murmur_test_support::process::{cpu_seconds, memory};
use tokio::sync::oneshot;

use super::bed::{Bed, SYNCED, UNSYNCED, subscription};
use super::loads::{BARE_SUBJECT, Bodies, Shape, bare, body, over_http};
use super::side::Side;
use super::{Arguments, consume};
use crate::arrivals::Arrivals;
use crate::receiver::Receiver;
use crate::table::{Bar, Table, largest};

/// Events a second.
const RATE: u32 = 1000;

/// Measures it.
///
/// # Errors
/// When an event is refused or does not arrive.
pub async fn measure(arguments: &Arguments, table: &mut Table) -> Result<()> {
    for sync in [UNSYNCED, SYNCED] {
        let scenario = format!("end to end, {RATE}/s, {}", sync.name);
        if !arguments.wants(&scenario) {
            continue;
        }
        let time = Duration::from_secs(arguments.seconds * 3);
        let (mut through, mut without, mut peak) = (Side::default(), Side::default(), vec![]);
        for _ in 0..arguments.rounds {
            // Each turn has a broker of its own: neither side's durable sees the other's events.
            peak.push(with_sidecars(&Bed::with(sync).await?, &arguments.sidecar, time, &mut through).await?);
            without_sidecars(&Bed::with(sync).await?, time, &mut without).await?;
        }
        let mut add = |figure, unit, murmur, bare, bar| table.add(&scenario, figure, unit, murmur, bare, bar);
        add("throughput", "events/s", through.rate(), Some(without.rate()), Bar::None);
        add("p50", "ms", through.p50(), Some(without.p50()), Bar::RatioAtMost(1.8));
        add("p99", "ms", through.p99(), Some(without.p99()), Bar::RatioAtMost(2.0));
        add("p99.9", "ms", through.p999(), Some(without.p999()), Bar::None);
        add("CPU of both ends", "s/million", through.cpu(), Some(without.cpu()), Bar::None);
        add(
            "CPU with the broker's",
            "s/million",
            through.cpu() + through.broker(),
            Some(without.cpu() + without.broker()),
            Bar::None,
        );
        add("peak memory, receiving", "MB", largest(&peak), None, Bar::None);
    }
    Ok(())
}

/// Gives the peak memory of the sidecar that receives.
async fn with_sidecars(bed: &Bed, binary: &Path, time: Duration, side: &mut Side) -> Result<f64> {
    let arrivals = Arrivals::new();
    let receiver = Receiver::start(arrivals.clone())?;
    let subscription = subscription("ticks", receiver.port)?;
    mesh::durables(&bed.client().await?, &subscription).await?;
    let receiving = bed.sidecar(binary, vec![subscription]).await?.sidecar;
    let publisher = SidecarConfig { service: "feed".parse()?, ..mesh::config(vec![])? };
    let publishing = bed.sidecar_with(binary, publisher).await?.sidecar;
    arrivals.until(2).await.context("what the sidecars publish at their start")?;

    let pids = [publishing.pid()?, receiving.pid()?];
    let used = || pids.iter().map(|pid| cpu_seconds(*pid)).sum::<Result<f64>>();
    let broker = bed.broker().pid()?;
    let before = (used()?, cpu_seconds(broker)?);
    let bodies = Bodies::Timed(arrivals.clone());
    let published =
        over_http(publishing.port, Shape::Rate(RATE), time, StatusCode::OK, bodies).await?.result?;
    let load = arrivals.load(published.latencies.len()).await?;
    side.add(&load, used()? - before.0, cpu_seconds(broker)? - before.1);
    memory(receiving.pid()?, "VmHWM")
}

async fn without_sidecars(bed: &Bed, time: Duration, side: &mut Side) -> Result<()> {
    let arrivals = Arrivals::new();
    let subscription = subscription("ticks", 1)?;
    let client = bed.client().await?;
    mesh::durables(&client, &subscription).await?;
    let (_, durable) = subscription.durables().next().context("a subscription without a durable")?;
    let (end, ended) = oneshot::channel();
    let consuming = consume::live(bed.broker().url(), durable.to_string(), arrivals.clone(), ended);
    let consuming = tokio::spawn(consuming);
    client.publish(BARE_SUBJECT, body()).await?.await?;
    arrivals.until(1).await.context("what the bare client publishes at its start")?;

    let broker = bed.broker().pid()?;
    let before = cpu_seconds(broker)?;
    let bodies = Bodies::Timed(arrivals.clone());
    let published = bare(bed.broker().url(), Shape::Rate(RATE), time, bodies).await?;
    let load = arrivals.load(published.result?.latencies.len()).await?;
    let broker = cpu_seconds(broker)? - before;
    // It has ended already only by a failure, which its result tells.
    let _ = end.send(());
    let consumed = consuming.await.context("the bare consumer has ended")??;
    consumed.result?;
    side.add(&load, published.cpu + consumed.cpu, broker);
    Ok(())
}
