//! What a user reads of a database.

use serde_json::{Value, json};

use super::*;
use crate::examples::valid;

const POSTGRES: &str = "{image: a, port: 80, database: {engine: Postgres, storage: {size: 1Gi}}}";

fn claim(status: &Value) -> PersistentVolumeClaim {
    let spec = json!({"resources": {"requests": {"storage": "2Gi"}}});
    serde_json::from_value(json!({"spec": spec, "status": status})).unwrap()
}

fn bound() -> PersistentVolumeClaim {
    claim(&json!({"phase": "Bound", "capacity": {"storage": "2Gi"}}))
}

fn pod(container: &Value) -> Pod {
    let mut status = json!({"name": "database", "image": "postgres:17", "imageID": "", "ready": false,
        "restartCount": 0});
    status.as_object_mut().unwrap().extend(container.as_object().unwrap().clone());
    serde_json::from_value(json!({"metadata": {"name": "a-db-0"}, "status": {"containerStatuses": [status]}}))
        .unwrap()
}

fn seen(
    claim: Option<&PersistentVolumeClaim>,
    pods: &[Pod],
    refused: Option<&Problem>,
) -> (DatabaseStatus, Finding) {
    of(&valid("a", POSTGRES), &Observed { claim, pods, refused, ..Observed::default() }).unwrap()
}

fn server(container: &Value) -> (DatabasePhase, String, String) {
    let (status, finding) = seen(Some(&bound()), &[pod(container)], None);
    (status.phase, format!("{} {}", finding.state.as_str(), finding.reason), finding.message)
}

#[test]
fn the_status_names_endpoint_secret_and_claim() {
    let (status, _) = seen(None, &[], None);
    assert_eq!(status.endpoint.as_deref(), Some("a-db.shop.svc:5432"));
    assert_eq!(status.secret_name.as_deref(), Some("a-db"));
    assert_eq!(status.claim_name.as_deref(), Some("a-db"));
}

#[test]
fn a_server_is_ready_when_its_probe_says_so() {
    let (phase, reason, _) = server(&json!({"ready": true, "started": true}));
    assert_eq!((phase, reason.as_str()), (DatabasePhase::Ready, "True Ready"));
}

#[test]
fn a_server_that_is_not_ready_says_why() {
    let ended = json!({"terminated": {"exitCode": 1, "reason": "Error",
        "message": "PANIC: could not write to file: No space left on device\n"}});
    let killed = json!({"terminated": {"exitCode": 137, "reason": "OOMKilled"}});
    let crash = json!({"waiting": {"reason": "CrashLoopBackOff"}});
    for (container, reason, text) in [
        (json!({"started": false}), "False Starting", "kubectl logs a-db-0"),
        (json!({"started": true}), "False NotAnswering", "volume is full"),
        (json!({"started": false, "lastState": ended}), "False Restarting", "No space left on device"),
        (json!({"state": crash, "lastState": ended}), "False Restarting", "exit code 1"),
        (json!({"started": true, "lastState": killed}), "False Restarting", "OOMKilled, exit code 137"),
        (json!({"state": {"waiting": {"reason": "ErrImagePull"}}}), "False ImageNotPulled", "postgres:17"),
    ] {
        let (phase, found, message) = server(&container);
        assert_eq!((phase, found.as_str()), (DatabasePhase::Starting, reason), "{container}");
        assert!(message.contains(text), "{message}");
    }
}

#[test]
fn what_the_probe_says_is_the_cause_of_a_server_that_runs_and_is_not_ready() {
    let pods = [pod(&json!({"started": true}))];
    let bound = bound();
    assert_eq!(told_by(Some(&bound), &pods), Some(Told::Pod("a-db-0")));
    let observed = Observed {
        claim: Some(&bound),
        pods: &pods,
        told: Some("the volume is full: 4 KiB of 1024 KiB are left\n"),
        ..Observed::default()
    };
    let (_, finding) = of(&valid("a", POSTGRES), &observed).unwrap();
    assert_eq!(finding.reason, "NotAnswering");
    assert!(finding.message.ends_with("not ready: the volume is full: 4 KiB of 1024 KiB are left"));
    assert_eq!(told_by(Some(&bound), &[pod(&json!({"started": true, "ready": true}))]), None);
}

