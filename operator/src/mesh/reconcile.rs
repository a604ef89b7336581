//! Brings the streams of a mesh to what its Mesh says, and reports.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kube::ResourceExt;
use kube::runtime::controller::Action;
use murmur_crds::{Mesh, MeshStatus};
use murmur_plan::status::conditions::READY;
use murmur_plan::status::{Finding, merge};
use serde_json::json;

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
    let outcome = steps(&resource, &context).await;
    let finding = match &outcome {
        Ok(()) => Finding::new(READY, true, "StreamsReady", "the streams of the mesh are there"),
        Err(error) => {
            let problem = error.problem();
            Finding::new(READY, false, problem.reason, problem.message)
        }
    };
    let generation = resource.metadata.generation.unwrap_or_default();
    let existing = resource.status.as_ref().map_or(&[][..], |status| &status.conditions);
    let status = MeshStatus {
        observed_generation: Some(generation),
        conditions: merge(existing, [finding], generation, Timestamp::now()),
    };
    context.status.write(&*resource, &json!(status)).await.map_err(Error::Status)?;
    outcome.map(|()| Action::requeue(AGAIN))
}

async fn steps(resource: &Mesh, context: &Context) -> Result<(), Error> {
    let namespace = resource.namespace().unwrap_or_default();
    // A plan that cannot be made is this object's mistake, whether or not the mesh runs.
    context.streams(&namespace)?;
    let mesh = context.mesh(&namespace).await?;
    match mesh.settled().await?.refused {
        None => Ok(()),
        Some(error) => Err(error.into()),
    }
}
