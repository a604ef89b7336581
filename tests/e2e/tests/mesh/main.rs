//! What services of a mesh can rely on, each test in a namespace of its own.

mod backup;
mod blog;
mod calls;
mod command_line;
mod databases;
mod events;
mod isolation;
mod load;
mod queries;
mod resources;
mod shop;
mod startup;
mod subscriptions;

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::time::Duration;

use anyhow::{Result, ensure};
use murmur_e2e::probe::Delivery;

const SOON: Duration = Duration::from_secs(60);

/// The ids of a load of `count` events with this prefix.
fn ids(prefix: &str, count: u32) -> Vec<String> {
    (0..count).map(|n| format!("{prefix}-{n:06}")).collect()
}

/// Where `/emit` of a service is for other services.
fn emit(service: &str) -> String {
    format!("http://{service}/emit")
}

/// Notes that this pod was the one; done once so many have been.
fn seen(pods: &RefCell<HashSet<String>>, pod: String, wanted: usize) -> Result<Option<()>> {
    let mut pods = pods.borrow_mut();
    pods.insert(pod);
    ensure!(pods.len() == wanted, "only {pods:?}");
    Ok(Some(()))
}

/// Each key's events, without repeats, must come in the order of the store.
fn in_order_per_key(received: &[Delivery]) -> Result<()> {
    let mut last: HashMap<&str, u64> = HashMap::new();
    let mut seen = HashSet::new();
    for delivery in received.iter().filter(|delivery| delivery.status < 300) {
        if seen.insert(&delivery.id) {
            let before = last.insert(&delivery.key, delivery.sequence).unwrap_or(0);
            ensure!(before < delivery.sequence, "{} came after sequence {before}", delivery.id);
        }
    }
    Ok(())
}
