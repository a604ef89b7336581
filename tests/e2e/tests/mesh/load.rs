//! Row 8 of systems.md: load balancing. Calls and queries are in calls.rs and queries.rs.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Result, ensure};
use murmur_e2e::probe::Delivery;
use murmur_e2e::{TestMesh, eventually, yaml};

use crate::{SOON, ids, in_order_per_key};

/// Reports deliveries to the service `driver`, which outlives the pods of the test.
const TO_DRIVER: &str = "  env: [{name: RECORD_URL, value: 'http://driver/record'}]";

fn per_pod(received: &[Delivery]) -> HashMap<&str, usize> {
    let mut counts = HashMap::new();
    for delivery in received {
        *counts.entry(delivery.pod.as_str()).or_default() += 1;
    }
    counts
}

async fn replicas(mesh: &TestMesh, service: &str) -> Result<(u64, u64)> {
    let status = mesh.api("Microservice").get(service).await?.data["status"].clone();
    let number = |field: &str| status[field].as_u64().unwrap_or(0);
    Ok((number("desiredReplicas"), number("readyReplicas")))
}

#[tokio::test]
async fn row_8_events_are_spread_over_the_replicas_and_stay_in_order_per_key() -> Result<()> {
    let mesh = TestMesh::create("spread").await?;
    mesh.apply(
        &[
            yaml::publisher("driver"),
            yaml::service("b", &format!("  replicas: 3\n{TO_DRIVER}")),
            yaml::subscription("b-ticks", "b", "  ordering: {policy: Key, shards: 8}"),
        ]
        .concat(),
    )
    .await?;
    let driver = mesh.ready("driver").await?;
    mesh.ready("b").await?;
    // Who holds which share is settled in the first seconds.
    let mut wanted = Vec::new();
    eventually("all three pods get events", Duration::from_secs(120), || {
        let prefix = format!("t{}", wanted.len());
        wanted.extend(ids(&prefix, 200));
        let (driver, wanted) = (driver.clone(), wanted.clone());
        async move {
            driver.start_load("http://localhost:8080/emit", &prefix, 200, 200, 64).await?;
            ensure!(driver.finish_load(SOON).await?.failed == 0);
            let received = driver.receives(&wanted, Duration::from_secs(15)).await?;
            let last: Vec<_> = received
                .into_iter()
                .filter(|delivery| delivery.id.starts_with(&format!("{prefix}-")))
                .collect();
            let pods = per_pod(&last);
            if pods.len() == 3 { Ok(Some(())) } else { anyhow::bail!("only {pods:?}") }
        }
    })
    .await?;
    in_order_per_key(&driver.received().await?)?;
    mesh.delete().await
}

#[tokio::test]
async fn row_8_pending_events_make_more_replicas() -> Result<()> {
    let mesh = TestMesh::create("autoscale").await?;
    let scaling = "  autoscaling: {minReplicas: 1, maxReplicas: 3, pendingEventsPerReplica: 100}";
    mesh.apply(
        &[
            yaml::publisher("driver"),
            yaml::service("b", &format!("{scaling}\n{TO_DRIVER}")),
            yaml::subscription("b-ticks", "b", "  ordering: {policy: None}\n"),
        ]
        .concat(),
    )
    .await?;
    let (driver, b) = (mesh.ready("driver").await?, mesh.ready("b").await?);
    ensure!(replicas(&mesh, "b").await? == (1, 1), "b does not begin with one replica");
    // 16 at once, each half a second: alone it needs half a minute, in which most of them wait.
    b.answer_after("500ms", "t", 204).await?;
    driver.start_load("http://localhost:8080/emit", "t", 1000, 500, 0).await?;
    ensure!(driver.finish_load(SOON).await?.failed == 0);
    eventually("there are three replicas", SOON, || async {
        let found = replicas(&mesh, "b").await?;
        if found == (3, 3) { Ok(Some(())) } else { anyhow::bail!("{found:?}") }
    })
    .await?;
    driver.receives(&ids("t", 1000), Duration::from_secs(120)).await?;
    mesh.delete().await
}

#[tokio::test]
async fn row_8_an_autoscaler_of_kubernetes_works_through_the_scale_subresource() -> Result<()> {
    let mesh = TestMesh::create("hpa").await?;
    mesh.apply(&yaml::service("b", "")).await?;
    mesh.ready("b").await?;
    let selector = mesh.api("Microservice").get("b").await?.data["status"]["selector"].clone();
    let pods = mesh.cluster.pods(&mesh.namespace, selector.as_str().unwrap_or("none=none")).await?;
    ensure!(pods.len() == 1, "status.selector {selector} finds {} pods", pods.len());
    // Below minReplicas it scales up without a metric.
    mesh.apply(
        "
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: b}
spec:
  scaleTargetRef: {apiVersion: murmur.dev/v1alpha1, kind: Microservice, name: b}
  minReplicas: 3
  maxReplicas: 4
  metrics: [{type: Resource, resource: {name: cpu, target: {type: Utilization, averageUtilization: 80}}}]
",
    )
    .await?;
    eventually("there are three replicas", Duration::from_secs(120), || async {
        let found = replicas(&mesh, "b").await?;
        if found == (3, 3) { Ok(Some(())) } else { anyhow::bail!("{found:?}") }
    })
    .await?;
    let spec = mesh.api("Microservice").get("b").await?.data["spec"].clone();
    ensure!(spec["replicas"] == 3, "the resource itself was not scaled: {spec}");
    mesh.delete().await
}
