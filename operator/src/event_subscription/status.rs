//! What is true of a subscription, from what was seen.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use kube::ResourceExt;
use murmur_crds::EventSubscription;
use murmur_mesh::report::held;
use murmur_plan::status::conditions::{DELIVERING, Problem};
use murmur_plan::status::subscription::{Delivery, DurableProgress, Observed, ObservedRun, of};
use serde_json::json;

use crate::bus::Mesh;
use crate::cluster::Written;
use crate::context::Context;
use crate::error::Error;

/// What a reconcile came to.
#[derive(Default)]
pub(super) struct Findings {
    /// Its mesh, if its service is there.
    pub(super) mesh: Option<Arc<Mesh>>,
    /// How far its durables are, if the bus could be asked.
    pub(super) progress: Option<Vec<DurableProgress>>,
    /// The run that its durables are.
    pub(super) run: Option<ObservedRun>,
    /// Whether durables of another run still wait for the sidecars to let go of them.
    pub(super) unfinished: bool,
    /// Why it does not run.
    pub(super) blocked: Option<Problem>,
}

/// What the sidecars said before this operator began to listen.
fn said_before(resource: &EventSubscription) -> Delivery {
    let mut conditions = resource.status.iter().flat_map(|status| &status.conditions);
    match conditions.find(|condition| condition.type_ == DELIVERING) {
        Some(condition) if condition.status == "True" => Delivery::Going,
        Some(condition) if condition.status == "False" && held::ALL.contains(&condition.reason.as_str()) => {
            Delivery::Held { reason: condition.reason.clone(), cause: condition.message.clone() }
        }
        _ => Delivery::Unreported,
    }
}

/// Writes the status; returns when to look again.
pub(super) async fn write(
    resource: &EventSubscription,
    context: &Context,
    findings: Findings,
) -> Result<Option<Duration>, Error> {
    let service = &resource.spec.microservice_ref.name;
    let now = Instant::now();
    // Only the reports' own silence, of which nobody sends word, makes them old.
    let mut again = None;
    let mut observed = Observed {
        durables: findings.progress,
        dead_letters: None,
        delivery: Delivery::Unreported,
        run: findings.run,
        suspended: resource.spec.suspend,
        blocked: findings.blocked,
    };
    if let Some(mesh) = &findings.mesh {
        let seen = mesh.observed();
        observed.delivery = seen.reports.delivery(service, &resource.name_any(), now);
        again = seen.reports.next_stale(service, now);
        if observed.delivery == Delivery::Unreported
            && let Some(rest) = seen.reports.still_to_hear(now)
        {
            observed.delivery = said_before(resource);
            again = Some(again.map_or(rest, |again| again.min(rest)));
        }
        if observed.durables.is_some() {
            observed.dead_letters = seen.dead_letters(service, &resource.name_any());
        }
    }
    let generation = resource.metadata.generation.unwrap_or_default();
    let status = of(generation, resource.status.as_ref(), &observed, Timestamp::now());
    let written = context.status.write(resource, &json!(status)).await.map_err(Error::Status)?;
    Ok(match written {
        Written::Later(wait) => Some(again.map_or(wait, |again| again.min(wait))),
        Written::Nothing | Written::Now => again,
    })
}
