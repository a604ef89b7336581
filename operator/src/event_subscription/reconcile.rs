//! Validate, dereference, plan, apply, report: the steps in their order. Each
//! is safe to repeat after a crash at any point.

use std::sync::Arc;
use std::time::Duration;

use kube::runtime::controller::Action;
use murmur_crds::EventSubscription;
use murmur_plan::subscription;

use super::status::Findings;
use super::{apply, dereference, plan, status};
use crate::context::Context;
use crate::error::Error;

/// How often an object is looked at although nothing has changed.
const AGAIN: Duration = Duration::from_secs(600);
/// The shortest wait: for reports to grow old, or for the first connection to the bus.
const SOON: Duration = Duration::from_secs(1);

/// Reconciles an EventSubscription.
///
/// # Errors
/// What keeps it from being as planned; the status says so too.
pub async fn reconcile(resource: Arc<EventSubscription>, context: Arc<Context>) -> Result<Action, Error> {
    if resource.metadata.deletion_timestamp.is_some() {
        return Ok(Action::await_change());
    }
    let mut findings = Findings::default();
    let outcome = steps(&resource, &context, &mut findings).await;
    if resource.status.is_some()
        && let Err(error) = &outcome
        && error.is_no_news()
    {
        return Ok(Action::requeue(SOON));
    }
    findings.blocked = outcome.as_ref().err().map(Error::problem);
    let again = status::write(&resource, &context, findings).await?;
    outcome?;
    Ok(Action::requeue(again.map_or(AGAIN, |again| again.clamp(SOON, AGAIN))))
}

async fn steps(
    resource: &EventSubscription,
    context: &Context,
    findings: &mut Findings,
) -> Result<(), Error> {
    let subscription = subscription::validate(resource)?;
    let mesh = dereference::dereference(resource, context).await?;
    findings.mesh = Some(mesh.clone());
    findings.progress = Some(apply::apply(context, &mesh, &plan::plan(&subscription)).await?);
    Ok(())
}
