//! Dereference, validate, plan, apply, report: the steps in their order. Each
//! is safe to repeat after a crash at any point.

use std::sync::Arc;
use std::time::{Duration, Instant};

use kube::ResourceExt;
use kube::runtime::controller::Action;
use murmur_crds::Microservice;
use murmur_mesh::config::SidecarConfig;
use murmur_plan::database::image;
use murmur_plan::status::database::has_no_volume;

use super::plan::Known;
use super::status::Findings;
use super::{apply, bus, database, dereference, outbox, plan, scaling, secrets, status, upgrade, validate};
use crate::cluster::Written;
use crate::context::Context;
use crate::error::Error;

/// How often an object is looked at although nothing has changed.
const AGAIN: Duration = Duration::from_secs(600);

/// When to look again while the first connection to the bus is being made.
const SOON: Duration = Duration::from_secs(2);

/// How often the events about a claim that has no volume are looked at: they are not watched.
const EVENTS: Duration = Duration::from_secs(10);

/// Reconciles a Microservice.
///
/// # Errors
/// What keeps it from being as planned; the status says so too.
pub async fn reconcile(resource: Arc<Microservice>, context: Arc<Context>) -> Result<Action, Error> {
    if resource.metadata.deletion_timestamp.is_some() {
        // What it owns goes with it; nothing is made anew meanwhile.
        return Ok(Action::await_change());
    }
    let mut findings = Findings::default();
    let outcome = steps(&resource, &context, &mut findings).await;
    if let Err(error) = &outcome
        && findings.bus.is_none()
    {
        findings.blocked = Some(error.problem());
        findings.database = error.is_of_database().then(|| error.problem()).or(findings.database.take());
        // Nothing is claimed about a bus that was not asked.
        findings.bus = Some(error.problem());
    }
    if resource.status.is_some()
        && let Err(error) = &outcome
        && error.is_no_news()
    {
        return Ok(Action::requeue(SOON));
    }
    let claim = status::claim(&resource, &context, &findings);
    findings.look_again(claim.as_ref().filter(|claim| has_no_volume(claim)).map(|_| EVENTS));
    let written = status::write(&resource, &context, &findings, claim.as_ref()).await?;
    outcome?;
    let again = findings.again.map_or(AGAIN, |again| again.clamp(SOON, AGAIN));
    Ok(match written {
        Written::Later(wait) => Action::requeue(wait.min(again)),
        Written::Nothing | Written::Now => Action::requeue(again),
    })
}

async fn steps(resource: &Microservice, context: &Context, findings: &mut Findings) -> Result<(), Error> {
    let namespace = resource.namespace().unwrap_or_default();
    let subscriptions = context.subscriptions_of(&namespace, &resource.name_any());
    let (mut service, subscriptions) = validate::validate(resource, &subscriptions)?;
    findings.service = Some(service.clone());
    let neighbours = context.neighbours(&namespace);

    let there = dereference::dereference(resource, context).await?;
    let database = match &service.database {
        None => None,
        Some(server) => Some(database::dereference(context, &there.owner, &service, server).await?),
    };
    if let Some(secret) = &service.external {
        findings.database = database::elsewhere(context, &namespace, secret).await?;
        // Secrets are not watched.
        findings.look_again(findings.database.as_ref().map(|_| SOON));
    }
    let mesh = context.mesh(&namespace).await?;
    let bus = bus::look(&mesh, &service.name).await;
    findings.look_again(scaling::scale(context, &mesh, &subscriptions, &mut service));
    findings.look_again(status::catch_up_ends_in(context, &service));
    findings.service = Some(service.clone());
    let sidecar = upgrade::sidecar(context, &service);
    if let Some((problem, again)) = &sidecar.waits {
        findings.upgrade = Some(problem.clone());
        findings.look_again(Some(*again));
    }
    let placed = bus::placed(&mesh, &subscriptions, there.config.as_ref());
    let secrets = secrets::secrets(&service, &placed, &neighbours, &mesh.account, there.secret.as_deref())?;
    let plan = |told: Option<&SidecarConfig>| {
        let subscriptions = bus::placed(&mesh, &subscriptions, told);
        let known =
            Known { event_store: bus.event_store.clone(), told, published: bus.published.as_ref().ok() };
        let (settings, database) = (&context.settings.plan, database.as_ref());
        plan::plan(settings, &service, &subscriptions, &neighbours, &secrets, &sidecar, database, known)
    };
    let mut planned = plan(there.config.as_ref())?;
    if there.config.as_ref().map(|told| told.generation) != Some(planned.generation) {
        planned = plan(dereference::told_last(context, &there.owner).await?.as_ref())?;
    }

    // The cluster first: it works without the bus, too.
    let generation = resource.metadata.generation.unwrap_or_default();
    let applied = apply::apply(context, &there, database.as_ref(), &planned.objects, generation).await?;
    findings.applied = applied.objects;
    if let Some(problem) = applied.waits {
        findings.look_again(Some(upgrade::AGAIN));
        findings.upgrade.get_or_insert(problem);
    }
    let version =
        service.database.as_ref().zip(database.as_ref()).and_then(|(server, database)| {
            image(server, &context.settings.plan, database.held.as_ref()).refused
        });
    findings.refused = version.or(applied.refused);
    // When none reports, as at the operator's own start, what was reported last is still known.
    let known = resource.status.as_ref().and_then(|status| status.sidecar_version.clone());
    findings.sidecar_version = mesh.observed().reports.version(service.name.as_str()).or(known);
    findings.outbox = mesh.observed().reports.outbox(service.name.as_str(), Instant::now());
    let placed = match (bus.published, &planned.publish) {
        (Err(error), _) => Err(error),
        (Ok(_), Some(config)) => bus::publish(context, &mesh, config).await,
        (Ok(_), None) => Ok(()),
    };
    let placed = match placed {
        Ok(()) => outbox::ensure(context, &mesh, &service).await,
        failed => failed,
    };
    findings.bus = placed.as_ref().err().map(Error::problem);
    placed
}
