//! What is true of a service, from what was seen.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Event, PersistentVolumeClaim, Pod};
use kube::api::{Api, DynamicObject, ListParams};
use kube::core::ApiResource;
use kube::{Resource, ResourceExt};
use murmur_crds::{Microservice, MicroserviceStatus};
use murmur_mesh::report::OutboxReport;
use murmur_plan::microservice::ValidMicroservice;
use murmur_plan::status::conditions::Problem;
use murmur_plan::status::database;
use murmur_plan::status::microservice::{self, Observed, invalid, of};
use murmur_plan::{labels, object};
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::cluster::{Owner, Written};
use crate::context::Context;
use crate::error::Error;

/// What a reconcile came to.
#[derive(Default)]
pub(super) struct Findings {
    /// The service, when it can be planned.
    pub(super) service: Option<ValidMicroservice>,
    /// The objects that were applied, as the API server returned them.
    pub(super) applied: Vec<Arc<DynamicObject>>,
    /// Why the cluster is not as planned.
    pub(super) blocked: Option<Problem>,
    /// What is asked for of its data and is not done, while all goes on as before.
    pub(super) refused: Option<Problem>,
    /// Why its database cannot be had.
    pub(super) database: Option<Problem>,
    /// Why its place on the bus is not there.
    pub(super) bus: Option<Problem>,
    /// When to look again although nothing has changed.
    pub(super) again: Option<Duration>,
    /// How its outbox stands.
    pub(super) outbox: Option<OutboxReport>,
    /// Why it keeps an older sidecar for now.
    pub(super) upgrade: Option<Problem>,
    /// The version that its sidecars report.
    pub(super) sidecar_version: Option<String>,
}

impl Findings {
    /// Asks for another look after this time at the latest.
    pub(super) fn look_again(&mut self, after: Option<Duration>) {
        self.again = [self.again, after].into_iter().flatten().min();
    }
}

fn copies(pods: &[Arc<Pod>]) -> Vec<Pod> {
    pods.iter().map(|pod| Pod::clone(pod)).collect()
}

/// Writes the status.
pub(super) async fn write(
    resource: &Microservice,
    context: &Context,
    findings: &Findings,
    claim: Option<&PersistentVolumeClaim>,
) -> Result<Written, Error> {
    let namespace = resource.namespace().unwrap_or_default();
    let servers = copies(&context.cache.database_pods(&namespace, &resource.name_any()));
    let told = match database::told_by(claim, &servers) {
        None => None,
        Some(by) => events_tell(context, &namespace, by).await,
    };
    let database = database::Observed {
        claim,
        pods: &servers,
        told: told.as_deref(),
        blocked: findings.database.as_ref(),
        refused: findings.refused.as_ref(),
    };
    let status = status(resource, context, findings, database);
    context.status.write(resource, &json!(status)).await.map_err(Error::Status)
}

/// What the kubelet says about a pod's readiness probe, or whoever makes volumes about a claim that has none: events
/// are the only place where they do.
async fn events_tell(context: &Context, namespace: &str, by: database::Told<'_>) -> Option<String> {
    let events: Api<Event> = Api::namespaced(context.client.clone(), namespace);
    let fields = match by {
        database::Told::Pod(name) => {
            format!("involvedObject.kind=Pod,involvedObject.name={name},reason=Unhealthy")
        }
        database::Told::Claim(name) => {
            format!("involvedObject.kind=PersistentVolumeClaim,involvedObject.name={name},type=Warning")
        }
    };
    // It adds to what is known anyway: the status is written without it, too.
    let found = events.list(&ListParams::default().fields(&fields).limit(50)).await.ok()?;
    let said = |event: &Event| {
        let said = event.message.as_deref()?;
        let said = match by {
            database::Told::Pod(_) => said.strip_prefix("Readiness probe failed: ")?,
            database::Told::Claim(_) => said,
        };
        Some(said.trim().to_owned())
    };
    found
        .items
        .iter()
        .filter_map(|event| Some((event.last_timestamp.clone(), said(event)?)))
        .max()
        .map(|last| last.1)
}

/// Whose objects are looked at.
fn owner(resource: &Microservice) -> Owner {
    Owner {
        uid: resource.uid().unwrap_or_default(),
        service: resource.name_any(),
        namespace: resource.namespace().unwrap_or_default(),
    }
}

/// The claim of its database or volume.
pub(super) fn claim(
    resource: &Microservice,
    context: &Context,
    findings: &Findings,
) -> Option<PersistentVolumeClaim> {
    let service = findings.service.as_ref()?;
    let name = match service.database {
        Some(_) => labels::database(&service.name),
        None => labels::data_claim(&service.name),
    };
    newest(context, findings, &owner(resource), &name)
}

fn status(
    resource: &Microservice,
    context: &Context,
    findings: &Findings,
    database: database::Observed<'_>,
) -> MicroserviceStatus {
    let previous = resource.status.as_ref();
    let now = Timestamp::now();
    let Some(service) = &findings.service else {
        let generation = resource.metadata.generation.unwrap_or_default();
        let unknown = Problem::new("Unknown", "it has not been looked at");
        return invalid(previous, generation, findings.blocked.as_ref().unwrap_or(&unknown), now);
    };
    let owner = owner(resource);
    let deployment: Option<Deployment> = newest(context, findings, &owner, &owner.service);
    let pods = copies(&context.cache.pods(&owner.namespace, &owner.service));
    let observed = Observed {
        deployment: deployment.as_ref(),
        pods: &pods,
        database,
        blocked: findings.blocked.clone(),
        bus: findings.bus.clone(),
        outbox: findings.outbox.clone(),
        upgrade: findings.upgrade.clone(),
        sidecar_version: findings.sidecar_version.clone(),
    };
    of(service, previous, &observed, now)
}

/// An object as the watch shows it, or as it was applied when that is newer:
/// the watch's may still be of a generation before. Only one that is ours.
fn newest<K>(context: &Context, findings: &Findings, owner: &Owner, name: &str) -> Option<K>
where
    K: Resource<DynamicType = ()> + DeserializeOwned,
{
    let kind = ApiResource::erase::<K>(&());
    let applied = findings.applied.iter().find(|object| {
        object.name_any() == name && object.types.as_ref().is_some_and(|types| types.kind == kind.kind)
    });
    let cached = context.cache.get(&kind, &owner.namespace, name);
    let chosen = match (applied, cached) {
        (Some(applied), Some(cached))
            if cached.uid() == applied.uid() && cached.metadata.generation >= applied.metadata.generation =>
        {
            cached
        }
        (Some(applied), _) => applied.clone(),
        // Nothing was applied, so whose it is was not checked either.
        (None, Some(cached)) if owner.owns(&cached.metadata, kind == object::claim()) => cached,
        (None, _) => return None,
    };
    serde_json::from_value(serde_json::to_value(&*chosen).ok()?).ok()
}

/// When a pod will not have caught up in time, if it does not by then.
pub(super) fn catch_up_ends_in(context: &Context, service: &ValidMicroservice) -> Option<Duration> {
    service.catch_up?;
    let pods = copies(&context.cache.pods(service.mesh.as_str(), service.name.as_str()));
    microservice::catch_up_ends_in(service, &pods, Timestamp::now())
}
