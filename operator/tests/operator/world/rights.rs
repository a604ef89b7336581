//! What the operator may do: what the chart gives it.

use kube::Client;
use kube::api::{Api, PostParams};
use murmur_test_apiserver::TestApiServer;
use serde_json::{Value, json};
use tokio::process::Command;

use super::SYSTEM;

/// A kubeconfig for the operator with the rights that the chart gives it, and no others.
pub(super) async fn least_rights(
    client: &Client,
    server: &TestApiServer,
) -> anyhow::Result<tempfile::NamedTempFile> {
    let chart = concat!(env!("CARGO_MANIFEST_DIR"), "/../charts/murmur");
    let rendered = Command::new(murmur_test_apiserver::tool("helm")?)
        .args(["template", "murmur", chart, "--namespace", SYSTEM])
        .args(["--kube-version", "1.33.0", "--show-only", "templates/operator/rbac.yaml"])
        .output()
        .await?;
    anyhow::ensure!(rendered.status.success(), "{}", String::from_utf8_lossy(&rendered.stderr));
    for document in String::from_utf8(rendered.stdout)?.split("\n---") {
        let Ok(mut object) = serde_saphyr::from_str::<Value>(document) else { continue };
        let kind = object["kind"].as_str().unwrap_or_default().to_owned();
        if kind == "Role" {
            // These tests use a lease for each operator; the chart knows one.
            for rule in object["rules"].as_array_mut().into_iter().flatten() {
                rule.as_object_mut().map(|rule| rule.remove("resourceNames"));
            }
        }
        let object: kube::api::DynamicObject = serde_json::from_value(object)?;
        let types = object.types.clone().unwrap_or_default();
        let kind = kube::core::GroupVersionKind::try_from(&types)?;
        let plural = kube::core::ApiResource::from_gvk(&kind);
        let api: Api<kube::api::DynamicObject> = if object.metadata.namespace.is_some() {
            Api::namespaced_with(client.clone(), SYSTEM, &plural)
        } else {
            Api::all_with(client.clone(), &plural)
        };
        api.create(&PostParams::default(), &object).await?;
    }
    let mut config: Value = serde_json::from_str(&std::fs::read_to_string(server.kubeconfig())?)?;
    config["users"][0]["user"]["as"] = json!(format!("system:serviceaccount:{SYSTEM}:murmur-operator"));
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(file.path(), config.to_string())?;
    Ok(file)
}
