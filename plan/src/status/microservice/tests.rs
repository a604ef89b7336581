//! What a user reads of a Microservice.

use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use murmur_crds::database::DatabasePhase;
use serde_json::{Value, json};

use super::super::conditions::DATABASE_READY;
use super::*;
use crate::examples::valid;

const PLAIN: &str = "{image: a, port: 80, replicas: 2}";
const SQLITE: &str = "{image: a, port: 80, database: {engine: SQLite, storage: {size: 1Gi}}}";

fn deployment(replicas: i32, updated: i32, available: i32) -> Deployment {
    serde_json::from_value(json!({
        "metadata": {"generation": 1},
        "spec": {"selector": {}, "template": {}},
        "status": {"observedGeneration": 1, "replicas": replicas, "updatedReplicas": updated,
            "availableReplicas": available, "readyReplicas": available},
    }))
    .unwrap()
}

fn pod(status: &Value) -> Pod {
    serde_json::from_value(json!({"metadata": {"name": "a-1"}, "status": status})).unwrap()
}

fn waiting(reason: &str) -> Pod {
    pod(&json!({"containerStatuses": [{"name": "service", "image": "a", "imageID": "", "ready": false,
        "restartCount": 0, "state": {"waiting": {"reason": reason, "message": "because"}}}]}))
}

fn claim(phase: &str) -> PersistentVolumeClaim {
    serde_json::from_value(json!({"metadata": {}, "status": {"phase": phase}})).unwrap()
}

fn status(spec: &str, observed: &Observed<'_>) -> MicroserviceStatus {
    of(&valid("a", spec), None, observed, Timestamp::UNIX_EPOCH)
}

fn condition<'a>(status: &'a MicroserviceStatus, kind: &str) -> &'a Condition {
    status.conditions.iter().find(|condition| condition.type_ == kind).unwrap()
}

fn summary(status: &MicroserviceStatus, kind: &str) -> String {
    let condition = condition(status, kind);
    format!("{} {}", condition.status, condition.reason)
}

#[test]
fn a_service_whose_pods_are_all_available_is_ready() {
    let deployment = deployment(2, 2, 2);
    let status = status(PLAIN, &Observed { deployment: Some(&deployment), ..Observed::default() });
    assert_eq!(summary(&status, READY), "True Available");
    assert_eq!(summary(&status, PROGRESSING), "False Complete");
    assert_eq!(summary(&status, BUS_READY), "True Connected");
    assert_eq!(
        (status.replicas, status.ready_replicas, status.desired_replicas),
        (Some(2), Some(2), Some(2))
    );
    assert_eq!(status.selector.as_deref(), Some("murmur.dev/microservice=a"));
    assert!(status.conditions.iter().all(|condition| condition.type_ != DATABASE_READY));
    assert!(status.database.is_none());
}

#[test]
fn a_service_is_not_ready_while_pods_are_rolled_out() {
    for deployment in [deployment(2, 2, 1), deployment(3, 1, 2), deployment(3, 2, 3)] {
        let status = status(PLAIN, &Observed { deployment: Some(&deployment), ..Observed::default() });
        assert_eq!(summary(&status, READY), "False PodsNotReady");
        assert_eq!(summary(&status, PROGRESSING), "True RollingOut");
    }
    let status = status(PLAIN, &Observed::default());
    assert_eq!(summary(&status, READY), "False PodsNotReady");
}

#[test]
fn a_deployment_that_has_not_been_looked_at_proves_nothing() {
    let mut deployment = deployment(2, 2, 2);
    deployment.metadata.generation = Some(2);
    let status = status(PLAIN, &Observed { deployment: Some(&deployment), ..Observed::default() });
    assert_eq!(summary(&status, READY), "False PodsNotReady");
}

#[test]
fn a_service_scaled_to_none_is_ready() {
    let deployment = deployment(0, 0, 0);
    let status = status(
        "{image: a, port: 80, replicas: 0}",
        &Observed { deployment: Some(&deployment), ..Observed::default() },
    );
    assert_eq!(summary(&status, READY), "True Available");
}

#[test]
fn what_a_pod_says_is_the_reason() {
    let deployment = deployment(2, 2, 0);
    let unschedulable = pod(&json!({"conditions": [{"type": "PodScheduled", "status": "False",
        "reason": "Unschedulable", "message": "0/1 nodes are available"}]}));
    for (pod, reason, text) in [
        (waiting("ErrImagePull"), "ImageNotPulled", "the image a cannot be pulled"),
        (waiting("ImagePullBackOff"), "ImageNotPulled", "the image a cannot be pulled"),
        (waiting("CrashLoopBackOff"), "CrashLoop", "kubectl logs --previous"),
        (waiting("CreateContainerConfigError"), "ContainerNotCreated", "because"),
        (unschedulable, "Unschedulable", "0/1 nodes are available"),
    ] {
        let pods = [pod];
        let status =
            status(PLAIN, &Observed { deployment: Some(&deployment), pods: &pods, ..Observed::default() });
        assert_eq!(summary(&status, READY), format!("False {reason}"));
        assert!(condition(&status, READY).message.contains(text), "{:?}", condition(&status, READY));
    }
    let pods = [waiting("ContainerCreating")];
    let status =
        status(PLAIN, &Observed { deployment: Some(&deployment), pods: &pods, ..Observed::default() });
    assert_eq!(summary(&status, READY), "False PodsNotReady");
}

