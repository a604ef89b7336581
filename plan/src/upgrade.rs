//! The rolling upgrade of sidecars: a few services at a time, each ready again
//! before the next, and none more once one has failed.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::{Deployment, DeploymentCondition};

use crate::microservice::SIDECAR_CONTAINER;
use crate::settings::Tracing;
use crate::status::conditions::PROGRESSING;

/// The annotation of a Deployment whose sidecar is being upgraded: the image before.
pub const UPGRADED_FROM: &str = "murmur.dev/sidecar-upgraded-from";
/// The annotation with the [`Tracing`] that a sidecar was planned with: its
/// environment may hold what podOverrides say instead.
pub const TRACING: &str = "murmur.dev/sidecar-tracing";

/// What an upgrade changes in all services at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Release {
    /// The sidecar's image.
    pub image: String,
    /// Where it sends spans.
    pub tracing: Option<Tracing>,
}

/// Within how many seconds a Deployment makes progress, where it does not say.
const PROGRESS_DEADLINE: i32 = 600;

/// What a Deployment says about its sidecar.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Its sidecar.
    pub release: Release,
    /// The image before, while it is being upgraded.
    pub upgraded_from: Option<String>,
    /// All of its pods are there and ready.
    pub complete: bool,
    /// They do not become so, or have not been so for as long as a rollout may take.
    pub stuck: bool,
}

impl Seen {
    /// Reads a Deployment; `None` if it has no sidecar.
    pub fn of(deployment: &Deployment, now: Timestamp) -> Option<Self> {
        let spec = deployment.spec.as_ref()?;
        let containers = spec.template.spec.as_ref()?.init_containers.iter().flatten();
        let image = containers.filter(|it| it.name == SIDECAR_CONTAINER).find_map(|it| it.image.clone())?;
        let status = deployment.status.clone().unwrap_or_default();
        let wanted = spec.replicas.unwrap_or(1);
        let all = [status.replicas, status.updated_replicas, status.available_replicas];
        let looked = status.observed_generation >= deployment.metadata.generation;
        let deadline = spec.progress_deadline_seconds.unwrap_or(PROGRESS_DEADLINE);
        let deadline = SignedDuration::from_secs(deadline.into());
        let stuck = status.conditions.iter().flatten().any(|it| is_stuck(it, deadline, now));
        let annotation = |name| deployment.metadata.annotations.as_ref().and_then(|all| all.get(name));
        let tracing = annotation(TRACING).and_then(|text| serde_json::from_str(text).ok());
        Some(Self {
            release: Release { image, tracing },
            upgraded_from: annotation(UPGRADED_FROM).cloned(),
            complete: looked && all.iter().all(|count| count.unwrap_or(0) == wanted),
            stuck: looked && stuck,
        })
    }
}

fn is_stuck(condition: &DeploymentCondition, deadline: SignedDuration, now: Timestamp) -> bool {
    let since = condition.last_transition_time.as_ref().map(|time| time.0);
    condition.status == "False"
        && match condition.type_.as_str() {
            PROGRESSING => condition.reason.as_deref() == Some("ProgressDeadlineExceeded"),
            // Nobody watches the deadline of one whose pods broke after their rollout.
            "Available" => since.is_some_and(|since| now.duration_since(since) > deadline),
            _ => false,
        }
}

/// What a service may do about its sidecar.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Upgrade {
    /// Nothing: it has it, or takes it without further ado.
    Take,
    /// It takes it now, or has and is not ready yet: from this image.
    Under(String),
    /// It keeps this one until it is its turn.
    Wait(Release),
    /// It keeps this one: the named service did not become ready with the new one.
    Stopped(Release, String),
}

