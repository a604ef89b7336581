//! Rows 5 and 6 of systems.md: the event bus and the event store.

use std::time::Duration;

use anyhow::{Result, ensure};
use http::StatusCode;
use murmur_e2e::{TestMesh, eventually, yaml};
use serde_json::Value;

use crate::{SOON, emit, ids, in_order_per_key};

#[tokio::test]
async fn row_5_an_event_goes_to_every_service_that_subscribed_the_emitter_included() -> Result<()> {
    let mesh = TestMesh::create("bus").await?;
    mesh.apply(&[yaml::publisher("a"), yaml::subscription("a-ticks", "a", "")].concat()).await?;
    mesh.apply(&[yaml::service("b", ""), yaml::subscription("b-ticks", "b", "")].concat()).await?;
    let (a, b) = (mesh.ready("a").await?, mesh.ready("b").await?);
    a.start_load("http://localhost:8080/emit", "t", 200, 100, 10).await?;
    let load = a.finish_load(SOON).await?;
    ensure!(load.failed == 0, "failed to publish: {:?}", load.failures);
    for probe in [&a, &b] {
        let received = probe.receives(&ids("t", 200), SOON).await?;
        in_order_per_key(&received)?;
        ensure!(
            received.iter().all(|delivery| delivery.token),
            "a delivery came without the service's token"
        );
        ensure!(
            received.iter().all(|delivery| delivery.attempt == 1),
            "an event was tried again without need"
        );
    }
    mesh.wait_for("EventSubscription", "b-ticks", "CaughtUp", "True", SOON).await?;
    mesh.wait_for("EventSubscription", "b-ticks", "Delivering", "True", SOON).await?;
    mesh.delete().await
}

#[tokio::test]
async fn row_6_a_service_that_is_new_catches_up_from_the_event_store() -> Result<()> {
    let mesh = TestMesh::create("store").await?;
    mesh.apply(&yaml::publisher("a")).await?;
    let a = mesh.ready("a").await?;
    a.start_load("http://localhost:8080/emit", "past", 300, 300, 7).await?;
    ensure!(a.finish_load(SOON).await?.failed == 0);

    mesh.apply(&[yaml::service("late", ""), yaml::subscription("late-ticks", "late", "")].concat()).await?;
    let late = mesh.ready("late").await?;
    in_order_per_key(&late.receives(&ids("past", 300), SOON).await?)?;
    mesh.delete().await
}

#[tokio::test]
async fn a_type_that_is_not_declared_cannot_be_published() -> Result<()> {
    let mesh = TestMesh::create("undeclared").await?;
    mesh.apply(&yaml::publisher("a")).await?;
    let a = mesh.ready("a").await?;
    let (status, body) = a.publish("Other", "1", "").await?;
    ensure!(status == StatusCode::FORBIDDEN, "{status} {body}");
    ensure!(a.publish("Tick", "1", "").await?.0 == StatusCode::OK);
    // Declared while the pod runs: allowed within seconds, in the same pod.
    mesh.apply(&yaml::service("a", "  publishes: [{type: Tick}, {type: Other}]")).await?;
    eventually("the new type may be published", SOON, || async {
        Ok((a.publish("Other", "2", "").await?.0 == StatusCode::OK).then_some(()))
    })
    .await?;
    mesh.delete().await
}

#[tokio::test]
async fn a_service_that_answers_500_to_one_event_for_ever_blocks_no_other() -> Result<()> {
    let mesh = TestMesh::create("poison").await?;
    let retry = "  retry: {maxAttempts: 3, initialDelay: 200ms, maxDelay: 1s}";
    mesh.apply(
        &[yaml::publisher("a"), yaml::service("b", ""), yaml::subscription("b-ticks", "b", retry)].concat(),
    )
    .await?;
    let (a, b) = (mesh.ready("a").await?, mesh.ready("b").await?);
    b.answer_with("t-000003", 500).await?;
    a.start_load("http://localhost:8080/emit", "t", 50, 100, 5).await?;
    ensure!(a.finish_load(SOON).await?.failed == 0);
    let good: Vec<_> = ids("t", 50).into_iter().filter(|id| id != "t-000003").collect();
    b.receives(&good, SOON).await?;
    let dead = eventually("the dead letter is counted", SOON, || async {
        let object = mesh.api("EventSubscription").get("b-ticks").await?;
        Ok(object.data.pointer("/status/deadLetters").and_then(Value::as_u64).filter(|count| *count > 0))
    })
    .await?;
    ensure!(dead == 1, "{dead} dead letters");
    let tries = b.received().await?.iter().filter(|delivery| delivery.id == "t-000003").count();
    ensure!(tries == 3, "it was tried {tries} times");
    mesh.delete().await
}