#[test]
fn a_rollout_that_does_not_move_is_not_progressing() {
    let mut deployment = deployment(3, 1, 2);
    let conditions =
        json!([{"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}]);
    deployment.status.as_mut().unwrap().conditions = Some(serde_json::from_value(conditions).unwrap());
    let status = status(PLAIN, &Observed { deployment: Some(&deployment), ..Observed::default() });
    assert_eq!(summary(&status, READY), "False ProgressDeadlineExceeded");
    assert_eq!(summary(&status, PROGRESSING), "False ProgressDeadlineExceeded");
}

#[test]
fn a_database_stands_where_its_claim_does() {
    let deployment = deployment(1, 1, 0);
    for (phase, expected, reason) in [
        (Some("Bound"), DatabasePhase::Bound, "True Bound"),
        (Some("Pending"), DatabasePhase::Pending, "False ClaimPending"),
        (Some("Lost"), DatabasePhase::Lost, "False ClaimLost"),
        (None, DatabasePhase::Pending, "False ClaimMissing"),
    ] {
        let claim = phase.map(claim);
        let status = status(
            SQLITE,
            &Observed {
                deployment: Some(&deployment),
                database: database::Observed { claim: claim.as_ref(), ..Default::default() },
                ..Observed::default()
            },
        );
        let database = status.database.as_ref().unwrap();
        assert_eq!((database.phase, database.claim_name.as_deref()), (expected, Some("a-data")));
        assert_eq!(summary(&status, DATABASE_READY), reason);
        if reason.starts_with("False") {
            assert_eq!(summary(&status, READY), reason);
        }
    }
}

#[test]
fn a_volume_that_cannot_grow_is_told() {
    let deployment = deployment(1, 1, 1);
    let refused = Problem::new("StorageCannotGrow", "the class does not allow it");
    let database = database::Observed { refused: Some(&refused), ..Default::default() };
    let observed = Observed { deployment: Some(&deployment), database, ..Observed::default() };
    let status = status("{image: a, port: 80, volume: {size: 2Gi}}", &observed);
    assert_eq!(summary(&status, READY), "False StorageCannotGrow");
}

#[test]
fn an_outage_of_the_bus_does_not_make_a_service_unready() {
    let deployment = deployment(2, 2, 2);
    let bus = Some(Problem::new("BusUnavailable", "the bus does not answer"));
    let status = status(PLAIN, &Observed { deployment: Some(&deployment), bus, ..Observed::default() });
    assert_eq!(summary(&status, READY), "True Available");
    assert_eq!(summary(&status, BUS_READY), "False BusUnavailable");
}

#[test]
fn a_service_that_cannot_be_applied_or_planned_says_why_and_keeps_what_was_seen() {
    let deployment = deployment(2, 2, 2);
    let blocked = Some(Problem::new("NameTaken", "Service a is not ours"));
    let blocked = status(PLAIN, &Observed { deployment: Some(&deployment), blocked, ..Observed::default() });
    assert_eq!(summary(&blocked, READY), "False NameTaken");
    assert_eq!(summary(&blocked, PROGRESSING), "False NameTaken");
    let problem = Problem::new("InvalidValue", "spec.port: 0");
    let invalid = invalid(Some(&blocked), 7, &problem, Timestamp::UNIX_EPOCH);
    assert_eq!(summary(&invalid, READY), "False InvalidValue");
    assert_eq!((invalid.observed_generation, invalid.replicas), (Some(7), Some(2)));
}

#[test]
fn a_pod_that_has_not_caught_up_in_time_is_told_of() {
    let spec = "{image: a, port: 80, startup: {waitFor: CaughtUp, timeout: 30m}}";
    let starting = |start: &str| {
        pod(&json!({"startTime": start, "initContainerStatuses": [{"name": "murmur-sidecar", "image": "a",
            "imageID": "", "ready": false, "started": true, "restartCount": 0}]}))
    };
    let deployment = deployment(1, 1, 0);
    let reason = |spec: &str, start: &str| {
        let pods = [starting(start)];
        let observed = Observed { deployment: Some(&deployment), pods: &pods, ..Observed::default() };
        let now = "2026-11-21T10:30:00Z".parse().unwrap();
        let status = of(&valid("a", spec), None, &observed, now);
        condition(&status, READY).reason.clone()
    };
    assert_eq!(reason(spec, "2026-11-21T10:00:00Z"), "CatchUpTimeout");
    assert_eq!(reason(spec, "2026-11-21T10:00:01Z"), "PodsNotReady");
    assert_eq!(reason("{image: a, port: 80}", "2026-11-21T10:00:00Z"), "PodsNotReady");
    let look = |spec: &str, start: &str| {
        catch_up_ends_in(&valid("a", spec), &[starting(start)], "2026-11-21T10:30:00Z".parse().unwrap())
    };
    assert_eq!(
        look(spec, "2026-11-21T10:20:00Z"),
        Some(Duration::from_secs(20 * 60)),
        "to tell of it in time"
    );
    assert_eq!(look(spec, "2026-11-21T10:00:00Z"), None, "it is told of");
    assert_eq!(look("{image: a, port: 80}", "2026-11-21T10:20:00Z"), None);
}
