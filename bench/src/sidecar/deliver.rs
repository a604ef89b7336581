//! Delivery of a backlog: through the sidecar to a service that answers 204 at
//! once, and to a bare consumer that acknowledges at once.
//!
//! The floor of the CPU is what cannot be saved: that consumer, and an HTTP
//! client that sends the service as many requests.

use anyhow::{Context, Result};
use murmur_mesh::config::Subscription;
use murmur_test_support::mesh;
use murmur_test_support::process::{cpu_seconds, memory};

use super::bed::{Bed, subscription};
use super::{Arguments, consume, loads};
use crate::arrivals::Arrivals;
use crate::receiver::Receiver;
use crate::table::{Bar, Table, largest, median};

/// What one round of one side gave.
struct Round {
    /// Events a second.
    rate: f64,
    /// CPU seconds of a million events, of the side itself and of the broker.
    cpu: f64,
    broker: f64,
}

/// Measures it.
///
/// # Errors
/// When events do not arrive.
pub async fn measure(arguments: &Arguments, table: &mut Table) -> Result<()> {
    let scenario = format!("deliver a backlog of {}", arguments.backlog);
    if !arguments.wants(&scenario) {
        return Ok(());
    }
    let bed = Bed::start().await?;
    let filling = bed.sidecar(&arguments.sidecar, vec![]).await?.sidecar;
    loads::store(filling.port, arguments.backlog).await.context("the backlog could not be stored")?;
    drop(filling);
    let (mut through, mut bare, mut posts, mut peak) = (vec![], vec![], vec![], vec![]);
    for round in 0..arguments.rounds {
        let arrivals = Arrivals::new();
        let receiver = Receiver::start(arrivals.clone())?;
        let subscribed = subscription(&format!("round-{round}"), receiver.port)?;
        let connections = subscribed.deliver().map_or(1, |deliver| usize::from(deliver.concurrency));
        let (of_round, used) = with_sidecar(&bed, arguments, subscribed, &arrivals).await?;
        through.push(of_round);
        peak.push(used);
        bare.push(without(&bed, arguments, subscription(&format!("bare-{round}"), receiver.port)?).await?);
        let ran = consume::posts(receiver.port, connections, arguments.backlog).await?;
        ran.result?;
        posts.push(million(ran.cpu, arguments));
    }
    let of = |rounds: &[Round], figure: fn(&Round) -> f64| median(rounds.iter().map(figure).collect());
    let (rate, cpu, broker) = (|it: &Round| it.rate, |it: &Round| it.cpu, |it: &Round| it.broker);
    let floor = of(&bare, cpu) + median(posts);
    let mut add = |figure, unit, murmur, bare, bar| table.add(&scenario, figure, unit, murmur, bare, bar);
    add("throughput", "events/s", of(&through, rate), Some(of(&bare, rate)), Bar::AtLeast(30_000.0));
    add("CPU (bare: the floor)", "s/million", of(&through, cpu), Some(floor), Bar::RatioAtMost(2.0));
    add(
        "CPU with the broker's",
        "s/million",
        of(&through, cpu) + of(&through, broker),
        Some(floor + of(&bare, broker)),
        Bar::None,
    );
    add("peak memory", "MB", largest(&peak), None, Bar::AtMost(32.0));
    Ok(())
}

fn million(cpu: f64, arguments: &Arguments) -> f64 {
    cpu / arguments.backlog.max(1) as f64 * 1e6
}

/// The round, and the peak memory of its sidecar, whose start counts too.
async fn with_sidecar(
    bed: &Bed,
    arguments: &Arguments,
    subscription: Subscription,
    arrivals: &Arrivals,
) -> Result<(Round, f64)> {
    mesh::durables(&bed.client().await?, &subscription).await?;
    let before = cpu_seconds(bed.broker().pid()?)?;
    let sidecar = bed.sidecar(&arguments.sidecar, vec![subscription]).await?.sidecar;
    let rate = arrivals.rate_of(arguments.backlog).await?;
    let round = Round {
        rate,
        cpu: million(cpu_seconds(sidecar.pid()?)?, arguments),
        broker: million(cpu_seconds(bed.broker().pid()?)? - before, arguments),
    };
    Ok((round, memory(sidecar.pid()?, "VmHWM")?))
}

async fn without(bed: &Bed, arguments: &Arguments, subscription: Subscription) -> Result<Round> {
    mesh::durables(&bed.client().await?, &subscription).await?;
    let (_, durable) = subscription.durables().next().context("a subscription without a durable")?;
    let before = cpu_seconds(bed.broker().pid()?)?;
    let ran = consume::backlog(bed.broker().url(), durable.to_string(), arguments.backlog).await?;
    Ok(Round {
        rate: ran.result?,
        cpu: million(ran.cpu, arguments),
        broker: million(cpu_seconds(bed.broker().pid()?)? - before, arguments),
    })
}
