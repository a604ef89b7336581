//! Larger volumes, and one that cannot be had.

use anyhow::{Result, ensure};
use murmur_e2e::TestMesh;
use serde_json::{Value, json};

use super::{databases_ready, told, with_database};
use crate::SOON;

/// A class of volumes made on the node, which may grow as far as the API is concerned; nobody makes them larger.
fn class(name: &str, grows: bool) -> String {
    json!({"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass",
        "metadata": {"name": name, "annotations": {"defaultVolumeType": "local"}},
        "provisioner": "rancher.io/local-path", "volumeBindingMode": "WaitForFirstConsumer",
        "allowVolumeExpansion": grows})
    .to_string()
}

async fn grow(mesh: &TestMesh, service: &str) -> Result<()> {
    let wish = r#"{"spec":{"database":{"storage":{"size":"128Mi"}}}}"#;
    mesh.kubectl(&["patch", &format!("msvc/{service}"), "--type=merge", "-p", wish]).await?;
    Ok(())
}

async fn asked_for(mesh: &TestMesh, service: &str) -> Result<String> {
    let size = "jsonpath={.spec.resources.requests.storage}";
    mesh.kubectl(&["get", &format!("pvc/{service}-db"), "-o", size]).await
}

/// Says of a claim what the one that resizes it would.
async fn resizer_says(mesh: &TestMesh, service: &str, status: &Value) -> Result<()> {
    let (claim, status) = (format!("pvc/{service}-db"), json!({"status": status}).to_string());
    mesh.kubectl(&["patch", &claim, "--subresource=status", "--type=merge", "-p", &status]).await?;
    Ok(())
}

#[tokio::test]
async fn row_1_a_volume_grows_where_its_class_can_and_what_cannot_be_had_is_told() -> Result<()> {
    let mesh = TestMesh::create("volumes").await?;
    let growing = format!("{}-grows", mesh.namespace);
    let missing = format!("{}-missing", mesh.namespace);
    mesh.apply(&class(&growing, true)).await?;
    for (service, class) in [("grows", growing.as_str()), ("stays", "murmur-local"), ("waits", &missing)] {
        let storage = format!("storageClassName: {class}, size: 64Mi");
        mesh.apply(&with_database(service, "Redis", &storage)).await?;
    }
    databases_ready(&mesh, &["grows", "stays"]).await?;

    grow(&mesh, "grows").await?;
    let grows = told(&mesh, "grows", "StorageGrowing").await?;
    ensure!(grows.status == "True" && grows.message.contains("from 64Mi to 128Mi"), "{grows:?}");
    ensure!(asked_for(&mesh, "grows").await? == "128Mi");
    let resizing = json!({"type": "Resizing", "status": "True", "message": "the disk is asked for"});
    resizer_says(&mesh, "grows", &json!({"conditions": [resizing]})).await?;
    mesh.wait_until(("Microservice", "grows", "DatabaseReady"), SOON, |found| {
        found.message.contains("Resizing: the disk is asked for")
    })
    .await?;
    resizer_says(&mesh, "grows", &json!({"conditions": [], "capacity": {"storage": "128Mi"}})).await?;
    told(&mesh, "grows", "Ready").await?;

    grow(&mesh, "stays").await?;
    let stays = told(&mesh, "stays", "StorageCannotGrow").await?;
    ensure!(stays.status == "False" && stays.message.contains("stays-db"), "{stays:?}");
    ensure!(asked_for(&mesh, "stays").await? == "64Mi");
    let pod = "jsonpath={.status.conditions[?(@.type=='Ready')].status}";
    ensure!(mesh.kubectl(&["get", "pod", "stays-db-0", "-o", pod]).await? == "True", "stays does not go on");

    // A volume that cannot be bound, until it can.
    mesh.wait_until(("Microservice", "waits", "DatabaseReady"), SOON, |found| {
        found.status == "False" && found.reason == "ClaimPending" && found.message.contains(&missing)
    })
    .await?;
    mesh.apply(&class(&missing, false)).await?;
    databases_ready(&mesh, &["waits"]).await?;
    for class in [growing, missing] {
        mesh.kubectl(&["delete", "storageclass", &class]).await?;
    }
    mesh.delete().await
}
