//! The objects of a mesh's backups, applied, or removed when none are asked for.

use kube::api::{Api, DeleteParams, DynamicObject, Preconditions};
use kube::{Resource, ResourceExt};
use murmur_crds::Mesh;
use murmur_plan::mesh::backup::{self, BACKUP};

use crate::cluster::{ApplyError, Owner, message};
use crate::context::Context;
use crate::error::Error;

/// Makes the CronJob and the claim as the Mesh asks, or removes the CronJob.
pub(super) async fn apply(resource: &Mesh, context: &Context) -> Result<(), Error> {
    let namespace = resource.namespace().unwrap_or_default();
    let uid = resource.uid().unwrap_or_default();
    let owner = Owner { uid: uid.clone(), service: BACKUP.to_owned(), namespace: namespace.clone() };
    let Some(valid) = backup::validate(resource)? else {
        return remove(context, &owner).await;
    };
    let objects = backup::objects(&namespace, &uid, &valid, &context.settings.plan);
    let there = context.applier.look(&owner, &objects).await?;
    for (object, live) in objects.iter().zip(there) {
        context.applier.apply(&owner, object, live).await?;
    }
    Ok(())
}

/// The CronJob goes; the claim, with what was saved, stays.
async fn remove(context: &Context, owner: &Owner) -> Result<(), Error> {
    let kind = backup::cron_job();
    let api: Api<DynamicObject> = Api::namespaced_with(context.client.clone(), &owner.namespace, &kind);
    let refused = |done: &'static str, error: &kube::Error| ApplyError::Refused {
        kind: kind.kind.clone(),
        name: BACKUP.to_owned(),
        done,
        message: message(error),
    };
    let found = api.get_metadata_opt(BACKUP).await.map_err(|error| refused("read", &error))?;
    let Some(found) = found.filter(|found| owner.owns(found.meta(), false)) else { return Ok(()) };
    // Only this very one, not one of its name that came since.
    let preconditions = Preconditions { uid: found.uid(), resource_version: None };
    let parameters = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::background() };
    match api.delete(BACKUP, &parameters).await {
        Ok(_) => {
            context.metrics.wrote(&kind.kind, "delete");
            Ok(())
        }
        Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() => Ok(()),
        Err(error) => Err(refused("removed", &error).into()),
    }
}