#[tokio::test]
async fn a_service_that_is_down_for_three_times_its_retry_budget_misses_nothing() -> Result<()> {
    let mesh = TestMesh::create("down").await?;
    // Its budget is one second: 0.5 s between the first and the second, last attempt.
    let retry = "  retry: {maxAttempts: 2, initialDelay: 500ms, maxDelay: 500ms}";
    mesh.apply(
        &[yaml::publisher("a"), yaml::service("b", ""), yaml::subscription("b-ticks", "b", retry)].concat(),
    )
    .await?;
    let (a, b) = (mesh.ready("a").await?, mesh.ready("b").await?);
    b.open_door(false).await?;
    a.start_load("http://localhost:8080/emit", "t", 1000, 500, 50).await?;
    ensure!(a.finish_load(SOON).await?.failed == 0);
    let held = mesh.wait_for("EventSubscription", "b-ticks", "Delivering", "False", SOON).await?;
    ensure!(!held.message.is_empty(), "no cause is given");
    tokio::time::sleep(Duration::from_secs(3)).await;
    ensure!(b.received().await?.is_empty());
    b.open_door(true).await?;
    in_order_per_key(&b.receives(&ids("t", 1000), SOON).await?)?;
    mesh.wait_for("EventSubscription", "b-ticks", "Delivering", "True", SOON).await?;
    let object = mesh.api("EventSubscription").get("b-ticks").await?;
    let dead = object.data.pointer("/status/deadLetters").and_then(Value::as_u64).unwrap_or(0);
    ensure!(dead == 0, "{dead} dead letters");
    mesh.delete().await
}

#[tokio::test]
async fn two_services_of_one_name_in_two_namespaces_do_not_hear_each_other() -> Result<()> {
    let (one, two) = (TestMesh::create("one").await?, TestMesh::create("two").await?);
    for mesh in [&one, &two] {
        mesh.apply(&[yaml::publisher("a"), yaml::subscription("a-ticks", "a", "")].concat()).await?;
    }
    let (first, second) = (one.ready("a").await?, two.ready("a").await?);
    for (probe, prefix) in [(&first, "first"), (&second, "second")] {
        probe.start_load("http://localhost:8080/emit", prefix, 20, 100, 3).await?;
        ensure!(probe.finish_load(SOON).await?.failed == 0);
    }
    for (probe, prefix) in [(&first, "first"), (&second, "second")] {
        let received = probe.receives(&ids(prefix, 20), SOON).await?;
        ensure!(received.iter().all(|delivery| delivery.id.starts_with(prefix)), "another mesh's event came");
    }
    one.delete().await?;
    two.delete().await
}

#[tokio::test]
async fn a_rolling_restart_under_500_events_a_second_fails_no_publish() -> Result<()> {
    let mesh = TestMesh::create("rolling").await?;
    mesh.apply(
        &[
            yaml::service("driver", ""),
            yaml::service("a", "  replicas: 2\n  publishes: [{type: Tick}]"),
            yaml::service("b", "  replicas: 2\n  env: [{name: RECORD_URL, value: 'http://driver/record'}]"),
            yaml::subscription(
                "b-ticks",
                "b",
                "  retry: {maxAttempts: 3, initialDelay: 200ms, maxDelay: 1s}",
            ),
        ]
        .concat(),
    )
    .await?;
    let driver = mesh.ready("driver").await?;
    mesh.ready("a").await?;
    mesh.ready("b").await?;
    // kube-proxy learns of a new Service in its own time: begin when it has.
    eventually("a is reached through its Service", SOON, || async {
        driver.start_load(&emit("a"), "warm-up", 1, 1, 0).await?;
        Ok((driver.finish_load(SOON).await?.failed == 0).then_some(()))
    })
    .await?;
    let count = 15_000;
    driver.start_load(&emit("a"), "t", count, 500, 50).await?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    mesh.kubectl(&["rollout", "restart", "deployment/a", "deployment/b"]).await?;
    mesh.kubectl(&["rollout", "status", "deployment/a", "--timeout=120s"]).await?;
    mesh.kubectl(&["rollout", "status", "deployment/b", "--timeout=120s"]).await?;
    let load = driver.finish_load(Duration::from_secs(180)).await?;
    ensure!(load.failed == 0, "{} publishes failed: {:?}", load.failed, load.failures);
    driver.receives(&ids("t", count), Duration::from_secs(120)).await?;
    let object = mesh.api("EventSubscription").get("b-ticks").await?;
    let dead = object.data.pointer("/status/deadLetters").and_then(Value::as_u64).unwrap_or(0);
    ensure!(dead == 0, "{dead} dead letters");
    mesh.delete().await
}
