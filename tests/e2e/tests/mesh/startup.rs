//! Pods that are not ready before they have caught up.

use anyhow::{Result, ensure};
use http::Method;
use murmur_e2e::sample::READY;
use murmur_e2e::{TestMesh, eventually, yaml};
use serde_json::{Value, json};

use crate::SOON;

/// The statement of the sample, and one for a table that has no such column.
const POSTS: &str = "INSERT INTO posts VALUES (:data.id, :data.title, :data.body)";
const WRONG: &str = "INSERT INTO posts (id, title, text) VALUES (:data.id, :data.id, :data.id)";
const RIGHT: &str = "INSERT INTO posts (id, title, body) VALUES (:data.id, :data.id, :data.id)";

#[tokio::test]
async fn row_7_a_query_service_is_not_ready_before_it_has_what_was_there_when_it_started() -> Result<()> {
    let mesh = TestMesh::create("behind").await?;
    mesh.apply(&yaml::service("posts", "  publishes: [{type: PostWritten}]")).await?;
    let posts = mesh.ready("posts").await?;
    let load = json!({"url": "http://localhost:8080/emit", "type": "PostWritten", "prefix": "t", "count": 300,
        "rate": 300, "keys": 1, "size": 200});
    posts.request(Method::POST, "/load", load).await?;
    ensure!(posts.finish_load(SOON).await?.failed == 0);

    // It cannot catch up, since its statement cannot be prepared.
    let sample = TestMesh::sample("blog", "query")?;
    let (port, waits) = ("  port: 8080\n", "  startup: {waitFor: CaughtUp}\n");
    ensure!(sample.contains(POSTS) && sample.contains(port));
    let sample = sample.replace(port, &format!("{port}{waits}"));
    mesh.apply(&sample.replace(POSTS, WRONG)).await?;
    mesh.wait_for("Microservice", "query", "DatabaseReady", "True", READY).await?;
    // What was said while the database was not there yet may stand for a moment.
    mesh.wait_until(("EventSubscription", "query", "Delivering"), READY, |told| {
        told.status == "False" && told.reason == "InvalidProjection" && told.message.contains("text")
    })
    .await?;
    eventually("it runs", SOON, || async {
        let answer = mesh.ask("query", Method::GET, "/readyz", Value::Null).await?;
        ensure!(answer.0 == 200, "{answer:?}");
        Ok(Some(()))
    })
    .await?;
    let ready = mesh.condition("Microservice", "query", "Ready").await?;
    ensure!(ready.as_ref().is_some_and(|found| found.status == "False"), "{ready:?}");

    mesh.apply(&sample.replace(POSTS, RIGHT)).await?;
    mesh.wait_for("Microservice", "query", "Ready", "True", READY).await?;
    // The last one is there at once.
    let last = mesh.ask("query", Method::GET, "/posts/t-000299", Value::Null).await?;
    ensure!(last.0 == 200 && last.1["title"] == "t-000299", "{last:?}");
    mesh.delete().await
}

/// Its handler of events calls the other before it answers.
fn calls(name: &str, other: &str) -> String {
    let call = format!("http://127.0.0.1:3600/v1/services/{other}/called/204");
    let more = format!(
        "  startup: {{waitFor: CaughtUp}}\n  calls: [{{name: {other}}}]\n  env: [{{name: RECORD_URL, value: '{call}'}}]"
    );
    [yaml::service(name, &more), yaml::subscription(name, name, "")].concat()
}

#[tokio::test]
async fn two_services_that_call_each_other_in_their_handlers_do_not_wait_for_each_other() -> Result<()> {
    let mesh = TestMesh::create("mutual").await?;
    mesh.apply(&yaml::publisher("teller")).await?;
    let teller = mesh.ready("teller").await?;
    teller.start_load("http://localhost:8080/emit", "t", 50, 200, 5).await?;
    ensure!(teller.finish_load(SOON).await?.failed == 0);

    mesh.apply(&[calls("a", "b"), calls("b", "a")].concat()).await?;
    for name in ["a", "b"] {
        mesh.ready(name).await?;
        // All of them were taken: each handler's call was answered.
        mesh.wait_for("EventSubscription", name, "CaughtUp", "True", SOON).await?;
        let dead = mesh.api("EventSubscription").get(name).await?.data["status"]["deadLetters"].clone();
        ensure!(dead.as_u64().unwrap_or(0) == 0, "{name}: {dead} dead letters");
    }
    mesh.delete().await
}
