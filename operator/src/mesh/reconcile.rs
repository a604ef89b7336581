//! Brings the streams of a mesh to what its Mesh says, and reports.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kube::ResourceExt;
use kube::runtime::controller::Action;
use murmur_crds::mesh::EventStoreStatus;
use murmur_crds::{Mesh, MeshStatus};
use murmur_plan::status::conditions::READY;
use murmur_plan::status::event_store::{EventStore, replaced};
use murmur_plan::status::{Finding, merge, room};
use serde_json::json;

use super::backup;
use crate::context::Context;
use crate::error::Error;

/// How often an object is looked at although nothing has changed.
const AGAIN: Duration = Duration::from_secs(600);

/// Reconciles a Mesh.
///
/// # Errors
/// When it cannot be planned, or its streams are not there; the status says so too.
pub async fn reconcile(resource: Arc<Mesh>, context: Arc<Context>) -> Result<Action, Error> {
    if resource.metadata.deletion_timestamp.is_some() {
        return Ok(Action::await_change());
    }
    let mut store = None;
    let outcome = steps(&resource, &context, &mut store).await;
    let finding = match &outcome {
        Ok(()) => Finding::new(READY, true, "StreamsReady", "the streams of the mesh are there"),
        Err(error) => {
            let problem = error.problem();
            Finding::new(READY, false, problem.reason, problem.message)
        }
    };
    let room = match context.mesh(&resource.namespace().unwrap_or_default()).await {
        Ok(mesh) => {
            let seen = mesh.observed().event_store;
            room::finding(seen.as_ref().map(|(figures, _)| figures), seen.is_some_and(|(_, full)| full))
        }
        Err(_) => room::finding(None, false),
    };
    let generation = resource.metadata.generation.unwrap_or_default();
    let known = resource.status.clone().unwrap_or_default();
    let before = known.event_store.as_ref().and_then(|store| store.created.clone());
    let replaced = replaced(&known.conditions, before.as_deref(), store.as_ref(), generation);
    let findings = [Some(finding), Some(room), replaced].into_iter().flatten();
    let status = MeshStatus {
        observed_generation: Some(generation),
        event_store: store
            .map(|store| EventStoreStatus { created: Some(store.created) })
            .or(known.event_store),
        conditions: merge(&known.conditions, findings, generation, Timestamp::now()),
    };
    context.status.write(&*resource, &json!(status)).await.map_err(Error::Status)?;
    outcome.map(|()| Action::requeue(AGAIN))
}

/// Notes in `store` which event store there is.
async fn steps(resource: &Mesh, context: &Context, store: &mut Option<EventStore>) -> Result<(), Error> {
    // The cluster first: it works without the bus, too. What is wrong with either is said of
    // that one alone, and what is this object's own mistake comes first.
    let backup = backup::apply(resource, context).await;
    let streams = streams(resource, context, store).await;
    backup.and(streams)
}

async fn streams(resource: &Mesh, context: &Context, store: &mut Option<EventStore>) -> Result<(), Error> {
    let namespace = resource.namespace().unwrap_or_default();
    // A plan that cannot be made is this object's mistake, whether or not the mesh runs.
    context.streams(&namespace)?;
    let ready = context.mesh(&namespace).await?.settled().await?;
    *store = Some(ready.store());
    ready.refused.map_or(Ok(()), |error| Err(error.into()))
}
