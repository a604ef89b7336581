//! `murmur-operator check`, which `helm test` runs: looks at all that the
//! operator needs, as the operator, and says what it found. It changes nothing.

use anyhow::{Context as _, bail};
use kube::api::{Api, ListParams};
use murmur_crds::{EventSubscription, Mesh, Microservice};

use crate::bus::SystemConnection;
use crate::settings::Settings;
use crate::trust::load_trust;

/// Looks at the API server, the resource types, the keys and the event bus.
/// Returns a line on each.
///
/// # Errors
/// At the first thing that is not as it must be, with what to do about it.
pub async fn check(settings: Settings, client: kube::Client) -> anyhow::Result<Vec<String>> {
    let version = client.apiserver_version().await.context("the Kubernetes API does not answer")?;
    let mut found = vec![format!("Kubernetes {}", version.git_version)];

    let first = ListParams::default().limit(1);
    let missing = "cannot list them; install the chart murmur-crds, and this chart's RBAC";
    Api::<Microservice>::all(client.clone())
        .list(&first)
        .await
        .with_context(|| format!("Microservices: {missing}"))?;
    Api::<EventSubscription>::all(client.clone())
        .list(&first)
        .await
        .with_context(|| format!("EventSubscriptions: {missing}"))?;
    Api::<Mesh>::all(client.clone()).list(&first).await.with_context(|| format!("Meshes: {missing}"))?;
    found.push("the resource types are there, and may be read".to_owned());

    // Only read: whoever looks makes no keys.
    let reading = Settings { trust_create: false, ..settings.clone() };
    let trust = load_trust(&client, &reading).await.with_context(|| match settings.trust_create {
        true => "the operator makes its keys at its first start: see its log",
        false => "the keys of your own NATS",
    })?;
    found.push(format!("the keys are in the Secret {}", settings.trust_secret()));

    let server = SystemConnection::new(settings.nats_url.clone(), trust).server().await?;
    if !server.jetstream {
        bail!("NATS at {} runs without JetStream; turn it on", settings.nats_url);
    }
    found.push(format!("NATS {} at {} trusts them, with JetStream", server.version, settings.nats_url));
    Ok(found)
}
