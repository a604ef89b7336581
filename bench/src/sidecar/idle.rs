//! What a sidecar with nothing to do costs.

use std::time::{Duration, Instant};

use anyhow::Result;
use murmur_mesh::config::Ordering;
use murmur_test_support::mesh;
use murmur_test_support::process::{cpu_seconds, memory};

use super::Arguments;
use super::bed::{Bed, subscription};
use crate::arrivals::Arrivals;
use crate::receiver::Receiver;
use crate::table::{Bar, Table};

/// Measures memory and CPU.
///
/// # Errors
/// When the sidecar does not come up.
pub async fn measure(arguments: &Arguments, table: &mut Table) -> Result<()> {
    let scenario = "idle, one subscription";
    if !arguments.wants(scenario) {
        return Ok(());
    }
    let bed = Bed::start().await?;
    let receiver = Receiver::start(Arrivals::new())?;
    let mut subscription = subscription("idle", receiver.port)?;
    // What a subscription has that says nothing about it.
    subscription.ordering = Ordering::Key { shards: 4 };
    mesh::durables(&bed.client().await?, &subscription).await?;
    let sidecar = bed.sidecar(&arguments.sidecar, vec![subscription]).await?.sidecar;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let (began, before) = (Instant::now(), cpu_seconds(sidecar.pid()?)?);
    tokio::time::sleep(Duration::from_secs(10)).await;
    let share = (cpu_seconds(sidecar.pid()?)? - before) / began.elapsed().as_secs_f64() * 100.0;
    let resident = memory(sidecar.pid()?, "VmRSS")?;
    table.add(scenario, "resident memory", "MB", resident, None, Bar::AtMost(12.0));
    table.add(scenario, "CPU", "% of a core", share, None, Bar::AtMost(0.2));
    Ok(())
}
