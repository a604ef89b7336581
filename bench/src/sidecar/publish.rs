//! Publishing: many clients, each waiting for its answer, through the sidecar
//! and without it.

use std::time::Duration;

use anyhow::Result;
use bytes::Bytes;
use murmur_test_support::http::connect;
use murmur_test_support::process::{cpu_seconds, memory};

use super::Arguments;
use super::bed::Bed;
use crate::http::{self, Loop};
use crate::table::{Bar, Table, median, quantile};

/// 1 KiB of JSON.
pub fn body() -> Bytes {
    Bytes::from(format!("{{\"filler\":\"{}\"}}", "x".repeat(1024 - 13)))
}

/// What the rounds of one side gave.
#[derive(Default)]
struct Side {
    rate: Vec<f64>,
    p50: Vec<f64>,
    p99: Vec<f64>,
}

impl Side {
    fn add(&mut self, round: &Loop) {
        self.rate.push(round.rate);
        self.p50.push(quantile(&round.latencies, 0.5) * 1e3);
        self.p99.push(quantile(&round.latencies, 0.99) * 1e3);
    }
}

/// Measures publishing at 1 and at 64 clients.
///
/// # Errors
/// When an event is refused.
pub async fn measure(arguments: &Arguments, table: &mut Table) -> Result<()> {
    let time = Duration::from_secs(arguments.seconds);
    for clients in [1, 64] {
        let bed = Bed::start().await?;
        let sidecar = bed.sidecar(&arguments.sidecar, vec![]).await?.sidecar;
        let (mut through, mut bare) = (Side::default(), Side::default());
        let mut cpu = Vec::new();
        for _ in 0..arguments.rounds {
            let before = cpu_seconds(sidecar.pid()?)?;
            let round = through_sidecar(sidecar.port, clients, time).await?;
            let used = cpu_seconds(sidecar.pid()?)? - before;
            cpu.push(used / round.latencies.len() as f64 * 1e6);
            through.add(&round);
            bare.add(&without(&bed, clients, time).await?);
        }
        let scenario = format!("publish, {clients} clients, synced");
        // 0.6: the bar that issue 2 of 3 sets at 64 connections.
        let bar = if clients == 64 { Bar::AtLeast(0.6) } else { Bar::None };
        table.add(&scenario, "throughput", "events/s", median(through.rate), Some(median(bare.rate)), bar);
        table.add(&scenario, "p50", "ms", median(through.p50), Some(median(bare.p50)), Bar::None);
        table.add(&scenario, "p99", "ms", median(through.p99), Some(median(bare.p99)), Bar::None);
        table.add(&scenario, "sidecar's CPU", "s/million", median(cpu), None, Bar::None);
        table.add(&scenario, "peak memory", "MiB", memory(sidecar.pid()?, "VmHWM")?, None, Bar::AtMost(24.0));
    }
    Ok(())
}

async fn through_sidecar(port: u16, clients: usize, time: Duration) -> Result<Loop> {
    let mut connections = Vec::with_capacity(clients);
    for _ in 0..clients {
        connections.push((connect(port).await?, body()));
    }
    Loop::run(connections, time, |(mut sender, body)| async move {
        http::publish(&mut sender, &body).await?;
        Ok((sender, body))
    })
    .await
}

async fn without(bed: &Bed, clients: usize, time: Duration) -> Result<Loop> {
    let client = bed.client().await?;
    let clients = (0..clients).map(|number| (client.clone(), body(), number, 0_u64)).collect();
    Loop::run(clients, time, |(client, body, number, count)| async move {
        // As many headers as a careful program sets: an id that makes a repeat safe.
        let mut headers = async_nats::HeaderMap::new();
        let nanos = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_nanos();
        headers.insert("Nats-Msg-Id", format!("{number}-{count}-{nanos}"));
        client.publish_with_headers("events.bare.0.Tick", headers, body.clone()).await?.await?;
        Ok((client, body, number, count + 1))
    })
    .await
}
