//! Brings the durables of a subscription to the plan.

use std::sync::Arc;
use std::time::Instant;

use murmur_plan::status::subscription::DurableProgress;
use murmur_plan::subscription::{Runs, ValidSubscription, WantedRun};

use crate::bus::{
    BusError, Changed, Mesh, Published, Ready, Wanted, ensure_durable, read_config, remove_durable,
};
use crate::context::Context;
use crate::error::Error;

/// Makes and puts right what differs; returns how far each durable is.
pub(super) async fn apply(
    context: &Context,
    mesh: &Mesh,
    ready: &Ready,
    planned: &[Wanted],
) -> Result<Vec<DurableProgress>, Error> {
    let mut progress = Vec::with_capacity(planned.len());
    for wanted in planned {
        let _alone = mesh.changing().await;
        let seen = mesh.observed().consumers.as_ref().and_then(|all| all.get(&wanted.name).cloned());
        let now = ensure_durable(&ready.client, wanted, seen.as_ref()).await?;
        if seen.as_ref() != Some(&now) {
            context.metrics.durables.inc();
            if let Some(all) = &mut mesh.observed().consumers {
                all.insert(wanted.name.clone(), now.clone());
            }
        }
        progress.push(now.progress);
    }
    Ok(progress)
}

/// Has the sidecars told of a run that has become complete, and removes the
/// others once they have been. Returns whether there is more to do: some are
/// still there, or have just gone, which may be what a replay waited for.
pub(super) async fn retire(
    context: &Context,
    mesh: &Arc<Mesh>,
    ready: &Ready,
    subscription: &ValidSubscription,
    (before, wanted): (&Runs, &WantedRun),
) -> Result<bool, Error> {
    let now = runs(mesh, subscription)?;
    let changed = || {
        let service = subscription.service.to_string();
        context.meshes.changes().send(Changed::Service { mesh: mesh.name.clone(), service });
    };
    if now.place() != before.place() {
        changed();
    }
    let others = now.besides(wanted);
    if others.is_empty() {
        return Ok(false);
    }
    if !told(context, mesh, ready, subscription, wanted).await? {
        return Ok(true);
    }
    for name in others {
        let _alone = mesh.changing().await;
        remove_durable(&ready.client, name, &subscription.uid).await?;
        if let Some(all) = &mut mesh.observed().consumers {
            all.remove(name);
        }
    }
    changed();
    Ok(true)
}

/// The runs that there are.
pub(super) fn runs(mesh: &Mesh, subscription: &ValidSubscription) -> Result<Runs, Error> {
    // Without a look at the durables none could be told from those that are there.
    mesh.runs(subscription).ok_or(Error::Bus(BusError::Starting))
}

/// Whether the sidecars pull from a run: the bus holds the configuration that
/// says so, and every pod that lives runs with it.
async fn told(
    context: &Context,
    mesh: &Mesh,
    ready: &Ready,
    subscription: &ValidSubscription,
    wanted: &WantedRun,
) -> Result<bool, Error> {
    let service = &subscription.service;
    let Published::Config(config) = read_config(&ready.client, service).await? else { return Ok(false) };
    let mut all = config.subscriptions.iter();
    if !all.any(|told| told.name == subscription.name && told.replay == wanted.replay) {
        return Ok(false);
    }
    let pods = context.cache.pods(&mesh.name, service.as_str());
    let alive = pods.iter().filter(|pod| {
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
        !matches!(phase, Some("Succeeded" | "Failed"))
    });
    let names = alive.filter_map(|pod| pod.metadata.name.as_deref());
    let reports = &mesh.observed().reports;
    Ok(reports.all_run_with(service.as_str(), config.generation, names, Instant::now()))
}
