//! How soon a sidecar is there.

use anyhow::Result;
use murmur_test_support::mesh;

use super::Arguments;
use super::bed::{Bed, subscription};
use crate::arrivals::Arrivals;
use crate::receiver::Receiver;
use crate::table::{Bar, Table, median};

/// Measures from exec to started, and to the first event that is stored.
///
/// # Errors
/// When the sidecar does not come up.
pub async fn measure(arguments: &Arguments, table: &mut Table) -> Result<()> {
    let scenario = "start, broker there";
    if !arguments.wants(scenario) {
        return Ok(());
    }
    let bed = Bed::start().await?;
    let receiver = Receiver::start(Arrivals::new())?;
    let (mut started, mut first_publish) = (vec![], vec![]);
    for round in 0..arguments.rounds {
        let subscription = subscription(&format!("round-{round}"), receiver.port)?;
        mesh::durables(&bed.client().await?, &subscription).await?;
        let sidecar = bed.sidecar(&arguments.sidecar, vec![subscription]).await?;
        started.push(sidecar.started * 1e3);
        first_publish.push(sidecar.first_publish * 1e3);
    }
    table.add(scenario, "started", "ms", median(started), None, Bar::AtMost(80.0));
    table.add(scenario, "first publish", "ms", median(first_publish), None, Bar::AtMost(80.0));
    Ok(())
}
