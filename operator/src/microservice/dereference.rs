//! Reads all that planning a service needs.

use std::sync::Arc;

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
    let kind = ApiResource::erase::<k8s_openapi::api::core::v1::Secret>(&());
    let secrets: Api<DynamicObject> = Api::namespaced_with(context.client.clone(), &namespace, &kind);
    let secret = secrets.get_opt(&name).await.map_err(|error| ApplyError::Refused {
        kind: kind.kind.clone(),
        name: name.clone(),
        done: "read",
        message: message(&error),
    })?;
    let owner = Owner { uid: resource.uid().unwrap_or_default(), service: service.clone(), namespace };
    if let Some(secret) = &secret
        && !owner.owns(&secret.metadata, false)
    {
        return Err(ApplyError::NameTaken { kind: kind.kind, name }.into());
    }
    let kind = ApiResource::erase::<k8s_openapi::api::core::v1::ConfigMap>(&());
    let config = context
        .cache
        .get(&kind, &owner.namespace, &name)
        .filter(|found| owner.owns(&found.metadata, false))
        // One that was broken by hand counts as none: it is written anew.
        .and_then(|found| serde_json::from_str(found.data["data"][CONFIG_FILE].as_str()?).ok());
    Ok(Dereferenced { secret: secret.map(Arc::new), config, owner })
}
