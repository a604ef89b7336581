//! Validate, dereference, plan, apply, report: the steps in their order. Each
//! is safe to repeat after a crash at any point.

use std::sync::Arc;
use std::time::Duration;

use kube::runtime::controller::Action;
use murmur_crds::EventSubscription;
use murmur_mesh::stream;
use murmur_plan::status::subscription::ObservedRun;
use murmur_plan::subscription;

use super::status::Findings;
use super::{apply, dereference, plan, status};
use crate::bus::last_sequence;
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
    let unfinished = findings.unfinished;
    let again = status::write(&resource, &context, findings).await?;
    outcome?;
    if unfinished {
        return Ok(Action::requeue(SOON));
    }
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
    let ready = mesh.settled().await?;
    let runs = apply::runs(&mesh, &subscription)?;
    let known = resource.status.as_ref().and_then(|status| status.event_store.as_deref());
    let event_store = ready.store();
    let replaced = event_store.replaces(known);
    let last = match runs.begins(&subscription) {
        true => last_sequence(&ready.client, stream::EVENTS).await?,
        false => 0,
    };
    let wanted = runs.wanted(&subscription, replaced, last);
    let planned = plan::plan(&subscription, &wanted);
    findings.progress = Some(apply::apply(context, &mesh, &ready, &planned).await?);
    let later = wanted.added_later(&subscription.events);
    findings.run = Some(ObservedRun {
        event_store,
        id: wanted.id.clone(),
        boundary: wanted.replay.as_ref().map(|replay| replay.boundary),
        added_later: later.into_iter().map(ToString::to_string).collect(),
    });
    findings.unfinished = apply::retire(context, &mesh, &ready, &subscription, (&runs, &wanted)).await?;
    Ok(())
}
