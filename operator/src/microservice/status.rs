//! What is true of a service, from what was seen.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::api::DynamicObject;
use kube::core::ApiResource;
use kube::{Resource, ResourceExt};
use murmur_crds::{Microservice, MicroserviceStatus};
use murmur_mesh::report::OutboxReport;
use murmur_plan::labels;
use murmur_plan::microservice::ValidMicroservice;
use murmur_plan::status::conditions::Problem;
use murmur_plan::status::database;
use murmur_plan::status::microservice::{Observed, invalid, of};
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::cluster::Written;
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
    /// What is wrong with the Secret of a database elsewhere.
    pub(super) elsewhere: Option<Problem>,
    /// Why its place on the bus is not there.
    pub(super) bus: Option<Problem>,
    /// When to look again although nothing has changed, for its number of pods.
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

/// Writes the status.
pub(super) async fn write(
    resource: &Microservice,
    context: &Context,
    findings: &Findings,
) -> Result<Written, Error> {
    let status = status(resource, context, findings);
    context.status.write(resource, &json!(status)).await.map_err(Error::Status)
}

fn status(resource: &Microservice, context: &Context, findings: &Findings) -> MicroserviceStatus {
    let previous = resource.status.as_ref();
    let now = Timestamp::now();
    let Some(service) = &findings.service else {
        let generation = resource.metadata.generation.unwrap_or_default();
        let unknown = Problem::new("Unknown", "it has not been looked at");
        return invalid(previous, generation, findings.blocked.as_ref().unwrap_or(&unknown), now);
    };
    let namespace = resource.namespace().unwrap_or_default();
    let name = service.name.as_str();
    let deployment: Option<Deployment> = newest(context, findings, &namespace, name);
    let claim = match service.database {
        Some(_) => labels::database(&service.name),
        None => labels::data_claim(&service.name),
    };
    let claim: Option<PersistentVolumeClaim> = newest(context, findings, &namespace, &claim);
    let copies = |pods: Vec<Arc<Pod>>| pods.iter().map(|pod| Pod::clone(pod)).collect::<Vec<_>>();
    let pods = copies(context.cache.pods(&namespace, name));
    let servers = copies(context.cache.database_pods(&namespace, name));
    let observed = Observed {
        deployment: deployment.as_ref(),
        pods: &pods,
        database: database::Observed {
            claim: claim.as_ref(),
            pods: &servers,
            elsewhere: findings.elsewhere.as_ref(),
            refused: findings.refused.as_ref(),
        },
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
fn newest<K>(context: &Context, findings: &Findings, namespace: &str, name: &str) -> Option<K>
where
    K: Resource<DynamicType = ()> + DeserializeOwned,
{
    let kind = ApiResource::erase::<K>(&());
    let applied = findings.applied.iter().find(|object| {
        object.name_any() == name && object.types.as_ref().is_some_and(|types| types.kind == kind.kind)
    });
    let cached = context.cache.get(&kind, namespace, name);
    let chosen = match (applied, cached) {
        (Some(applied), Some(cached))
            if cached.uid() == applied.uid() && cached.metadata.generation >= applied.metadata.generation =>
        {
            cached
        }
        (Some(applied), _) => applied.clone(),
        // Nothing was applied, so whose it is was not checked either.
        (None, _) => return None,
    };
    serde_json::from_value(serde_json::to_value(&*chosen).ok()?).ok()
}
