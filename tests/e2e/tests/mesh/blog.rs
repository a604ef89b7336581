//! Rows 7, 9 and 10 of systems.md on the blog: a query service, resources and their paths, copies of a container.

use anyhow::{Result, ensure};
use http::{Method, StatusCode};
use murmur_e2e::sample::READY;
use murmur_e2e::{TestMesh, eventually, yaml};
use serde_json::{Value, json};

use crate::SOON;

fn post(path: &str, body: Value) -> (Method, &str, Value) {
    (Method::POST, path, body)
}

fn decide<'a>(path: &'a str, status: &str) -> (Method, &'a str, Value) {
    (Method::PUT, path, json!({"status": status}))
}

#[tokio::test]
async fn row_7_a_query_service_that_was_away_catches_up_and_misses_nothing() -> Result<()> {
    let mesh = TestMesh::create("blog").await?;
    mesh.apply_samples("blog", &["posts", "comments", "moderation", "query"]).await?;
    let hello = json!({"id": "1", "title": "Hello", "body": "I am here."});
    mesh.answers("posts", post("/posts", hello), StatusCode::CREATED, SOON).await?;
    // comments has heard of the post some milliseconds later
    let first = post("/posts/1/comments", json!({"id": "c1", "text": "First"}));
    mesh.answers("comments", first, StatusCode::CREATED, SOON).await?;
    let comment = |id: &str, text: &str, status: &str| json!({"id": id, "text": text, "status": status});
    let told =
        |comments: Value| json!({"id": "1", "title": "Hello", "body": "I am here.", "comments": comments});
    mesh.tells("query", "/posts/1", &told(json!([comment("c1", "First", "pending")])), SOON).await?;

    mesh.kubectl(&["scale", "msvc/query", "--replicas=0"]).await?;
    mesh.kubectl(&["wait", "--for=delete", "pod", "-l", "murmur.dev/microservice=query", "--timeout=90s"])
        .await?;
    let second = post("/posts/1/comments", json!({"id": "c2", "text": "Second"}));
    mesh.answers("comments", second, StatusCode::CREATED, SOON).await?;
    mesh.answers("moderation", decide("/comments/c1", "approved"), StatusCode::OK, SOON).await?;
    mesh.answers("moderation", decide("/comments/c2", "rejected"), StatusCode::OK, SOON).await?;
    mesh.kubectl(&["scale", "msvc/query", "--replicas=1"]).await?;
    mesh.wait_for("Microservice", "query", "Ready", "True", READY).await?;
    let all = json!([comment("c1", "First", "approved"), comment("c2", "Second", "rejected")]);
    mesh.tells("query", "/posts/1", &told(all), SOON).await?;
    mesh.delete().await
}

#[tokio::test]
async fn row_9_each_resource_has_its_service_and_its_paths_may_depend_on_anothers() -> Result<()> {
    let mesh = TestMesh::create("paths").await?;
    mesh.apply_samples("blog", &["posts", "comments"]).await?;
    let get = |path| (Method::GET, path, Value::Null);
    mesh.answers("comments", get("/posts/1/comments"), StatusCode::NOT_FOUND, SOON).await?;
    let hello = json!({"id": "1", "title": "Hello", "body": ""});
    let kept = mesh.answers("posts", post("/posts", hello.clone()), StatusCode::CREATED, SOON).await?;
    ensure!(kept == hello, "{kept}");
    // Once it has heard of the post it has the post's comments, though it never asks posts.
    mesh.tells("comments", "/posts/1/comments", &json!([]), SOON).await?;
    mesh.kubectl(&["scale", "msvc/posts", "--replicas=0"]).await?;
    mesh.kubectl(&["wait", "--for=delete", "pod", "-l", "murmur.dev/microservice=posts", "--timeout=90s"])
        .await?;
    let said = post("/posts/1/comments", json!({"id": "c1", "text": "Well said."}));
    let said = mesh.answers("comments", said, StatusCode::CREATED, SOON).await?;
    ensure!(said["post"] == "1" && said["status"] == "pending", "{said}");
    mesh.tells("comments", "/posts/1/comments", &json!([said]), SOON).await?;
    mesh.tells("comments", "/posts/1/comments/c1", &said, SOON).await?;
    // Each path takes its methods and its data only.
    for (method, path, body, status) in [
        (Method::POST, "/posts/2/comments", json!({"text": "x"}), 404),
        (Method::POST, "/posts/1/comments", json!({"text": 7}), 400),
        (Method::GET, "/posts/1/comments/c9", Value::Null, 404),
        (Method::DELETE, "/posts/1/comments", Value::Null, 404),
        (Method::GET, "/posts/1", Value::Null, 404),
    ] {
        let (answered, body) = mesh.ask("comments", method.clone(), path, body).await?;
        ensure!(answered == status, "{method} {path}: {answered} {body}");
    }
    mesh.delete().await
}

#[tokio::test]
async fn row_10_copies_of_a_container_are_run_scaled_and_connected_and_share_one_database() -> Result<()> {
    let mesh = TestMesh::create("copies").await?;
    mesh.apply(&yaml::service("reader", "  calls: [{name: posts, timeout: 5s}]")).await?;
    mesh.apply_samples("blog", &["posts"]).await?;
    let reader = mesh.ready("reader").await?;
    let hello = json!({"id": "1", "title": "Hello", "body": ""});
    mesh.answers("posts", post("/posts", hello.clone()), StatusCode::CREATED, SOON).await?;

    mesh.kubectl(&["scale", "msvc/posts", "--replicas=3"]).await?;
    each_copy_tells(&mesh, 3, &hello).await?;
    let pods = mesh.cluster.pods(&mesh.namespace, "murmur.dev/microservice=posts").await?;
    let victim = pods.first().and_then(|pod| pod.metadata.name.clone()).unwrap_or_default();
    mesh.kubectl(&["delete", "pod", &victim, "--grace-period=0", "--force"]).await?;
    each_copy_tells(&mesh, 3, &hello).await?;
    // Others find them by name, however many there are.
    for replicas in [3, 1] {
        mesh.kubectl(&["scale", "msvc/posts", &format!("--replicas={replicas}")]).await?;
        each_copy_tells(&mesh, replicas, &hello).await?;
        eventually("another service reaches them", SOON, || async {
            let reply = reader.talk(Method::GET, "/v1/services/posts/posts/1", &[], &Value::Null).await?;
            if reply.status == 200 && reply.json() == hello {
                Ok(Some(()))
            } else {
                anyhow::bail!("{reply:?}")
            }
        })
        .await?;
    }
    mesh.delete().await
}

/// Waits until there are so many copies of posts, ready, and each tells the same.
async fn each_copy_tells(mesh: &TestMesh, count: usize, wanted: &Value) -> Result<()> {
    eventually(&format!("{count} copies answer"), READY, || async {
        let ready = ["get", "msvc/posts", "-o", "jsonpath={.status.readyReplicas}"];
        let ready = mesh.kubectl(&ready).await?;
        let pods = mesh.cluster.pods(&mesh.namespace, "murmur.dev/microservice=posts").await?;
        ensure!(pods.len() == count && ready == count.to_string(), "{} pods, {ready} ready", pods.len());
        for pod in pods {
            let name = pod.metadata.name.unwrap_or_default();
            let body = bytes::Bytes::new();
            let (status, body) =
                mesh.cluster.http(&mesh.namespace, &name, 8080, Method::GET, "/posts/1", body).await?;
            let told: Value = serde_json::from_slice(&body).unwrap_or_default();
            ensure!(status == 200 && told == *wanted, "{name}: {status} {told}");
        }
        Ok(Some(()))
    })
    .await
}
