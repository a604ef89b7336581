//! Row 4 of systems.md on the shop: a service that keeps what it needs in a database of its own, fed by events.

use std::time::Duration;

use anyhow::{Result, ensure};
use http::{Method, StatusCode};
use murmur_e2e::TestMesh;
use murmur_e2e::sample::READY;
use serde_json::json;

use crate::SOON;

const OTHERS: [&str; 3] = ["users", "products", "orders"];

#[tokio::test]
async fn row_4_a_read_model_of_its_own_needs_nobody_and_comes_anew_from_the_event_store() -> Result<()> {
    let mesh = TestMesh::create("shop").await?;
    mesh.apply_samples("shop", &[&OTHERS[..], &["history"]].concat()).await?;
    let pants = json!({"id": 5, "title": "pants", "image": "pants.jpeg"});
    let shoes = json!({"id": 20, "title": "shoes", "image": "shoes.png"});
    for (service, path, body) in [
        ("users", "/users", json!({"id": 1, "name": "Ada"})),
        ("products", "/products", pants.clone()),
        ("products", "/products", shoes.clone()),
        ("orders", "/orders", json!({"id": "a", "user": 1, "product": 5})),
        ("orders", "/orders", json!({"id": "b", "user": 1, "product": 20})),
    ] {
        mesh.answers(service, (Method::POST, path, body), StatusCode::CREATED, SOON).await?;
    }
    let history = json!([pants, shoes]);
    mesh.tells("history", "/users/1/history", &history, SOON).await?;

    // With all the others gone it answers in full.
    for service in OTHERS {
        mesh.kubectl(&["scale", &format!("msvc/{service}"), "--replicas=0"]).await?;
    }
    for service in OTHERS {
        let label = format!("murmur.dev/microservice={service}");
        mesh.kubectl(&["wait", "--for=delete", "pod", "-l", &label, "--timeout=90s"]).await?;
    }
    let (status, told) =
        mesh.ask("history", Method::GET, "/users/1/history", serde_json::Value::Null).await?;
    ensure!(status == 200 && told == history, "{status} {told}");

    // And from nothing: no pod, no data, no subscription, no other service.
    mesh.kubectl(&["delete", "msvc/history", "esub/history", "--wait=true"]).await?;
    let pods = ["wait", "--for=delete", "pod", "-l", "murmur.dev/microservice=history", "--timeout=90s"];
    mesh.kubectl(&pods).await?;
    mesh.kubectl(&["delete", "pvc", "history-data"]).await?;
    mesh.apply_samples("shop", &["history"]).await?;
    mesh.tells("history", "/users/1/history", &history, READY).await?;
    mesh.wait_for("EventSubscription", "history", "CaughtUp", "True", Duration::from_secs(60)).await?;
    mesh.delete().await
}
