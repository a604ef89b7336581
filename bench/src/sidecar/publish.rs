//! Publishing: clients that each wait for their answer, and clients that keep a
//! fixed rate, through the sidecar and without it, with both sync settings.
//!
//! The floor of the CPU is what cannot be saved: an HTTP server that answers 204
//! under the same load, and a bare client of the bus. Both in one are a relay
//! of hyper and async-nats and nothing else: so much of the bare client's throughput
//! can be had with them, on the same cores; without them it is more. Where messages are
//! synced and many clients wait it stores the events of all of them as one atomic batch;
//! so does a bare client, without HTTP.

use std::time::Duration;

use anyhow::Result;
use http::StatusCode;
use murmur_test_support::Sidecar;
use murmur_test_support::process::{cpu_seconds, memory};

use super::Arguments;
use super::bed::{Bed, SYNCED, UNSYNCED};
use super::loads::{BARE_SUBJECT, Bodies, Shape, bare, bare_batches, body, over_http};
use super::side::Side;
use crate::floor::Floor;
use crate::table::{Bar, Table, median};

/// The bars that issue 2 of 3 sets for a scenario.
#[derive(Clone, Copy)]
struct Bars {
    throughput: Bar,
    p50: Bar,
    p99: Bar,
    cpu: Bar,
    memory: Bar,
}

const NO_BARS: Bars =
    Bars { throughput: Bar::None, p50: Bar::None, p99: Bar::None, cpu: Bar::None, memory: Bar::None };

fn bars(shape: Shape, synced: bool) -> Bars {
    let memory = match shape {
        Shape::Clients(64) => Bar::AtMost(24.0),
        Shape::Clients(256) => Bar::AtMost(48.0),
        _ => Bar::None,
    };
    let bars = Bars { memory, ..NO_BARS };
    match (shape, synced) {
        (Shape::Clients(64), false) => {
            Bars { throughput: Bar::RatioAtLeast(0.6), cpu: Bar::RatioAtMost(1.6), ..bars }
        }
        (Shape::Rate(1000), false) => Bars { p50: Bar::RatioAtMost(1.6), p99: Bar::RatioAtMost(2.0), ..bars },
        (Shape::Rate(5000), false) => Bars { p99: Bar::RatioAtMost(3.0), ..bars },
        (Shape::Clients(1), true) => Bars { p50: Bar::RatioAtMost(1.5), ..bars },
        (Shape::Clients(64), true) => Bars { throughput: Bar::RatioAtLeast(3.0), ..bars },
        (Shape::Clients(256), true) => Bars { throughput: Bar::RatioAtLeast(5.0), ..bars },
        _ => bars,
    }
}

/// Measures all of it.
///
/// # Errors
/// When an event is refused.
pub async fn measure(arguments: &Arguments, table: &mut Table) -> Result<()> {
    for sync in [UNSYNCED, SYNCED] {
        for shape in [
            Shape::Clients(1),
            Shape::Clients(16),
            Shape::Clients(64),
            Shape::Clients(256),
            Shape::Rate(1000),
            Shape::Rate(5000),
        ] {
            let scenario = format!("publish, {shape}, {}", sync.name);
            if !arguments.wants(&scenario) {
                continue;
            }
            let bed = Bed::with(sync).await?;
            one_scenario(arguments, table, &bed, &scenario, shape, sync.synced).await?;
        }
    }
    Ok(())
}

async fn one_scenario(
    arguments: &Arguments,
    table: &mut Table,
    bed: &Bed,
    scenario: &str,
    shape: Shape,
    synced: bool,
) -> Result<()> {
    let bars = bars(shape, synced);
    let time = Duration::from_secs(arguments.seconds);
    let sidecar = bed.sidecar(&arguments.sidecar, vec![]).await?.sidecar;
    let bodies = Bodies::Same(body());
    let (echo, broker) = (Floor::answering().await?, bed.broker().pid()?);
    // Where messages are synced, many at once are quicker.
    let together = match shape {
        Shape::Clients(clients @ 64..) if synced => Some(clients),
        _ => None,
    };
    let relay = Floor::storing(&bed.broker().url(), BARE_SUBJECT, together).await?;
    let mut batches = vec![];
    let [mut through, mut without, mut floor, mut leanest] = std::array::from_fn(|_| Side::default());
    for _ in 0..arguments.rounds {
        let before = (used(&sidecar)?, cpu_seconds(broker)?);
        let load = over_http(sidecar.port, shape, time, StatusCode::OK, bodies.clone()).await?.result?;
        through.add(&load, used(&sidecar)? - before.0, cpu_seconds(broker)? - before.1);

        let before = cpu_seconds(broker)?;
        let ran = bare(bed.broker().url(), shape, time, bodies.clone()).await?;
        without.add(&ran.result?, ran.cpu, cpu_seconds(broker)? - before);

        if let Some(size) = together {
            batches.push(bare_batches(bed.broker().url(), size, time / 2).await?);
        }

        for (server, side) in [(&echo, &mut floor), (&relay, &mut leanest)] {
            let before = (cpu_seconds(server.pid()?)?, cpu_seconds(broker)?);
            let load = over_http(server.port, shape, time / 2, StatusCode::NO_CONTENT, bodies.clone());
            let load = load.await?.result?;
            side.add(&load, cpu_seconds(server.pid()?)? - before.0, cpu_seconds(broker)? - before.1);
        }
    }
    let peak = memory(sidecar.pid()?, "VmHWM")?;
    let mut add = |figure, unit, murmur, bare, bar| table.add(scenario, figure, unit, murmur, bare, bar);
    let cpu_floor = floor.cpu() + without.cpu();
    add("throughput", "events/s", through.rate(), Some(without.rate()), bars.throughput);
    add("throughput (bare: the leanest relay)", "events/s", through.rate(), Some(leanest.rate()), Bar::None);
    if !batches.is_empty() {
        let batches = Some(median(batches));
        add("throughput (bare: batches, without HTTP)", "events/s", through.rate(), batches, Bar::None);
    }
    add("p50", "ms", through.p50(), Some(without.p50()), bars.p50);
    add("p99", "ms", through.p99(), Some(without.p99()), bars.p99);
    add("p99 (bare: the leanest relay)", "ms", through.p99(), Some(leanest.p99()), Bar::None);
    add("p99.9", "ms", through.p999(), Some(without.p999()), Bar::None);
    add("CPU (bare: the floor)", "s/million", through.cpu(), Some(cpu_floor), bars.cpu);
    add(
        "CPU with the broker's",
        "s/million",
        through.cpu() + through.broker(),
        Some(without.cpu() + without.broker()),
        Bar::None,
    );
    add("peak memory", "MB", peak, None, bars.memory);
    Ok(())
}

fn used(sidecar: &Sidecar) -> Result<f64> {
    cpu_seconds(sidecar.pid()?)
}
