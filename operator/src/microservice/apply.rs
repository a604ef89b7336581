//! Brings the cluster to the plan.

use std::sync::Arc;

use kube::ResourceExt;
use kube::api::DynamicObject;
use murmur_plan::status::conditions::Problem;
use murmur_plan::{Object, object};

use super::database::Database;
use super::dereference::Dereferenced;
use super::rolling;
use crate::cluster::{ApplyError, Owner, prune};
use crate::context::Context;
use crate::error::Error;

/// What came of it.
pub(super) struct Applied {
    /// The objects as they are.
    pub(super) objects: Vec<Arc<DynamicObject>>,
    /// A claim that stays as small as it is.
    pub(super) refused: Option<Problem>,
    /// Why the database's pod stays as it is for now.
    pub(super) waits: Option<Problem>,
}

/// Applies what is planned, all or, when a name is taken, nothing; then removes
/// what is owned and no longer planned. Returns the objects as they are. `generation`: of the Microservice.
pub(super) async fn apply(
    context: &Context,
    there: &Dereferenced,
    database: Option<&Database>,
    planned: &[Object],
    generation: i64,
) -> Result<Applied, Error> {
    let owner = &there.owner;
    let (secrets, mut others): (Vec<Object>, Vec<Object>) =
        planned.iter().cloned().partition(|object| object.resource.kind == "Secret");
    let found = context.applier.look(owner, &others).await?;
    for secret in &secrets {
        let mut read = there.secret.iter().chain(database.iter().flat_map(|database| &database.live));
        let live = read.find(|live| live.name_any() == secret.name);
        context.applier.apply(owner, secret, live.cloned()).await?;
    }
    let mut applied = Applied { objects: Vec::with_capacity(others.len()), refused: None, waits: None };
    for (object, live) in others.iter_mut().zip(found) {
        if object.resource.kind == "StatefulSet" {
            applied.waits = rolling::server(context, owner, generation, object, live.as_deref());
            if let (Some(_), Some(live)) = (&applied.waits, &live) {
                applied.objects.push(live.clone());
                continue;
            }
        }
        match context.applier.apply(owner, object, live.clone()).await {
            Ok(done) => applied.objects.push(done),
            Err(error @ ApplyError::CannotGrow { .. }) => {
                let error = Error::Apply(error);
                applied.objects.push(keep_size(context, owner, object, live).await?);
                applied.refused = Some(error.problem());
            }
            Err(error) => return Err(error.into()),
        }
    }
    let kinds: Vec<_> = object::prunable().into_iter().filter(|kind| kind.kind != "Secret").collect();
    prune(&context.client, &context.cache, &context.metrics, owner, &kinds, planned).await?;
    Ok(applied)
}

/// Applies what else is planned of a claim that cannot be made larger.
async fn keep_size(
    context: &Context,
    owner: &Owner,
    object: &Object,
    live: Option<Arc<DynamicObject>>,
) -> Result<Arc<DynamicObject>, ApplyError> {
    let mut object = object.clone();
    if let Some(live) = &live {
        object.value["spec"]["resources"] = live.data["spec"]["resources"].clone();
    }
    context.applier.apply(owner, &object, live).await
}