/// What a service does whose Deployment is `own`, when the sidecar should be
/// `wanted`. `pinned`: its user chose the image. `others` are the Deployments
/// that are being upgraded, by name; `at_once` may be.
pub fn decide(
    own: Option<&Seen>,
    wanted: &Release,
    pinned: bool,
    others: &[(String, Seen)],
    at_once: usize,
) -> Upgrade {
    let Some(own) = own else { return Upgrade::Take };
    if own.release == *wanted {
        return match &own.upgraded_from {
            Some(from) if !own.complete => Upgrade::Under(from.clone()),
            _ => Upgrade::Take,
        };
    }
    if pinned && own.release.image != wanted.image {
        return Upgrade::Take;
    }
    if let Some(from) = &own.upgraded_from
        && !own.complete
    {
        // The one that it was given may be what it does not become ready with; it still counts.
        return Upgrade::Under(from.clone());
    }
    // One that is broken anyway has nothing to lose, and would prove nothing. One whose pods are
    // merely on their way, as after every change, has as much to lose as any other.
    if own.stuck {
        return Upgrade::Take;
    }
    if let Some((name, _)) = others.iter().find(|(_, seen)| seen.stuck) {
        return Upgrade::Stopped(own.release.clone(), name.clone());
    }
    if others.len() < at_once {
        Upgrade::Under(own.release.image.clone())
    } else {
        Upgrade::Wait(own.release.clone())
    }
}

