//! Which sidecar a service gets: a few are upgraded at a time, over all meshes.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::Deployment;
use kube::ResourceExt;
use kube::api::DynamicObject;
use kube::core::ApiResource;
use murmur_plan::microservice::ValidMicroservice;
use murmur_plan::status::conditions::Problem;
use murmur_plan::upgrade::{Release, Seen, Upgrade, decide, in_version};

use crate::context::Context;

/// How long a turn that was given counts before the watch must have shown it.
const SHOWN_WITHIN: Duration = Duration::from_secs(30);
/// How often a service that waits for its turn looks.
const AGAIN: Duration = Duration::from_secs(10);

/// Turns given that the watch may not show yet, by namespace and name.
#[derive(Debug, Default)]
pub struct Turns(Mutex<HashMap<String, Instant>>);

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
    // A panic while holding it leaves plain data, which is still true.
    let mut turns = context.turns.0.lock().unwrap_or_else(PoisonError::into_inner);
    turns.retain(|_, given| given.elapsed() < SHOWN_WITHIN);
    let mut others = Vec::new();
    if own.as_ref().is_some_and(|own| own.release != wanted) {
        for found in context.cache.all(&kind) {
            let other = format!("{}/{}", found.namespace().unwrap_or_default(), found.name_any());
            if let Some(seen) = seen(&found).filter(|seen| seen.upgraded_from.is_some() && !seen.complete) {
                turns.remove(&other);
                others.push((other, seen));
            }
        }
        let given = turns.keys().filter(|given| **given != name).cloned();
        let unseen = Seen { release: wanted.clone(), upgraded_from: None, complete: false, stuck: false };
        others.extend(given.map(|other| (other, unseen.clone())));
    }
    match decide(own.as_ref(), &wanted, pinned, &others, context.settings.upgrades_at_once) {
        Upgrade::Take => Sidecar { release: wanted, upgraded_from: None, waits: None },
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

fn seen(found: &DynamicObject) -> Option<Seen> {
    let deployment: Deployment = serde_json::from_value(serde_json::to_value(found).ok()?).ok()?;
    Seen::of(&deployment, Timestamp::now())
}
