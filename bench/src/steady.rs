//! Steady state on a real cluster: ten services carry traffic, and the API
//! server's audit log is asked what the operator writes meanwhile. It should
//! be its lease and nothing else.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use murmur_e2e::{TestMesh, yaml};
use serde_json::Value;
use tokio::process::Command;

use crate::table::{Bar, Table};

/// What to measure with.
#[derive(clap::Args)]
pub struct Arguments {
    /// The container of the control plane, whose audit log is read.
    #[arg(long, default_value = "murmur-control-plane")]
    node: String,
    /// How long, in seconds.
    #[arg(long, default_value_t = 120)]
    seconds: u64,
    /// How many services; each publishes and all receive from it.
    #[arg(long, default_value_t = 10)]
    services: u32,
}

/// Runs it.
///
/// # Errors
/// When the cluster, or Murmur in it, is not there.
pub async fn run(arguments: Arguments) -> Result<()> {
    let mesh = TestMesh::create("steady").await?;
    let names: Vec<_> = (0..arguments.services).map(|number| format!("s{number}")).collect();
    let resources = names
        .iter()
        .map(|name| yaml::publisher(name) + &yaml::subscription(&format!("{name}-ticks"), name, ""));
    mesh.apply(&resources.collect::<String>()).await?;
    let mut probes = Vec::new();
    for name in &names {
        probes.push(mesh.ready(name).await?);
    }
    // Two events a second from each, to ten services each, until after the end.
    let count = u32::try_from(arguments.seconds + 60)? * 2;
    for (name, probe) in names.iter().zip(&probes) {
        probe.start_load("http://localhost:8080/emit", name, count, 2, 5).await?;
    }
    tokio::time::sleep(Duration::from_secs(30)).await;
    let before = writes(&arguments.node).await?;
    tokio::time::sleep(Duration::from_secs(arguments.seconds)).await;
    let after = writes(&arguments.node).await?;
    for probe in &probes {
        let load = probe.load().await?;
        ensure!(load.failed == 0, "publishing failed: {:?}", load.failures);
        ensure!(!probe.received().await?.is_empty(), "nothing was delivered");
    }

    let mut table = Table::default();
    let scenario = format!("{} s, {} services with traffic", arguments.seconds, arguments.services);
    for (resource, count) in &after {
        let new = count - before.get(resource).copied().unwrap_or(0);
        let bar = if resource == "leases" { Bar::None } else { Bar::AtMost(0.0) };
        table.add(&scenario, &format!("writes: {resource}"), "requests", new as f64, None, bar);
    }
    table.finish("steady")?;
    mesh.delete().await
}

/// How many write requests the operator has made so far, by resource.
async fn writes(node: &str) -> Result<BTreeMap<String, usize>> {
    let output = Command::new("docker")
        .args(["exec", node, "cat", "/var/log/kubernetes/audit.log"])
        .output()
        .await
        .context("docker exec")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut counts = BTreeMap::new();
    for line in output.stdout.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let event: Value = serde_json::from_slice(line)?;
        let user = event["user"]["username"].as_str().unwrap_or_default();
        if user == "system:serviceaccount:murmur-system:murmur-operator" {
            let resource = event["objectRef"]["resource"].as_str().unwrap_or("other").to_owned();
            *counts.entry(resource).or_default() += 1;
        }
    }
    Ok(counts)
}
