//! At steady state nothing is written but the lease.

use std::time::Duration;

use murmur_crds::EventSubscription;
use serde_json::{Value, json};

use crate::world::{World, test, test_alone};

/// How long nothing may be written. Longer than one poll of the bus.
const QUIET: Duration = Duration::from_secs(6);

/// A mesh with a service in which nothing happens any more.
async fn settled(world: &World, prefix: &str) -> anyhow::Result<String> {
    let ns = world.namespace(prefix).await?;
    // Values that the API server writes in another way than the user.
    let spec = json!({"resources": {"limits": {"cpu": "1000m", "memory": "1024Mi"}}, "volume": {"size": "1024Mi"},
        "database": {"engine": "Postgres", "storage": {"size": "1024Mi"},
            "resources": {"requests": {"cpu": "1000m"}}},
        "env": [{"name": "A", "value": ""}], "publishes": [{"type": "A"}]});
    world.microservice(&ns, "users", spec).await?;
    world.subscription(&ns, "mine", "users", "A", json!({})).await?;
    world.pods_become_ready(&ns, "users").await?;
    world.claim_is_bound(&ns, "users-db", "1Gi").await?;
    world.server_is(&ns, "users", true).await?;
    world.condition(&ns, "users", "Ready", "True").await?;
    world.condition(&ns, "users", "BusReady", "True").await?;
    world.condition_of::<EventSubscription>(&ns, "mine", "CaughtUp", "True").await?;
    tokio::time::sleep(Duration::from_secs(2)).await;

    Ok(ns)
}

#[test]
fn nothing_is_written_at_steady_state_but_the_lease() {
    test("steady state", |world| async move {
        let ns = settled(&world, "steady").await?;
        let before = writes(&world.server.audit_log())?.len();
        tokio::time::sleep(QUIET).await;
        let all = writes(&world.server.audit_log())?;
        let others: Vec<&String> = all[before..].iter().filter(|write| write.contains(&ns)).collect();
        assert!(others.is_empty(), "{others:#?}");
        assert!(all.len() > before, "the lease is renewed, so the audit log is being written");

        Ok(())
    });
}

#[test]
fn an_operator_that_starts_anew_and_finds_all_as_it_should_be_writes_nothing() {
    test_alone("restart", |world| async move {
        let ns = settled(&world, "restart").await?;
        world.kill_operator().await?;
        let before = writes(&world.server.audit_log())?.len();
        world.restart_operator().await?;
        tokio::time::sleep(Duration::from_secs(3)).await;
        let all = writes(&world.server.audit_log())?;
        let others: Vec<&String> = all[before..].iter().filter(|write| write.contains(&ns)).collect();
        assert!(others.is_empty(), "{others:#?}");
        assert!(all.len() > before, "the lease is taken, so the audit log is being written");
        Ok(())
    });
}

/// The writes in an audit log.
fn writes(path: &std::path::Path) -> anyhow::Result<Vec<String>> {
    let mut found = Vec::new();
    for line in std::fs::read_to_string(path)?.lines() {
        let entry: Value = serde_json::from_str(line)?;
        let verb = entry["verb"].as_str().unwrap_or_default();
        let agent = entry["userAgent"].as_str().unwrap_or_default();
        // The API server writes to itself, too.
        if ["create", "update", "patch", "delete"].contains(&verb) && !agent.starts_with("kube-apiserver") {
            found.push(format!("{verb} {}", entry["requestURI"].as_str().unwrap_or_default()));
        }
    }
    Ok(found)
}
