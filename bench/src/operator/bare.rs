//! The bare client: it applies the objects that the operator has made, to
//! another namespace, and that is all.

use std::time::Instant;

use anyhow::{Context, Result};
use futures::{StreamExt, TryStreamExt, stream};
use kube::api::{Api, DynamicObject, ListParams, Patch, PatchParams};
use kube::core::{ApiResource, GroupVersionKind, TypeMeta};
use kube::{Client, ResourceExt};

use super::AT_ONCE;
use super::bed::Bed;

/// What it took.
pub struct Bare {
    /// Seconds.
    pub seconds: f64,
    /// Requests, one an object.
    pub requests: usize,
}

/// The kinds that the operator makes.
const KINDS: [(&str, &str, &str); 8] = [
    ("", "v1", "ServiceAccount"),
    ("", "v1", "Secret"),
    ("", "v1", "ConfigMap"),
    ("", "v1", "Service"),
    ("networking.k8s.io", "v1", "NetworkPolicy"),
    ("policy", "v1", "PodDisruptionBudget"),
    ("", "v1", "PersistentVolumeClaim"),
    ("apps", "v1", "Deployment"),
];

/// Reads what is in `from` and applies it to the namespace `bare`.
///
/// # Errors
/// When an object is refused.
pub async fn apply(bed: &Bed, from: &str) -> Result<Bare> {
    let mut objects = Vec::new();
    for (group, version, kind) in KINDS {
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
        let api: Api<DynamicObject> = Api::namespaced_with(bed.client.clone(), from, &resource);
        let list = api.list(&ListParams::default().labels("app.kubernetes.io/managed-by=murmur")).await?;
        objects.extend(list.items.into_iter().map(|object| (resource.clone(), bare(&resource, object))));
    }
    let requests = objects.len();
    let began = Instant::now();
    stream::iter(objects)
        .map(|(resource, object)| apply_one(bed.client.clone(), resource, object))
        .buffer_unordered(AT_ONCE)
        .try_collect::<Vec<()>>()
        .await?;
    Ok(Bare { seconds: began.elapsed().as_secs_f64(), requests })
}

/// The object as one would write it: without what the server has added.
fn bare(resource: &ApiResource, mut object: DynamicObject) -> DynamicObject {
    // The items of a list do not say what they are.
    object.types = Some(TypeMeta { api_version: resource.api_version.clone(), kind: resource.kind.clone() });
    let metadata = std::mem::take(&mut object.metadata);
    object.metadata.name = metadata.name;
    object.metadata.labels = metadata.labels;
    if let Some(data) = object.data.as_object_mut() {
        data.remove("status");
        if let Some(spec) = data.get_mut("spec").and_then(serde_json::Value::as_object_mut) {
            spec.remove("clusterIP");
            spec.remove("clusterIPs");
        }
    }
    object
}

async fn apply_one(client: Client, resource: ApiResource, object: DynamicObject) -> Result<()> {
    let api: Api<DynamicObject> = Api::namespaced_with(client, "bare", &resource);
    let parameters = PatchParams::apply("bare").force();
    let name = object.name_any();
    api.patch(&name, &parameters, &Patch::Apply(&object))
        .await
        .with_context(|| format!("apply {} {name}", resource.kind))?;
    Ok(())
}
