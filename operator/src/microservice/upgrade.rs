//! Which sidecar a service gets: a few are upgraded at a time, over all meshes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::Deployment;
use kube::ResourceExt;
use kube::api::DynamicObject;
use kube::core::ApiResource;
use murmur_plan::microservice::ValidMicroservice;
use murmur_plan::status::conditions::Problem;
use murmur_plan::upgrade::{Release, Seen, UPGRADED_FROM, Upgrade, decide, in_version};

use crate::context::Context;

/// How long a turn that was given counts before the watch must have shown it.
const SHOWN_WITHIN: Duration = Duration::from_secs(30);
/// How often a service that waits for its turn looks.
pub(super) const AGAIN: Duration = Duration::from_secs(10);

/// Turns given that the watch may not show yet, by namespace and name.
#[derive(Debug, Default)]
pub struct Turns(Mutex<HashMap<String, Instant>>);

impl Turns {
    /// Those that still count.
    pub(super) fn now(&self) -> MutexGuard<'_, HashMap<String, Instant>> {
        // A panic while holding it leaves plain data, which is still true.
        let mut turns = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        turns.retain(|_, given| given.elapsed() < SHOWN_WITHIN);
        turns
    }
}

/// The sidecar that a service gets now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sidecar {
    /// What it runs as.
    pub(super) release: Release,
    /// Its image before, while it is being upgraded.
    pub(super) upgraded_from: Option<String>,
    /// Why it is not the newest, and when to look again.
    pub(super) waits: Option<(Problem, Duration)>,
}

/// Decides which sidecar a service gets.
pub(super) fn sidecar(context: &Context, service: &ValidMicroservice) -> Sidecar {
    let settings = &context.settings.plan;
    let image = &settings.sidecar_image;
    let pinned = service.sidecar_version.is_some();
    let image = service.sidecar_version.as_ref().map_or_else(|| image.clone(), |it| in_version(image, it));
    let wanted = Release { image, tracing: settings.tracing.clone() };
    let kind = ApiResource::erase::<Deployment>(&());
    let name = format!("{}/{}", service.mesh, service.name);
    let own = context.cache.get(&kind, service.mesh.as_str(), service.name.as_str());
    let own = own.and_then(|found| seen(&found));
    let keeps = |release: Release, reason: &str, message: String| Sidecar {
        release,
        upgraded_from: None,
        waits: Some((Problem::new(reason, message), AGAIN)),
    };
    let mut others = match &own {
        Some(own) if own.release != wanted => under_way(&context.cache.all(&kind)),
        _ => Vec::new(),
    };
    let mut turns = context.turns.now();
    let unseen = Seen { release: wanted.clone(), upgraded_from: None, complete: false, stuck: false };
    let given: Vec<_> = turns
        .keys()
        .filter(|given| **given != name && others.iter().all(|(other, _)| other != *given))
        .map(|given| (given.clone(), unseen.clone()))
        .collect();
    others.extend(given);
    match decide(own.as_ref(), &wanted, pinned, &others, context.settings.upgrades_at_once) {
        Upgrade::Take => {
            // It has had its turn: it is ready, or another sidecar than that.
            turns.remove(&name);
            Sidecar { release: wanted, upgraded_from: None, waits: None }
        }
        Upgrade::Under(from) => {
            if own.is_some_and(|own| own.release != wanted) {
                turns.insert(name, Instant::now());
            }
            Sidecar { release: wanted, upgraded_from: Some(from), waits: None }
        }
        Upgrade::Wait(release) => {
            let message = "the pods are what they should be; their sidecar is upgraded when it is their turn";
            keeps(release, "SidecarUpgradeWaits", message.to_owned())
        }
        Upgrade::Stopped(release, failed) => {
            let message = format!(
                "the upgrade of the sidecars has stopped: {failed} did not become ready with the new one; it goes \
                 on when that is ready"
            );
            keeps(release, "SidecarUpgradeStopped", message)
        }
    }
}

/// The Deployments whose sidecar is being upgraded, by namespace and name.
fn under_way(deployments: &[Arc<DynamicObject>]) -> Vec<(String, Seen)> {
    // Most are not, and to read one costs much more than to look for an annotation.
    let marked = deployments.iter().filter(|found| found.annotations().contains_key(UPGRADED_FROM));
    let named = marked.filter_map(|found| {
        let seen = seen(found).filter(|seen| !seen.complete)?;
        Some((format!("{}/{}", found.namespace().unwrap_or_default(), found.name_any()), seen))
    });
    named.collect()
}

fn seen(found: &DynamicObject) -> Option<Seen> {
    let deployment: Deployment = serde_json::from_value(serde_json::to_value(found).ok()?).ok()?;
    Seen::of(&deployment, Timestamp::now())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn deployment(name: &str, annotations: &Value, available: i32) -> Arc<DynamicObject> {
        let object = json!({"apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": name, "namespace": "shop", "annotations": annotations},
            "spec": {"replicas": 1, "selector": {}, "template": {"spec": {"containers": [],
                "initContainers": [{"name": "murmur-sidecar", "image": "murmur/sidecar:2"}]}}},
            "status": {"replicas": 1, "updatedReplicas": 1, "availableReplicas": available}});
        Arc::new(serde_json::from_value(object).unwrap())
    }

    #[test]
    fn those_are_under_way_that_are_marked_so_and_not_ready() {
        let marked = json!({"murmur.dev/sidecar-upgraded-from": "murmur/sidecar:1"});
        let all = [
            deployment("under-way", &marked, 0),
            deployment("ready", &marked, 1),
            deployment("not-marked", &json!({}), 0),
        ];
        let names: Vec<String> = under_way(&all).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["shop/under-way"]);
    }
}
