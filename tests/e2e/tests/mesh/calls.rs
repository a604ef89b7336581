//! Row 2 of systems.md: synchronous communication, by direct calls.

use std::cell::RefCell;
use std::collections::HashSet;

use anyhow::{Result, ensure};
use http::Method;
use murmur_e2e::probe::Reply;
use murmur_e2e::{Probe, TestMesh, eventually, yaml};
use serde_json::{Value, json};

use crate::{SOON, seen};

/// A caller `a` that may call `b`, and `b` with so many replicas.
async fn caller_and_called(name: &str, replicas: u32) -> Result<(TestMesh, Probe)> {
    let mesh = TestMesh::create(name).await?;
    let b = yaml::service("b", &format!("  replicas: {replicas}"));
    mesh.apply(&[yaml::service("a", "  calls: [{name: b, timeout: 5s}]"), b].concat()).await?;
    mesh.ready("b").await?;
    let a = mesh.ready("a").await?;
    // Whether b's pods are in the DNS yet is the cluster's business.
    eventually("b is called", SOON, || async {
        let reply = call(&a, "b", "/called/200").await?;
        if reply.status == 200 { Ok(Some(())) } else { anyhow::bail!("{reply:?}") }
    })
    .await?;
    Ok((mesh, a))
}

async fn call(caller: &Probe, service: &str, path: &str) -> Result<Reply> {
    caller.talk(Method::GET, &format!("/v1/services/{service}{path}"), &[], &Value::Null).await
}

#[tokio::test]
async fn row_2_a_call_brings_the_answer_of_the_service_as_it_is() -> Result<()> {
    let (mesh, a) = caller_and_called("call", 1).await?;
    let path = "/v1/services/b/called/201?x=1&y=a%2Fb";
    let reply = a.talk(Method::PUT, path, &[], &json!({"n": 1})).await?;
    let told = reply.json();
    ensure!(reply.status == 201 && reply.header("Murmur-Error").is_empty(), "{reply:?}");
    ensure!(told["method"] == "PUT" && told["body"] == "{\"n\":1}", "{told}");
    ensure!(told["uri"] == "/called/201?x=1&y=a%2Fb", "path and query are not untouched: {told}");
    // An error of the service's own is its answer, not the sidecar's.
    let reply = call(&a, "b", "/called/503").await?;
    ensure!(reply.status == 503 && reply.header("Murmur-Error").is_empty(), "{reply:?}");
    mesh.delete().await
}

#[tokio::test]
async fn row_2_a_service_that_is_down_fails_the_call_and_comes_back() -> Result<()> {
    let (mesh, a) = caller_and_called("call-down", 1).await?;
    mesh.kubectl(&["scale", "msvc/b", "--replicas=0"]).await?;
    eventually("the call fails by the sidecar's own word", SOON, || async {
        let reply = call(&a, "b", "/called/200").await?;
        let failed = reply.status == 503 && !reply.header("Murmur-Error").is_empty();
        if failed { Ok(Some(())) } else { anyhow::bail!("{reply:?}") }
    })
    .await?;
    mesh.kubectl(&["scale", "msvc/b", "--replicas=1"]).await?;
    eventually("b is called again", SOON, || async {
        Ok((call(&a, "b", "/called/200").await?.status == 200).then_some(()))
    })
    .await?;
    mesh.delete().await
}

#[tokio::test]
async fn row_2_a_service_that_is_not_in_calls_cannot_be_called() -> Result<()> {
    let (mesh, a) = caller_and_called("call-undeclared", 1).await?;
    mesh.apply(&yaml::service("c", "")).await?;
    mesh.ready("c").await?;
    let reply = call(&a, "c", "/called/200").await?;
    ensure!(reply.status == 403 && !reply.header("Murmur-Error").is_empty(), "{reply:?}");
    // Declared while the pod runs: allowed within seconds, in the same pod.
    mesh.apply(&yaml::service("a", "  calls: [{name: b, timeout: 5s}, {name: c, timeout: 5s}]")).await?;
    eventually("c may be called", SOON, || async {
        Ok((call(&a, "c", "/called/200").await?.status == 200).then_some(()))
    })
    .await?;
    mesh.delete().await
}

#[tokio::test]
async fn row_8_calls_are_spread_over_the_replicas() -> Result<()> {
    let (mesh, a) = caller_and_called("call-spread", 3).await?;
    let called = RefCell::new(HashSet::new());
    eventually("three pods have been called", SOON, || async {
        let reply = call(&a, "b", "/called/200").await?;
        ensure!(reply.status == 200, "{reply:?}");
        seen(&called, reply.json()["pod"].to_string(), 3)
    })
    .await?;
    mesh.delete().await
}
