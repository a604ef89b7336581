//! Brings the cluster to the plan.

use std::sync::Arc;

use kube::api::DynamicObject;
use murmur_plan::{Object, object};

use super::dereference::Dereferenced;
use crate::cluster::prune;
use crate::context::Context;
use crate::error::Error;

/// Applies what is planned, all or, when a name is taken, nothing; then removes
/// what is owned and no longer planned. Returns the objects as they are.
pub(super) async fn apply(
    context: &Context,
    there: &Dereferenced,
    planned: &[Object],
) -> Result<Vec<Arc<DynamicObject>>, Error> {
    let owner = &there.owner;
    let (secrets, others): (Vec<Object>, Vec<Object>) =
        planned.iter().cloned().partition(|object| object.resource.kind == "Secret");
    let found = context.applier.look(owner, &others).await?;
    for secret in &secrets {
        context.applier.apply(owner, secret, there.secret.clone()).await?;
    }
    let mut applied = Vec::with_capacity(others.len());
    for (object, live) in others.iter().zip(found) {
        applied.push(context.applier.apply(owner, object, live).await?);
    }
    let kinds: Vec<_> = object::prunable().into_iter().filter(|kind| kind.kind != "Secret").collect();
    prune(&context.client, &context.cache, &context.metrics, owner, &kinds, planned).await?;
    Ok(applied)
}