#[test]
fn last_words_are_cut_from_the_front() {
    let message = format!("{}ä the end", "x".repeat(5000));
    let ended = json!({"terminated": {"exitCode": 1, "message": message}});
    let (_, _, message) = server(&json!({"lastState": ended}));
    assert!(message.ends_with("xä the end") && message.len() < 600, "{}", message.len());
}

#[test]
fn a_server_without_a_pod_or_a_volume_says_so() {
    let (status, finding) = seen(Some(&bound()), &[], None);
    assert_eq!((status.phase, finding.reason.as_str()), (DatabasePhase::Starting, "ServerMissing"));
    let mut ending = pod(&json!({"ready": true}));
    ending.metadata.deletion_timestamp = Some(serde_json::from_value(json!("2026-11-21T10:00:00Z")).unwrap());
    let (_, finding) = seen(Some(&bound()), &[ending], None);
    assert!(finding.message.contains("is ending"), "{}", finding.message);

    let pending = claim(&json!({"phase": "Pending"}));
    let unschedulable: Pod = serde_json::from_value(json!({"status": {"conditions": [
        {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "no such class"}]}}))
    .unwrap();
    let (status, finding) = seen(Some(&pending), &[unschedulable], None);
    assert_eq!((status.phase, finding.reason.as_str()), (DatabasePhase::Pending, "ClaimPending"));
    assert!(finding.message.contains("no such class"), "{}", finding.message);
}

#[test]
fn what_cannot_make_a_volume_says_why_the_claim_has_none() {
    let mut pending = claim(&json!({"phase": "Pending"}));
    pending.metadata.name = Some("a-db".to_owned());
    assert_eq!(told_by(Some(&pending), &[]), Some(Told::Claim("a-db")));
    let told = Some("storageclass.storage.k8s.io \"fast\" not found");
    let observed = Observed { claim: Some(&pending), told, ..Observed::default() };
    let (_, finding) = of(&valid("a", POSTGRES), &observed).unwrap();
    assert_eq!(finding.reason, "ClaimPending");
    assert!(finding.message.ends_with("no volume yet: storageclass.storage.k8s.io \"fast\" not found"));
}

#[test]
fn a_volume_that_grows_is_ready_and_says_so() {
    let growing = claim(&json!({"phase": "Bound", "capacity": {"storage": "1Gi"}, "conditions": [
        {"type": "FileSystemResizePending", "status": "True", "message": "waiting for the node"}]}));
    let ready = [pod(&json!({"ready": true, "started": true}))];
    let (_, finding) = seen(Some(&growing), &ready, None);
    assert_eq!((finding.state.as_str(), finding.reason.as_str()), ("True", "StorageGrowing"));
    assert!(finding.message.contains("from 1Gi to 2Gi (FileSystemResizePending"), "{}", finding.message);
    // A server that is down matters more.
    let (_, finding) = seen(Some(&growing), &[], None);
    assert_eq!(finding.reason, "ServerMissing");
}

#[test]
fn what_is_refused_shows_once_the_database_works_as_before() {
    let refused = Problem::new("MajorVersionRefused", "stay");
    let ready = [pod(&json!({"ready": true, "started": true}))];
    let (status, finding) = seen(Some(&bound()), &ready, Some(&refused));
    assert_eq!((status.phase, finding.reason.as_str()), (DatabasePhase::Ready, "MajorVersionRefused"));
    assert_eq!(finding.state.as_str(), "False");
    let (_, finding) = seen(Some(&bound()), &[], Some(&refused));
    assert_eq!(finding.reason, "ServerMissing");
}

#[test]
fn what_keeps_a_database_from_being_had_is_the_cause_whatever_else_is_seen() {
    let lost = Problem::new("CredentialsLost", "restore them");
    for claim in [None, Some(&bound())] {
        let observed = Observed { claim, blocked: Some(&lost), ..Observed::default() };
        let (_, finding) = of(&valid("a", POSTGRES), &observed).unwrap();
        assert_eq!((finding.state.as_str(), finding.reason.as_str()), ("False", "CredentialsLost"));
    }
}
