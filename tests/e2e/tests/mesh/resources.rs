//! What becomes of resources that are wrong, changed by hand or deleted.

use std::time::Duration;

use anyhow::{Result, ensure};
use http::StatusCode;
use murmur_e2e::{TestMesh, eventually, yaml};

use crate::{SOON, ids};

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
