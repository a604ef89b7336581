//! Objects that a service owns and that are no longer planned are removed.

use kube::ResourceExt;
use kube::api::{Api, DeleteParams, DynamicObject, Preconditions};
use kube::core::ApiResource;
use murmur_plan::Object;

use super::apply::{ApplyError, message};
use super::cache::Cache;
use super::ownership::Owner;
use crate::metrics::Metrics;

/// Removes the objects of `kinds` that `owner` owns and that are not among
/// `planned`. Each is read again, past the cache, before it goes, and goes only
/// as the very one that was read.
///
/// # Errors
/// When the API server refuses.
pub async fn prune(
    client: &kube::Client,
    cache: &Cache,
    metrics: &Metrics,
    owner: &Owner,
    kinds: &[ApiResource],
    planned: &[Object],
) -> Result<(), ApplyError> {
    for kind in kinds {
        for object in cache.of_service(kind, &owner.namespace, &owner.service) {
            let name = object.name_any();
            let wanted = planned.iter().any(|planned| planned.resource == *kind && planned.name == name);
            if wanted || !owner.owns(&object.metadata, false) {
                continue;
            }
            let refused = |error: &kube::Error| ApplyError::Refused {
                kind: kind.kind.clone(),
                name: name.clone(),
                done: "removed",
                message: message(error),
            };
            let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), &owner.namespace, kind);
            let Some(found) = api.get_metadata_opt(&name).await.map_err(|error| refused(&error))? else {
                continue;
            };
            if !owner.owns(&found.metadata, false) {
                continue;
            }
            let only_this = Preconditions { uid: found.metadata.uid, resource_version: None };
            let parameters = DeleteParams { preconditions: Some(only_this), ..DeleteParams::background() };
            match api.delete(&name, &parameters).await {
                Ok(_) => {
                    metrics.wrote(&kind.kind, "delete");
                    tracing::info!(kind = kind.kind, namespace = owner.namespace, name, "removed an object");
                }
                Err(kube::Error::Api(status)) if status.is_not_found() => {}
                Err(error) => return Err(refused(&error)),
            }
        }
    }
    Ok(())
}
