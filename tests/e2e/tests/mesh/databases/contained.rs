//! A database that is away, full or stuck is the business of its own service alone, and heals by itself.

use anyhow::{Result, ensure};
use http::{Method, StatusCode};
use murmur_e2e::sample::READY;
use murmur_e2e::{Disk, Probe, TestMesh, yaml};
use serde_json::Value;

use super::{ENGINES, POSTGRES, REDIS, databases_ready, each_says_why, note_everywhere};
use crate::SOON;

#[tokio::test]
async fn row_1_a_database_that_stops_degrades_its_own_service_alone_and_heals_by_itself() -> Result<()> {
    let mesh = TestMesh::create("contained").await?;
    mesh.apply(&yaml::service("comments", "  publishes: [{type: CommentWritten}]")).await?;
    mesh.apply_samples("blog", &["posts", "moderation"]).await?;
    let comments = mesh.ready("comments").await?;
    // No pod may start here for a while.
    mesh.kubectl(&["create", "quota", "no-more-pods", "--hard=pods=0"]).await?;
    mesh.kubectl(&["delete", "pod", "moderation-db-0"]).await?;
    let cause = mesh.wait_for("Microservice", "moderation", "DatabaseReady", "False", SOON).await?;
    ensure!(!cause.message.is_empty() && cause.reason != "Unknown", "{cause:?}");
    let asked = (Method::GET, "/comments", Value::Null);
    mesh.answers("moderation", asked.clone(), StatusCode::SERVICE_UNAVAILABLE, SOON).await?;
    // The rest of the mesh goes on: posts keeps, events are stored.
    REDIS.publish(&comments, 1).await?;
    POSTGRES.note(&mesh, None, 1).await?;
    let posts = mesh.condition("Microservice", "posts", "DatabaseReady").await?;
    ensure!(posts.as_ref().is_some_and(|found| found.status == "True"), "{posts:?}");

    mesh.kubectl(&["delete", "quota", "no-more-pods"]).await?;
    mesh.wait_for("Microservice", "moderation", "DatabaseReady", "True", READY).await?;
    // What was published meanwhile has waited, and is no dead letter.
    REDIS.has(&mesh, 1).await?;
    let subscription = mesh.api("EventSubscription").get("moderation").await?;
    let dead = subscription.data.pointer("/status/deadLetters").cloned().unwrap_or_default();
    ensure!(dead.as_u64().unwrap_or(0) == 0, "{dead} dead letters");
    mesh.delete().await
}

/// Two services without a database, which must notice nothing.
async fn bystanders(mesh: &TestMesh) -> Result<(Probe, Probe)> {
    let more =
        [yaml::publisher("teller"), yaml::service("hearer", ""), yaml::subscription("h", "hearer", "")];
    mesh.apply(&more.concat()).await?;
    Ok((mesh.ready("teller").await?, mesh.ready("hearer").await?))
}

/// Something is published, stored and delivered.
async fn goes_on(mesh: &TestMesh, (teller, hearer): &(Probe, Probe), id: &str) -> Result<()> {
    let (status, body) = teller.publish("Tick", id, "").await?;
    ensure!(status == StatusCode::OK, "{status} {body}");
    hearer.receives(&[id.to_owned()], SOON).await?;
    for name in ["teller", "hearer"] {
        let ready = mesh.condition("Microservice", name, "Ready").await?;
        ensure!(ready.as_ref().is_some_and(|found| found.status == "True"), "{name}: {ready:?}");
    }
    Ok(())
}

