//! Taking Murmur away, with its broker down, takes no data with it.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Api, PostParams};
use murmur_e2e::cluster::SYSTEM;
use murmur_e2e::{TestMesh, command, eventually, yaml};

#[tokio::test]
async fn uninstalling_with_the_broker_down_ends_in_seconds_and_keeps_the_data() -> Result<()> {
    let mesh = TestMesh::create("uninstall").await?;
    mesh.apply(&yaml::publisher("a")).await?;
    let a = mesh.ready("a").await?;
    a.start_load("http://localhost:8080/emit", "t", 100, 200, 5).await?;
    ensure!(a.finish_load(Duration::from_secs(60)).await?.failed == 0);

    command::run("kubectl", &["-n", SYSTEM, "scale", "statefulset/murmur-nats", "--replicas=0"], "").await?;
    command::run(
        "kubectl",
        &["-n", SYSTEM, "wait", "--for=delete", "pod/murmur-nats-0", "--timeout=60s"],
        "",
    )
    .await?;
    let began = Instant::now();
    command::run("helm", &["uninstall", "murmur", "-n", SYSTEM, "--wait", "--timeout=120s"], "").await?;
    let claims = command::run("kubectl", &["-n", SYSTEM, "get", "pvc,secret", "-o", "name"], "").await?;
    ensure!(claims.contains("persistentvolumeclaim/"), "the broker's claim is gone: {claims}");
    ensure!(claims.contains(&format!("mesh-{}", mesh.namespace)), "the mesh's account is gone: {claims}");
    // The custom resources are the user's: they outlive the release.
    ensure!(mesh.kubectl(&["get", "msvc", "-o", "name"]).await?.contains("/a"));

    command::run("kubectl", &["delete", "namespace", &mesh.namespace, "--timeout=90s"], "").await?;
    ensure!(began.elapsed() < Duration::from_secs(180), "it took {:?}", began.elapsed());

    // Installed again, the same mesh has its events still.
    command::run(concat!(env!("CARGO_MANIFEST_DIR"), "/../install.sh"), &[], "").await?;
    let object: Namespace =
        serde_json::from_value(serde_json::json!({"metadata": {"name": mesh.namespace}}))?;
    Api::all(mesh.cluster.client.clone()).create(&PostParams::default(), &object).await?;
    mesh.apply(&[yaml::service("b", ""), yaml::subscription("b-ticks", "b", "")].concat()).await?;
    let b = mesh.ready("b").await?;
    let ids: Vec<_> = (0..100).map(|n| format!("t-{n:06}")).collect();
    b.receives(&ids, Duration::from_secs(90)).await?;
    eventually("CaughtUp", Duration::from_secs(60), || async {
        let found = mesh.condition("EventSubscription", "b-ticks", "CaughtUp").await?;
        Ok(found.filter(|condition| condition.status == "True"))
    })
    .await?;
    mesh.delete().await
}