/// An image in another version: its tag, or digest, replaced.
pub fn in_version(image: &str, version: &str) -> String {
    let image = image.split('@').next().unwrap_or_default();
    let name = image.rfind('/').map_or(0, |slash| slash + 1);
    let end = image[name..].find(':').map_or(image.len(), |colon| name + colon);
    format!("{}:{version}", &image[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn release(image: &str) -> Release {
        Release { image: image.into(), tracing: None }
    }

    fn traced(image: &str) -> Release {
        let tracing = Tracing { otlp_endpoint: "http://collector:4318".into(), sample_ratio: None };
        Release { tracing: Some(tracing), ..release(image) }
    }

    fn seen(image: &str, complete: bool) -> Seen {
        Seen { release: release(image), upgraded_from: None, complete, stuck: false }
    }

    fn under(stuck: bool) -> (String, Seen) {
        ("shop/other".into(), Seen { upgraded_from: Some("1".into()), stuck, ..seen("2", false) })
    }

    #[test]
    fn so_many_services_are_upgraded_at_once_and_the_rest_wait() {
        let old = seen("1", true);
        assert_eq!(decide(Some(&old), &release("2"), false, &[], 2), Upgrade::Under("1".into()));
        assert_eq!(decide(Some(&old), &release("2"), false, &[under(false)], 2), Upgrade::Under("1".into()));
        let two = [under(false), under(false)];
        assert_eq!(decide(Some(&old), &release("2"), false, &two, 2), Upgrade::Wait(release("1")));
    }

    #[test]
    fn it_stops_at_the_first_that_fails() {
        let stopped = Upgrade::Stopped(release("1"), "shop/other".into());
        assert_eq!(decide(Some(&seen("1", true)), &release("2"), false, &[under(true)], 5), stopped);
    }

    #[test]
    fn who_is_new_broken_or_pinned_does_not_wait() {
        let others = [under(true)];
        assert_eq!(decide(None, &release("2"), false, &others, 1), Upgrade::Take);
        let broken = Seen { stuck: true, ..seen("1", false) };
        assert_eq!(decide(Some(&broken), &release("2"), false, &others, 1), Upgrade::Take);
        assert_eq!(decide(Some(&seen("1", true)), &release("2"), true, &others, 1), Upgrade::Take);
        assert_eq!(decide(Some(&seen("2", true)), &release("2"), false, &others, 1), Upgrade::Take);
    }

    #[test]
    fn one_whose_pods_are_on_their_way_waits_for_its_turn_like_any_other() {
        let own = seen("1", false);
        assert_eq!(decide(Some(&own), &release("2"), false, &[under(false)], 1), Upgrade::Wait(release("1")));
        let stopped = Upgrade::Stopped(release("1"), "shop/other".into());
        assert_eq!(decide(Some(&own), &release("2"), false, &[under(true)], 2), stopped);
        assert_eq!(decide(Some(&own), &release("2"), false, &[], 1), Upgrade::Under("1".into()));
    }

    #[test]
    fn one_that_did_not_become_ready_gets_the_sidecar_after_that_and_still_counts() {
        let own = Seen { upgraded_from: Some("1".into()), stuck: true, ..seen("2", false) };
        let itself = [("shop/own".to_owned(), own.clone())];
        assert_eq!(decide(Some(&own), &release("3"), false, &itself, 1), Upgrade::Under("1".into()));
    }

    #[test]
    fn stuck_is_one_whose_rollout_or_pods_are_broken_for_longer_than_a_rollout_may_take() {
        let now: Timestamp = "2026-11-21T12:00:00Z".parse().unwrap();
        let stuck_within = |deadline: Option<u32>, condition: serde_json::Value| {
            let sidecar = serde_json::json!({"name": SIDECAR_CONTAINER, "image": "1"});
            let deployment = serde_json::json!({"apiVersion": "apps/v1", "kind": "Deployment",
                "metadata": {}, "status": {"conditions": [condition]}, "spec": {"selector": {},
                "progressDeadlineSeconds": deadline,
                "template": {"spec": {"containers": [], "initContainers": [sidecar]}}}});
            Seen::of(&serde_json::from_value(deployment).unwrap(), now).unwrap().stuck
        };
        let stuck = |condition| stuck_within(None, condition);
        let condition = |kind: &str, status: &str, reason: &str, since: &str| {
            serde_json::json!({"type": kind, "status": status, "reason": reason,
                "lastTransitionTime": format!("2026-11-21T{since}:00Z")})
        };
        assert!(stuck(condition("Progressing", "False", "ProgressDeadlineExceeded", "11:59")));
        assert!(stuck(condition("Available", "False", "MinimumReplicasUnavailable", "11:49")));
        assert!(!stuck(condition("Available", "False", "MinimumReplicasUnavailable", "11:51")));
        assert!(!stuck(condition("Available", "True", "MinimumReplicasAvailable", "09:00")));
        // With startup.waitFor it may take as long as its timeout, and those ten minutes.
        let waits = |since| condition("Available", "False", "MinimumReplicasUnavailable", since);
        assert!(!stuck_within(Some(40 * 60), waits("11:21")));
        assert!(stuck_within(Some(40 * 60), waits("11:19")));
    }

    #[test]
    fn an_upgrade_is_under_way_until_all_pods_are_ready() {
        let mut own = Seen { upgraded_from: Some("1".into()), ..seen("2", false) };
        assert_eq!(decide(Some(&own), &release("2"), false, &[], 1), Upgrade::Under("1".into()));
        own.complete = true;
        assert_eq!(decide(Some(&own), &release("2"), false, &[], 1), Upgrade::Take);
    }

    #[test]
    fn other_tracing_is_an_upgrade_too_also_where_the_image_is_pinned() {
        let (own, wanted) = (seen("1", true), traced("1"));
        for pinned in [false, true] {
            assert_eq!(decide(Some(&own), &wanted, pinned, &[], 1), Upgrade::Under("1".into()));
            let waits = decide(Some(&own), &wanted, pinned, &[under(false)], 1);
            assert_eq!(waits, Upgrade::Wait(release("1")));
            let under_way =
                Seen { release: wanted.clone(), upgraded_from: Some("1".into()), ..seen("1", false) };
            assert_eq!(decide(Some(&under_way), &wanted, pinned, &[], 1), Upgrade::Under("1".into()));
        }
        // A user who chooses another image gets it, with all that belongs to it, at once.
        assert_eq!(decide(Some(&own), &traced("2"), true, &[under(true)], 1), Upgrade::Take);
    }

    #[test]
    fn a_version_takes_the_place_of_a_tag_or_a_digest() {
        for (image, expected) in [
            ("murmur/sidecar:dev", "murmur/sidecar:1"),
            ("murmur/sidecar", "murmur/sidecar:1"),
            ("example:5000/murmur/sidecar", "example:5000/murmur/sidecar:1"),
            ("murmur/sidecar:dev@sha256:00", "murmur/sidecar:1"),
        ] {
            assert_eq!(in_version(image, "1"), expected);
        }
    }
}
