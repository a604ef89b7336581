//! How many pods a service has by the events that wait for it.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use k8s_openapi::api::apps::v1::Deployment;
use kube::core::ApiResource;
use murmur_plan::autoscaling::Scale;
use murmur_plan::microservice::ValidMicroservice;
use murmur_plan::subscription::ValidSubscription;

use crate::bus::Mesh;
use crate::context::Context;

/// What was decided last, by the Microservice's uid. Forgotten at a restart:
/// then the Deployment says how many pods there are, and five minutes begin anew.
#[derive(Debug, Default)]
pub struct Scales(Mutex<HashMap<String, Scale>>);

impl Scales {
    /// Forgets a service that is gone.
    pub fn forget(&self, uid: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(uid);
    }

    fn decide(&self, uid: &str, there: impl FnOnce() -> i32, next: impl FnOnce(Scale) -> Scale) -> Scale {
        // A panic while holding it leaves plain data, which is still true.
        let mut scales = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let scale = scales.get(uid).copied().unwrap_or_else(|| Scale::of(there()));
        let scale = next(scale);
        scales.insert(uid.to_owned(), scale);
        scale
    }
}

/// Sets how many pods a service should have; returns when to look again.
pub(super) fn scale(
    context: &Context,
    mesh: &Mesh,
    subscriptions: &[ValidSubscription],
    service: &mut ValidMicroservice,
) -> Option<Duration> {
    let Some(autoscaling) = service.autoscaling else {
        context.scales.forget(&service.uid);
        return None;
    };
    let now = Instant::now();
    let pending = pending(mesh, subscriptions);
    let there = || there(context, service).unwrap_or(autoscaling.min_replicas);
    let scale = context.scales.decide(&service.uid, there, |scale| scale.next(&autoscaling, pending, now));
    service.replicas = scale.replicas;
    scale.again(now)
}

/// How many events wait for the service: those of its subscriptions that are
/// delivered. `None` before the bus was asked.
fn pending(mesh: &Mesh, subscriptions: &[ValidSubscription]) -> Option<u64> {
    let mut pending = 0_u64;
    for subscription in subscriptions.iter().filter(|subscription| !subscription.suspend) {
        let runs = mesh.runs(subscription)?;
        let observed = mesh.observed();
        let consumers = observed.consumers.as_ref()?;
        let durables = runs.current().into_iter().flat_map(|run| &run.durables);
        let waiting = durables.filter_map(|name| Some(consumers.get(name)?.progress.waiting()));
        pending = waiting.fold(pending, u64::saturating_add);
    }
    // Without any subscription nothing waits, but whether that is known is the bus's to say.
    mesh.ready().ok().map(|_| pending)
}

/// How many pods the Deployment asks for now.
fn there(context: &Context, service: &ValidMicroservice) -> Option<i32> {
    let kind = ApiResource::erase::<Deployment>(&());
    let found = context.cache.get(&kind, service.mesh.as_str(), service.name.as_str())?;
    i32::try_from(found.data["spec"]["replicas"].as_i64()?).ok()
}
