//! What is kept when a server is killed, and when its service is deleted.

use std::time::Duration;

use anyhow::{Result, ensure};
use murmur_e2e::sample::READY;
use murmur_e2e::{TestMesh, eventually, yaml};

use super::{Engine, MARIADB, POSTGRES, REDIS};

/// Killed, deleted by force, deleted with its service and made again: the data is there, and it can log in.
async fn keeps_its_data(engine: Engine) -> Result<()> {
    let service = engine.service;
    let mesh = TestMesh::create(&format!("{service}-db")).await?;
    let publisher = match engine.heard {
        Some((name, event_type)) => {
            mesh.apply(&yaml::service(name, &format!("  publishes: [{{type: {event_type}}}]"))).await?;
            Some(mesh.ready(name).await?)
        }
        None => None,
    };
    let publisher = publisher.as_ref();
    mesh.apply_samples("blog", &[service]).await?;
    engine.note(&mesh, publisher, 1).await?;

    let (pod, set) = (engine.pod(), format!("statefulset/{service}-db"));
    for number in [2, 3] {
        mesh.kubectl(&["exec", &pod, "--", "sh", "-c", engine.kill]).await?;
        engine.note(&mesh, publisher, number).await?;
    }
    mesh.kubectl(&["delete", "pod", &pod, "--grace-period=0", "--force"]).await?;
    engine.note(&mesh, publisher, 4).await?;
    mesh.wait_for("Microservice", service, "DatabaseReady", "True", READY).await?;

    let password = engine.password(&mesh).await?;
    mesh.kubectl(&["delete", &format!("msvc/{service}"), "--wait=true"]).await?;
    mesh.kubectl(&["wait", "--for=delete", &set, "--timeout=120s"]).await?;
    mesh.kubectl(&["wait", "--for=delete", &format!("pod/{pod}"), "--timeout=150s"]).await?;
    let kept = mesh.kubectl(&["get", "pvc,secret", "-o", "name"]).await?;
    let claim = format!("persistentvolumeclaim/{service}-db");
    ensure!(kept.contains(&claim) && kept.contains(&format!("secret/{service}-db")), "left: {kept}");
    mesh.apply_samples("blog", &[service]).await?;
    ensure!(engine.password(&mesh).await? == password, "the credentials were made anew");
    for number in 1..=4 {
        engine.has(&mesh, number).await?;
    }
    engine.note(&mesh, publisher, 5).await?;

    // Unless the user wants it otherwise.
    let wish = r#"{"spec":{"database":{"storage":{"whenDeleted":"Delete"}}}}"#;
    mesh.kubectl(&["patch", &format!("msvc/{service}"), "--type=merge", "-p", wish]).await?;
    tokio::time::sleep(Duration::from_secs(5)).await;
    mesh.kubectl(&["delete", &format!("msvc/{service}"), "--wait=true"]).await?;
    eventually("claim and credentials are gone", READY, || async {
        let left = mesh.kubectl(&["get", "pvc,secret", "-o", "name"]).await?;
        if left.contains(&format!("/{service}-db")) { anyhow::bail!("left: {left}") } else { Ok(Some(())) }
    })
    .await?;
    mesh.delete().await
}

#[tokio::test]
async fn row_1_a_postgres_keeps_its_data_when_it_is_killed_deleted_and_made_again() -> Result<()> {
    keeps_its_data(POSTGRES).await
}

#[tokio::test]
async fn row_1_a_mariadb_keeps_its_data_when_it_is_killed_deleted_and_made_again() -> Result<()> {
    keeps_its_data(MARIADB).await
}

#[tokio::test]
async fn row_1_a_redis_keeps_its_data_when_it_is_killed_deleted_and_made_again() -> Result<()> {
    keeps_its_data(REDIS).await
}
