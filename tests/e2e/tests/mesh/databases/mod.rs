//! Row 1 of systems.md: a database for each service that needs one, and no other's business.

mod backups;
mod contained;
mod kept;
mod versions;
mod volumes;

use anyhow::{Context, Result, ensure};
use futures::future::try_join_all;
use http::{Method, StatusCode};
use murmur_e2e::mesh::Condition;
use murmur_e2e::sample::READY;
use murmur_e2e::{Probe, TestMesh, yaml};
use serde_json::{Value, json};

/// A sample service whose database the tests ill-treat.
struct Engine {
    /// As the resource writes it.
    name: &'static str,
    service: &'static str,
    /// Ends the server from inside its pod.
    kill: &'static str,
    /// Who publishes what the service notes, and the type of that; without one the service is posted to.
    heard: Option<(&'static str, &'static str)>,
    /// Where the note of a number is.
    path: fn(u32) -> String,
}

const POSTGRES: Engine = Engine {
    name: "Postgres",
    service: "posts",
    kill: "kill -QUIT 1",
    heard: None,
    path: |number| format!("/posts/n{number}"),
};
const MARIADB: Engine = Engine {
    name: "MariaDB",
    service: "comments",
    kill: "kill -TERM 1",
    heard: Some(("posts", "PostWritten")),
    path: |number| format!("/posts/n{number}/comments"),
};
const REDIS: Engine = Engine {
    name: "Redis",
    service: "moderation",
    kill: "kill -TERM 1",
    heard: Some(("comments", "CommentWritten")),
    path: |number| format!("/comments/n{number}"),
};
const ENGINES: [Engine; 3] = [POSTGRES, MARIADB, REDIS];

impl Engine {
    /// The name of the server's pod.
    fn pod(&self) -> String {
        format!("{}-db-0", self.service)
    }

    /// The YAML of the sample, with one pod of the service: the server is what matters here.
    fn sample(&self) -> Result<String> {
        Ok(TestMesh::sample("blog", self.service)?.replace("  replicas: 2\n", ""))
    }

    /// The same, with more fields of its database.
    fn sample_with(&self, fields: &str) -> Result<String> {
        let engine = format!("    engine: {}\n", self.name);
        let sample = self.sample()?;
        ensure!(sample.contains(&engine), "{} is not a sample of {}", self.service, self.name);
        Ok(sample.replace(&engine, &format!("{engine}    {fields}\n")))
    }

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

/// Has each of the three services keep a note of this number: a post, a comment on it, that this waits for a word.
async fn note_everywhere(mesh: &TestMesh, number: u32) -> Result<()> {
    POSTGRES.note(mesh, None, number).await?;
    MARIADB.has(mesh, number).await?;
    let comment = json!({"id": format!("n{number}"), "text": "a note"});
    let path = (MARIADB.path)(number);
    mesh.answers("comments", (Method::POST, &path, comment), StatusCode::CREATED, READY).await?;
    REDIS.has(mesh, number).await
}

/// Waits until the databases of these services are ready.
async fn databases_ready(mesh: &TestMesh, services: &[&str]) -> Result<()> {
    let ready =
        services.iter().map(|name| mesh.wait_for("Microservice", name, "DatabaseReady", "True", READY));
    try_join_all(ready).await?;
    Ok(())
}

/// Waits until each of the databases says why it is not ready, in words with one of these in it.
async fn each_says_why(mesh: &TestMesh, causes: &[&str]) -> Result<()> {
    let says = |found: &Condition| {
        found.status == "False" && causes.iter().any(|cause| found.message.contains(cause))
    };
    let told = ENGINES
        .iter()
        .map(|engine| mesh.wait_until(("Microservice", engine.service, "DatabaseReady"), READY, says));
    try_join_all(told).await.with_context(|| format!("it does not tell of {causes:?}"))?;
    Ok(())
}

/// Waits until the condition of a service's database has this reason.
async fn told(mesh: &TestMesh, service: &str, reason: &str) -> Result<Condition> {
    mesh.wait_until(("Microservice", service, "DatabaseReady"), READY, |found| found.reason == reason)
        .await
        .with_context(|| format!("it does not tell {reason}"))
}

/// A service with nothing but a database.
fn with_database(name: &str, engine: &str, storage: &str) -> String {
    // Room for as many as there are tests at once.
    let resources = "resources: {requests: {cpu: 10m}}";
    yaml::service(name, &format!("  database: {{engine: {engine}, storage: {{{storage}}}, {resources}}}"))
}
