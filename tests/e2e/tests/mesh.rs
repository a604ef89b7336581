//! What services of a mesh can rely on, each test in a namespace of its own.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use anyhow::{Result, ensure};
use http::StatusCode;
use murmur_e2e::probe::Delivery;
use murmur_e2e::{TestMesh, eventually, yaml};
use serde_json::Value;

const SOON: Duration = Duration::from_secs(60);

fn ids(prefix: &str, count: u32) -> Vec<String> {
    (0..count).map(|n| format!("{prefix}-{n:06}")).collect()
}

/// Where `/emit` of a service is for other services.
fn emit(service: &str) -> String {
    format!("http://{service}/emit")
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
async fn an_image_that_cannot_be_pulled_is_told_in_the_condition() -> Result<()> {
    let mesh = TestMesh::create("image").await?;
    let yaml = yaml::service("a", "").replace(murmur_e2e::probe::IMAGE, "murmur-e2e/does-not-exist:1");
    mesh.apply(&yaml).await?;
    eventually("Ready names the image", Duration::from_secs(90), || async {
        let found = mesh.condition("Microservice", "a", "Ready").await?;
        Ok(found.filter(|ready| ready.status == "False" && ready.message.contains("does-not-exist")))
    })
    .await?;
    mesh.delete().await
}

#[tokio::test]
async fn a_subscription_to_a_service_that_does_not_exist_becomes_ready_when_it_appears() -> Result<()> {
    let mesh = TestMesh::create("early").await?;
    mesh.apply(&yaml::subscription("b-ticks", "b", "")).await?;
    let missing = mesh.wait_for("EventSubscription", "b-ticks", "Ready", "False", SOON).await?;
    ensure!(missing.reason == "MicroserviceNotFound", "{missing:?}");
    mesh.apply(&yaml::service("b", "")).await?;
    mesh.wait_for("EventSubscription", "b-ticks", "Ready", "True", SOON).await?;
    mesh.delete().await
}

#[tokio::test]
async fn an_object_of_that_name_that_is_not_ours_is_left_alone() -> Result<()> {
    let mesh = TestMesh::create("taken").await?;
    mesh.kubectl(&["create", "service", "clusterip", "a", "--tcp=80:80"]).await?;
    mesh.apply(&yaml::service("a", "")).await?;
    let ready = eventually("Ready tells that the name is taken", SOON, || async {
        let found = mesh.condition("Microservice", "a", "Ready").await?;
        Ok(found.filter(|ready| ready.reason == "NameTaken"))
    })
    .await?;
    ensure!(ready.message.contains("Service"), "{ready:?}");
    let labels = mesh.kubectl(&["get", "service", "a", "-o", "jsonpath={.metadata.labels}"]).await?;
    ensure!(!labels.contains("murmur"), "it was touched: {labels}");
    mesh.kubectl(&["delete", "service", "a"]).await?;
    mesh.ready("a").await?;
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
async fn what_the_schema_can_refuse_is_refused_when_it_is_applied() -> Result<()> {
    let mesh = TestMesh::create("refused").await?;
    let refusals = [
        (yaml::service("a", "").replace("port: 8080", "port: 0"), "port"),
        (yaml::service("a", "  database: {engine: Oracle}"), "engine"),
        (yaml::service("a", "  replicas: 2\n  volume: {size: 64Mi}"), "replica"),
        (yaml::service("a-db", ""), "reserved"),
    ];
    for (yaml, word) in refusals {
        let error = mesh.apply(&yaml).await.err().map(|error| error.to_string()).unwrap_or_default();
        ensure!(error.contains(word), "expected a refusal that names {word:?}, got {error:?}");
    }
    mesh.delete().await
}

#[tokio::test]
async fn a_deleted_service_finds_its_data_when_it_comes_back() -> Result<()> {
    let mesh = TestMesh::create("data").await?;
    let yaml = [
        yaml::service(
            "a",
            "  publishes: [{type: Tick}]\n  volume: {size: 64Mi, storageClassName: murmur-local}\n  \
             env: [{name: RECORD_FILE, value: /data/received}]",
        ),
        yaml::subscription("a-ticks", "a", ""),
    ]
    .concat();
    mesh.apply(&yaml).await?;
    let a = mesh.ready("a").await?;
    ensure!(a.publish("Tick", "t-000000", "").await?.0 == StatusCode::OK);
    a.receives(&ids("t", 1), SOON).await?;

    mesh.kubectl(&["delete", "msvc/a", "esub/a-ticks"]).await?;
    mesh.kubectl(&["wait", "--for=delete", "deployment/a", "--timeout=60s"]).await?;
    let claims = mesh.kubectl(&["get", "pvc", "-o", "name"]).await?;
    ensure!(claims.contains("a-data"), "the claim is gone: {claims}");

    mesh.apply(&yaml::service(
        "a",
        "  publishes: [{type: Tick}]\n  volume: {size: 64Mi, storageClassName: murmur-local}\n  \
         env: [{name: RECORD_FILE, value: /data/received}]",
    ))
    .await?;
    let again = mesh.ready("a").await?.received().await?;
    ensure!(again.iter().any(|delivery| delivery.id == "t-000000"), "its data is not there: {again:?}");
    mesh.delete().await
}

#[tokio::test]
async fn a_deployment_that_was_changed_by_hand_is_put_right() -> Result<()> {
    let mesh = TestMesh::create("drift").await?;
    mesh.apply(&yaml::service("a", "")).await?;
    mesh.ready("a").await?;
    mesh.kubectl(&["set", "image", "deployment/a", "service=murmur-e2e/other:1"]).await?;
    eventually("the image is put right", SOON, || async {
        let path = "jsonpath={.spec.template.spec.containers[0].image}";
        let image = mesh.kubectl(&["get", "deployment", "a", "-o", path]).await?;
        Ok((image == murmur_e2e::probe::IMAGE).then_some(()))
    })
    .await?;
    mesh.kubectl(&["delete", "deployment", "a", "--wait=true"]).await?;
    eventually("the deployment is made again", SOON, || async {
        Ok(mesh.kubectl(&["get", "deployment", "a"]).await.ok())
    })
    .await?;
    mesh.delete().await
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
