//! Publishing: clients that each wait for their answer, and clients that keep a
//! fixed rate, through the sidecar and without it, with both sync settings.
//!
//! The floor of the CPU is what cannot be saved: an HTTP server that answers 204
//! under the same load, and a bare client of the bus.

mod loads;

use std::time::Duration;

use anyhow::Result;
use bytes::Bytes;
use murmur_test_support::Sidecar;
use murmur_test_support::process::{cpu_seconds, memory};

use self::loads::{Shape, bare, over_http};
use super::Arguments;
use super::bed::{Bed, SYNCED, UNSYNCED};
use crate::echo::Echo;
use crate::load::Load;
use crate::table::{Bar, Table, median, quantile};

/// 1 KiB of JSON.
pub fn body() -> Bytes {
    Bytes::from(format!("{{\"filler\":\"{}\"}}", "x".repeat(1024 - 13)))
}

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

/// What the rounds of one side gave.
#[derive(Default)]
struct Side {
    rate: Vec<f64>,
    p50: Vec<f64>,
    p99: Vec<f64>,
    p999: Vec<f64>,
    events: usize,
    /// CPU seconds of the side itself, and of the broker meanwhile.
    cpu: f64,
    broker: f64,
}

impl Side {
    fn add(&mut self, load: &Load, cpu: f64, broker: f64) {
        self.rate.push(load.rate);
        self.p50.push(quantile(&load.latencies, 0.5) * 1e3);
        self.p99.push(quantile(&load.latencies, 0.99) * 1e3);
        self.p999.push(quantile(&load.latencies, 0.999) * 1e3);
        self.events += load.latencies.len();
        self.cpu += cpu;
        self.broker += broker;
    }

    /// CPU seconds of a million events.
    fn million(&self, cpu: f64) -> f64 {
        cpu / self.events.max(1) as f64 * 1e6
    }
}

/// Measures all of it.
///
/// # Errors
/// When an event is refused.
pub async fn measure(arguments: &Arguments, table: &mut Table) -> Result<()> {
    for (jetstream, synced) in [(UNSYNCED, false), (SYNCED, true)] {
        for shape in [
            Shape::Clients(1),
            Shape::Clients(16),
            Shape::Clients(64),
            Shape::Clients(256),
            Shape::Rate(1000),
            Shape::Rate(5000),
        ] {
            let scenario = format!("publish, {shape}, {}", if synced { "synced" } else { "default sync" });
            if !arguments.wants(&scenario) {
                continue;
            }
            let bed = Bed::with(jetstream).await?;
            one_scenario(arguments, table, &bed, &scenario, shape, bars(shape, synced)).await?;
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
    bars: Bars,
) -> Result<()> {
    let time = Duration::from_secs(arguments.seconds);
    let sidecar = bed.sidecar(&arguments.sidecar, vec![]).await?.sidecar;
    let (echo, broker) = (Echo::start().await?, bed.broker().pid()?);
    let (mut through, mut without, mut floor) = (Side::default(), Side::default(), Side::default());
    for _ in 0..arguments.rounds {
        let before = (used(&sidecar)?, cpu_seconds(broker)?);
        let load = over_http(sidecar.port, shape, time, false).await?.result?;
        through.add(&load, used(&sidecar)? - before.0, cpu_seconds(broker)? - before.1);

        let before = cpu_seconds(broker)?;
        let ran = bare(bed.broker().url(), shape, time).await?;
        without.add(&ran.result?, ran.cpu, cpu_seconds(broker)? - before);

        let before = cpu_seconds(echo.pid()?)?;
        let load = over_http(echo.port, shape, time / 2, true).await?.result?;
        floor.add(&load, cpu_seconds(echo.pid()?)? - before, 0.0);
    }
    let peak = memory(sidecar.pid()?, "VmHWM")?;
    let mut add = |figure, unit, murmur, bare, bar| table.add(scenario, figure, unit, murmur, bare, bar);
    let cpu_floor = floor.million(floor.cpu) + without.million(without.cpu);
    let all = |side: &Side| side.million(side.cpu + side.broker);
    add(
        "throughput",
        "events/s",
        median(through.rate.clone()),
        Some(median(without.rate.clone())),
        bars.throughput,
    );
    add("p50", "ms", median(through.p50.clone()), Some(median(without.p50.clone())), bars.p50);
    add("p99", "ms", median(through.p99.clone()), Some(median(without.p99.clone())), bars.p99);
    add("p99.9", "ms", median(through.p999.clone()), Some(median(without.p999.clone())), Bar::None);
    add("CPU (bare: the floor)", "s/million", through.million(through.cpu), Some(cpu_floor), bars.cpu);
    add("CPU with the broker's", "s/million", all(&through), Some(all(&without)), Bar::None);
    add("peak memory", "MiB", peak, None, bars.memory);
    Ok(())
}

fn used(sidecar: &Sidecar) -> Result<f64> {
    cpu_seconds(sidecar.pid()?)
}
