//! Row 1 of systems.md: a database for each service that needs one, and no other's business.

use std::time::Duration;

use anyhow::{Result, ensure};
use http::{Method, StatusCode};
use murmur_e2e::sample::READY;
use murmur_e2e::{Probe, TestMesh, eventually, yaml};
use serde_json::{Value, json};

use crate::SOON;

/// A sample service whose database the tests ill-treat.
struct Engine {
    service: &'static str,
    /// Ends the server from inside its pod.
    kill: &'static str,
    /// Who publishes what the service notes, and the type of that; without one the service is posted to.
    heard: Option<(&'static str, &'static str)>,
    /// Where the note of a number is.
    path: fn(u32) -> String,
}

const POSTGRES: Engine = Engine {
    service: "posts",
    kill: "kill -QUIT 1",
    heard: None,
    path: |number| format!("/posts/n{number}"),
};
const MARIADB: Engine = Engine {
    service: "comments",
    kill: "kill -TERM 1",
    heard: Some(("posts", "PostWritten")),
    path: |number| format!("/posts/n{number}/comments"),
};
const REDIS: Engine = Engine {
    service: "moderation",
    kill: "kill -TERM 1",
    heard: Some(("comments", "CommentWritten")),
    path: |number| format!("/comments/n{number}"),
};

impl Engine {
    /// Publishes what the service notes.
    async fn publish(&self, publisher: &Probe, number: u32) -> Result<()> {
        let id = format!("n{number}");
        let path = format!("/v1/events/{}", self.heard.map_or("", |(_, event_type)| event_type));
        let body = json!({"id": id, "title": id, "body": "", "post": "1", "text": id, "written": ""});
        let headers = [("ce-id", id.as_str()), ("content-type", "application/json")];
        let reply = publisher.talk(Method::POST, &path, &headers, &body).await?;
        ensure!(reply.status == 200, "{reply:?}");
        Ok(())
    }

    /// Has the service keep something.
    async fn note(&self, mesh: &TestMesh, publisher: Option<&Probe>, number: u32) -> Result<()> {
        match publisher {
            Some(publisher) => self.publish(publisher, number).await?,
            None => {
                let body = json!({"id": format!("n{number}"), "title": "a note", "body": ""});
                mesh.answers(self.service, (Method::POST, "/posts", body), StatusCode::CREATED, READY)
                    .await?;
            }
        }
        self.has(mesh, number).await
    }

    /// Waits until the service tells what it keeps.
    async fn has(&self, mesh: &TestMesh, number: u32) -> Result<()> {
        let path = (self.path)(number);
        mesh.answers(self.service, (Method::GET, &path, Value::Null), StatusCode::OK, READY).await?;
        Ok(())
    }

    async fn password(&self, mesh: &TestMesh) -> Result<String> {
        let secret = format!("secret/{}-db", self.service);
        mesh.kubectl(&["get", &secret, "-o", "jsonpath={.data.password}"]).await
    }
}

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

    let (pod, set) = (format!("{service}-db-0"), format!("statefulset/{service}-db"));
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
