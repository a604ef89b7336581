//! Reads all that planning a service needs.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::ResourceExt;
use kube::api::{Api, DynamicObject};
use kube::core::ApiResource;
use murmur_crds::Microservice;
use murmur_mesh::config::{CONFIG_FILE, SidecarConfig};

use crate::cluster::{ApplyError, Owner, message};
use crate::context::Context;
use crate::error::Error;

/// What there is.
pub(super) struct Dereferenced {
    /// Whose objects are meant.
    pub(super) owner: Owner,
    /// Its sidecar's Secret, read past any cache: Secrets are not watched.
    pub(super) secret: Option<Arc<DynamicObject>>,
    /// What its ConfigMap tells its sidecar.
    pub(super) config: Option<SidecarConfig>,
}

/// Reads it.
pub(super) async fn dereference(resource: &Microservice, context: &Context) -> Result<Dereferenced, Error> {
    let service = resource.name_any();
    let namespace = resource.namespace().unwrap_or_default();
    let name = format!("{service}-sidecar");
    let kind = ApiResource::erase::<Secret>(&());
    let secrets: Api<DynamicObject> = Api::namespaced_with(context.client.clone(), &namespace, &kind);
    let secret = secrets.get_opt(&name).await.map_err(|error| ApplyError::Refused {
        kind: kind.kind.clone(),
        name: name.clone(),
        done: "read",
        message: message(&error),
    })?;
    let owner = Owner { uid: resource.uid().unwrap_or_default(), service: service.clone(), namespace };
    if let Some(secret) = &secret {
        owner.must_own(&kind, &name, &secret.metadata, false)?;
    }
    let kind = ApiResource::erase::<ConfigMap>(&());
    let config = context.cache.get(&kind, &owner.namespace, &name).and_then(|found| told(&owner, &found));
    Ok(Dereferenced { secret: secret.map(Arc::new), config, owner })
}

/// What the ConfigMap tells the sidecar, read past the cache: before something
/// else is told, what was told last must be known, or a generation might be
/// used twice.
pub(super) async fn told_last(context: &Context, owner: &Owner) -> Result<Option<SidecarConfig>, Error> {
    let kind = ApiResource::erase::<ConfigMap>(&());
    let maps: Api<DynamicObject> = Api::namespaced_with(context.client.clone(), &owner.namespace, &kind);
    let name = format!("{}-sidecar", owner.service);
    let found = maps.get_opt(&name).await.map_err(|error| ApplyError::Refused {
        kind: kind.kind.clone(),
        name,
        done: "read",
        message: message(&error),
    })?;
    Ok(found.and_then(|found| told(owner, &found)))
}

/// One that is not ours, or was broken by hand, counts as none.
fn told(owner: &Owner, map: &DynamicObject) -> Option<SidecarConfig> {
    let text = map.data["data"][CONFIG_FILE].as_str()?;
    if owner.owns(&map.metadata, false) { serde_json::from_str(text).ok() } else { None }
}
