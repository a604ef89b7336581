//! Backups on a schedule, and what a restore from their volume brings back.

use anyhow::{Context, Result, ensure};
use http::StatusCode;
use murmur_e2e::{TestMesh, eventually, yaml};
use serde_json::{Value, json};

use crate::{SOON, ids};

/// Backups into a claim; none is due for months, the test makes its own.
const MESH: &str = "---
apiVersion: murmur.dev/v1alpha1
kind: Mesh
metadata: {name: default}
spec:
  eventStore: {backup: {schedule: \"0 3 1 6 *\", storage: {size: 64Mi}}}
";

/// A Job that restores this backup, made of the CronJob as docs/command-line.md says.
async fn restore_job(mesh: &TestMesh, backup: &str) -> Result<Value> {
    let from = ["--from=cronjob/murmur-backup", "--dry-run=client", "-o", "json"];
    let text = mesh.kubectl(&[&["create", "job", "restore"][..], &from].concat()).await?;
    let mut job: Value = serde_json::from_str(&text)?;
    let pod = &mut job["spec"]["template"]["spec"];
    pod["containers"][0]["args"] = json!([
        "--namespace",
        mesh.namespace,
        "--credentials",
        "/credentials",
        "mesh",
        "restore",
        "--from",
        backup,
        "--replace",
    ]);
    let volumes = pod["volumes"].as_array_mut().context("no volumes")?;
    let credentials = volumes.iter_mut().find(|volume| volume["name"] == "credentials");
    credentials.context("no credentials")?["secret"]["secretName"] = json!("murmur-admin");
    Ok(job)
}

/// Sequences and ids of all events that are stored.
async fn stored(mesh: &TestMesh) -> Result<Vec<(Option<u64>, String)>> {
    let events = mesh.murmur(&["events", "tail", "--from", "1", "--no-follow"]).await?;
    let place = |event: &Value| {
        let id = event["event"]["id"].as_str().unwrap_or_default();
        (event["sequence"].as_u64(), id.to_owned())
    };
    Ok(events.iter().map(place).collect())
}

#[tokio::test]
async fn a_scheduled_backup_gives_the_events_back_to_a_mesh_that_has_lost_them() -> Result<()> {
    let mesh = TestMesh::create("backup").await?;
    mesh.apply(
        &[
            MESH.to_owned(),
            yaml::publisher("a"),
            yaml::service("b", ""),
            yaml::subscription("b-ticks", "b", ""),
        ]
        .concat(),
    )
    .await?;
    let (a, b) = (mesh.ready("a").await?, mesh.ready("b").await?);
    a.start_load("http://localhost:8080/emit", "t", 50, 100, 1).await?;
    ensure!(a.finish_load(SOON).await?.failed == 0);
    b.receives(&ids("t", 50), SOON).await?;
    let events = stored(&mesh).await?;
    ensure!(events.len() == 50, "{} events are stored", events.len());

    mesh.wait_for("Mesh", "default", "Ready", "True", SOON).await?;
    mesh.kubectl(&["create", "job", "tonight", "--from=cronjob/murmur-backup"]).await?;
    let log = mesh.complete("tonight").await?;
    let backup = log.lines().next().unwrap_or_default().to_owned();
    ensure!(backup.starts_with(&format!("/backup/{}-", mesh.namespace)), "{log}");
    ensure!(log.contains("EVENTS: 50 messages, last sequence 50"), "{log}");

    // All events have one key: without it the store is empty but for the word of that.
    mesh.murmur(&["mesh", "erase", "--key", "t-key-0", "--yes"]).await?;
    let left = stored(&mesh).await?;
    ensure!(left.len() == 1 && left[0].0 == Some(51), "{left:?}");

    let job = restore_job(&mesh, &backup).await?;
    mesh.apply(&job.to_string()).await?;
    let log = mesh.complete("restore").await?;
    ensure!(log.contains("the event store is as it was"), "{log}");
    ensure!(stored(&mesh).await? == events);

    // The mesh works on: who is new gets all, who was there what is new.
    mesh.apply(&[yaml::service("late", ""), yaml::subscription("late-ticks", "late", "")].concat()).await?;
    eventually("publishing works again", SOON, || async {
        let (status, body) = a.publish("Tick", "new", "").await?;
        if status == StatusCode::OK { Ok(Some(())) } else { anyhow::bail!("{status} {body}") }
    })
    .await?;
    b.receives(&["new".to_owned()], SOON).await?;
    let late = mesh.ready("late").await?.receives(&ids("t", 50), SOON).await?;
    ensure!(late.iter().all(|delivery| delivery.sequence <= 51), "{late:?}");
    mesh.delete().await
}
