//! What a subscription can be told: to rest, to start over, to keep the order of the store; and its dead letters.

use std::collections::HashSet;
use std::time::Duration;

use anyhow::{Result, ensure};
use murmur_e2e::{Probe, TestMesh, eventually, yaml};
use serde_json::Value;

use crate::{SOON, ids};

/// A publisher `a` and a subscriber `b`, whose subscription has these fields too.
async fn publisher_and_subscriber(name: &str, more: &str) -> Result<(TestMesh, Probe, Probe)> {
    let mesh = TestMesh::create(name).await?;
    mesh.apply(
        &[yaml::publisher("a"), yaml::service("b", ""), yaml::subscription("b-ticks", "b", more)].concat(),
    )
    .await?;
    let (a, b) = (mesh.ready("a").await?, mesh.ready("b").await?);
    Ok((mesh, a, b))
}

async fn publish(publisher: &Probe, prefix: &str, count: u32) -> Result<Vec<String>> {
    publisher.start_load("http://localhost:8080/emit", prefix, count, 200, 7).await?;
    ensure!(publisher.finish_load(SOON).await?.failed == 0);
    Ok(ids(prefix, count))
}

async fn status(mesh: &TestMesh, pointer: &str) -> Result<Value> {
    let object = mesh.api("EventSubscription").get("b-ticks").await?;
    Ok(object.data.pointer(&format!("/status/{pointer}")).cloned().unwrap_or_default())
}

#[tokio::test]
async fn a_suspended_subscription_rests_and_misses_nothing() -> Result<()> {
    let (mesh, a, b) = publisher_and_subscriber("suspend", "").await?;
    let mut wanted = publish(&a, "before", 20).await?;
    b.receives(&wanted, SOON).await?;
    mesh.kubectl(&["patch", "esub/b-ticks", "--type=merge", "-p", r#"{"spec":{"suspend":true}}"#]).await?;
    // It reaches the sidecar within seconds: then nothing comes any more.
    let mut round = 0;
    eventually("nothing is delivered", SOON, || {
        round += 1;
        let (a, b, prefix) = (a.clone(), b.clone(), format!("round{round}"));
        wanted.extend(ids(&prefix, 5));
        async move {
            let before = b.received().await?.len();
            publish(&a, &prefix, 5).await?;
            tokio::time::sleep(Duration::from_secs(3)).await;
            Ok((b.received().await?.len() == before).then_some(()))
        }
    })
    .await?;
    eventually("what waits is counted", SOON, || async {
        let pending = status(&mesh, "pending").await?;
        if pending.as_u64() >= Some(5) { Ok(Some(())) } else { anyhow::bail!("{pending} pending") }
    })
    .await?;
    mesh.kubectl(&["patch", "esub/b-ticks", "--type=merge", "-p", r#"{"spec":{"suspend":false}}"#]).await?;
    let received = b.receives(&wanted, SOON).await?;
    ensure!(received.len() == wanted.len(), "an event came twice: {} of {}", received.len(), wanted.len());
    mesh.delete().await
}

#[tokio::test]
async fn a_replay_brings_all_events_again_once_and_says_which_they_are() -> Result<()> {
    let (mesh, a, b) = publisher_and_subscriber("replay", "").await?;
    let past = publish(&a, "past", 50).await?;
    b.receives(&past, SOON).await?;
    let replay = r#"{"spec":{"replay":{"id":"again","start":{"policy":"All"}}}}"#;
    mesh.kubectl(&["patch", "esub/b-ticks", "--type=merge", "-p", replay]).await?;
    eventually("all events came again", SOON, || async {
        let received = b.received().await?;
        let replayed: HashSet<_> = received
            .into_iter()
            .filter(|delivery| delivery.replay == "again")
            .map(|found| found.id)
            .collect();
        if replayed.len() == past.len() { Ok(Some(())) } else { anyhow::bail!("{} of them", replayed.len()) }
    })
    .await?;
    // What is published now is no part of it; and once means once, even for another operator.
    let system = murmur_e2e::cluster::SYSTEM;
    let restart = ["-n", system, "rollout", "restart", "deployment/murmur-operator"];
    murmur_e2e::command::run("kubectl", &restart, "").await?;
    let wait = ["-n", system, "rollout", "status", "deployment/murmur-operator", "--timeout=120s"];
    murmur_e2e::command::run("kubectl", &wait, "").await?;
    let live = publish(&a, "live", 10).await?;
    let received = b.receives(&live, SOON).await?;
    let of = |prefix: &str, replay: &str| {
        received.iter().filter(|found| found.id.starts_with(prefix) && found.replay == replay).count()
    };
    ensure!(
        of("past", "false") == 50 && of("past", "again") == 50,
        "{} and {}",
        of("past", "false"),
        of("past", "again")
    );
    ensure!(
        of("live", "false") == 10 && of("live", "again") == 0,
        "{} and {}",
        of("live", "false"),
        of("live", "again")
    );
    mesh.delete().await
}

#[tokio::test]
async fn strict_keeps_the_order_of_the_store_when_a_pod_is_killed() -> Result<()> {
    let mesh = TestMesh::create("strict").await?;
    mesh.apply(
        &[
            yaml::publisher("driver"),
            yaml::service("b", "  replicas: 2\n  env: [{name: RECORD_URL, value: 'http://driver/record'}]"),
            yaml::subscription("b-ticks", "b", "  ordering: {policy: Strict}"),
        ]
        .concat(),
    )
    .await?;
    let driver = mesh.ready("driver").await?;
    mesh.ready("b").await?;
    driver.start_load("http://localhost:8080/emit", "t", 600, 100, 20).await?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let victim = mesh.cluster.pods(&mesh.namespace, "murmur.dev/microservice=b").await?;
    let victim = victim.first().and_then(|pod| pod.metadata.name.clone()).unwrap_or_default();
    mesh.kubectl(&["delete", "pod", &victim, "--grace-period=0", "--force"]).await?;
    ensure!(driver.finish_load(SOON).await?.failed == 0);
    let received = driver.receives(&ids("t", 600), Duration::from_secs(150)).await?;
    let mut newest = 0;
    let mut seen = HashSet::new();
    for delivery in received.iter().filter(|delivery| delivery.status < 300 && seen.insert(&delivery.id)) {
        ensure!(newest < delivery.sequence, "{} came after sequence {newest}", delivery.id);
        newest = delivery.sequence;
    }
    mesh.delete().await
}