#[tokio::test]
async fn row_1_a_full_disk_degrades_its_own_service_alone_and_heals_when_there_is_room() -> Result<()> {
    let mesh = TestMesh::create("full").await?;
    let mut disks = Vec::new();
    for engine in &ENGINES {
        let disk = Disk::create(&mesh, engine.service, "256Mi").await?;
        let sample = engine.sample()?.replace("size: 512Mi", "size: 256Mi");
        mesh.apply(&sample.replace("murmur-local", disk.class())).await?;
        disks.push(disk);
    }
    let others = bystanders(&mesh).await?;
    let services = ENGINES.map(|engine| engine.service);
    databases_ready(&mesh, &services).await?;
    note_everywhere(&mesh, 1).await?;

    for disk in &disks {
        disk.fill(&mesh).await?;
    }
    each_says_why(&mesh, &["the volume is full", "No space left"]).await?;
    goes_on(&mesh, &others, "while-full").await?;
    // Even one that has to start on a full disk.
    for engine in &ENGINES {
        // It ends the shell too.
        let _ = mesh.kubectl(&["exec", &engine.pod(), "--", "sh", "-c", engine.kill]).await;
    }
    goes_on(&mesh, &others, "while-down").await?;
    for engine in &ENGINES {
        let ready = mesh.condition("Microservice", engine.service, "DatabaseReady").await?;
        ensure!(ready.as_ref().is_some_and(|found| found.status == "False"), "{}: {ready:?}", engine.service);
    }

    for disk in &disks {
        disk.free(&mesh).await?;
    }
    databases_ready(&mesh, &services).await?;
    for engine in &ENGINES {
        engine.has(&mesh, 1).await?;
    }
    note_everywhere(&mesh, 2).await?;
    for disk in disks {
        disk.delete(&mesh).await?;
    }
    mesh.delete().await
}

#[tokio::test]
async fn row_1_a_server_that_is_stuck_degrades_its_own_service_alone_and_is_started_again() -> Result<()> {
    let mesh = TestMesh::create("stuck").await?;
    let others = bystanders(&mesh).await?;
    let services = ENGINES.map(|engine| engine.service);
    for engine in &ENGINES {
        mesh.apply(&engine.sample()?).await?;
    }
    databases_ready(&mesh, &services).await?;
    note_everywhere(&mesh, 1).await?;

    stop_servers(&mesh).await?;
    each_says_why(&mesh, &["not ready", "does not answer"]).await?;
    goes_on(&mesh, &others, "while-stuck").await?;
    databases_ready(&mesh, &services).await?;
    for engine in &ENGINES {
        let restarts =
            ["get", "pod", &engine.pod(), "-o", "jsonpath={.status.containerStatuses[0].restartCount}"];
        let restarts = mesh.kubectl(&restarts).await?;
        ensure!(restarts == "1", "{} was started again {restarts} times", engine.service);
        engine.has(&mesh, 1).await?;
    }
    note_everywhere(&mesh, 2).await?;
    mesh.delete().await
}

/// Sends SIGSTOP to all processes of the servers' pods. A container's first process gets it from without only: from a
/// pod that sees the node's processes, and is of their user.
async fn stop_servers(mesh: &TestMesh) -> Result<()> {
    let pods = ["get", "pod", "-l", "murmur.dev/database", "-o", "jsonpath={.items[*].metadata.uid}"];
    let pods = mesh.kubectl(&pods).await?;
    // A cgroup is named after its pod, by some drivers with another sign.
    let pods = pods.split_whitespace().map(|uid| uid.replace('-', "[-_]")).collect::<Vec<_>>().join("|");
    let image = ["get", "pod", &REDIS.pod(), "-o", "jsonpath={.spec.containers[0].image}"];
    let image = mesh.kubectl(&image).await?;
    let outside = TestMesh::unrestricted("outside").await?;
    outside.apply(&STOPPER.replace("IMAGE", &image).replace("PODS", &pods)).await?;
    let done = ["wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/stopper", "--timeout=60s"];
    outside.kubectl(&done).await?;
    outside.delete().await
}

const STOPPER: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: stopper}
spec:
  hostPID: true
  restartPolicy: Never
  securityContext: {runAsUser: 999, runAsGroup: 999}
  containers:
  - name: stopper
    image: IMAGE
    imagePullPolicy: IfNotPresent
    command:
    - sh
    - -euc
    - |
      found=0
      for process in /proc/[0-9]*; do
        if grep -qsE 'PODS' "$process/cgroup"; then kill -STOP "${process#/proc/}" && found=$((found + 1)); fi
      done
      echo "stopped $found processes"
      [ "$found" -ge 3 ]
"#;
