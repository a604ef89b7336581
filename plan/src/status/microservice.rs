//! The status of a Microservice.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentStatus};
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use murmur_crds::MicroserviceStatus;
use murmur_mesh::report::OutboxReport;

use super::conditions::{BUS_READY, Finding, PROGRESSING, Problem, READY, State, merge};
use super::{database, outbox};
use crate::labels;
use crate::microservice::{SIDECAR_CONTAINER, ValidMicroservice};

/// What was observed of a service that could be planned.
#[derive(Debug, Clone, Default)]
pub struct Observed<'a> {
    /// Its Deployment, if there is one.
    pub deployment: Option<&'a Deployment>,
    /// Its pods.
    pub pods: &'a [Pod],
    /// Its database.
    pub database: database::Observed<'a>,
    /// Why its objects could not be applied, such as `NameTaken`.
    pub blocked: Option<Problem>,
    /// Why its place on the bus is not there; `None`: it is, and this was seen.
    pub bus: Option<Problem>,
    /// How its outbox stands, as the sidecar that relays it says.
    pub outbox: Option<OutboxReport>,
    /// Why it keeps an older sidecar for now.
    pub upgrade: Option<Problem>,
    /// The version of the sidecar that its pods are made with.
    pub sidecar_version: Option<String>,
}

/// The status of a service that cannot be planned: why, and otherwise what it was.
pub fn invalid(
    previous: Option<&MicroserviceStatus>,
    generation: i64,
    problem: &Problem,
    now: Timestamp,
) -> MicroserviceStatus {
    let previous = previous.cloned().unwrap_or_default();
    let findings = [READY, PROGRESSING]
        .map(|kind| Finding::new(kind, false, problem.reason.clone(), problem.message.clone()));
    MicroserviceStatus {
        observed_generation: Some(generation),
        conditions: merge(&previous.conditions, findings, generation, now),
        ..previous
    }
}

/// The status of a service.
pub fn of(
    service: &ValidMicroservice,
    previous: Option<&MicroserviceStatus>,
    observed: &Observed<'_>,
    now: Timestamp,
) -> MicroserviceStatus {
    let database = database::of(service, &observed.database);
    let rollout = rollout(service, observed);
    let mut findings =
        vec![ready(service, observed, database.as_ref().map(|(_, finding)| finding), &rollout, now)];
    findings.extend(database.as_ref().map(|(_, finding)| finding.clone()));
    findings.push(match &observed.bus {
        None => {
            Finding::new(BUS_READY, true, "Connected", "the service's user and configuration are on the bus")
        }
        Some(problem) => Finding::new(BUS_READY, false, problem.reason.clone(), problem.message.clone()),
    });
    findings.extend(service.outbox.then(|| outbox::finding(observed.outbox.as_ref())));
    findings.push(progressing(observed, rollout));
    let counted = observed.deployment.and_then(|deployment| deployment.status.as_ref());
    MicroserviceStatus {
        observed_generation: Some(service.generation),
        replicas: Some(counted.and_then(|status| status.replicas).unwrap_or(0)),
        ready_replicas: Some(counted.and_then(|status| status.ready_replicas).unwrap_or(0)),
        desired_replicas: Some(service.replicas),
        selector: Some(labels::selector_text(&service.name)),
        sidecar_version: observed.sidecar_version.clone(),
        database: database.map(|(status, _)| status),
        conditions: merge(
            previous.map_or(&[], |previous| &previous.conditions),
            findings,
            service.generation,
            now,
        ),
    }
}

/// How far the pods are what they should be.
enum Rollout {
    /// They are.
    Complete,
    /// Not yet.
    Under(String),
    /// Not, and nothing moves.
    Stuck(String),
}

fn rollout(service: &ValidMicroservice, observed: &Observed<'_>) -> Rollout {
    let Some(deployment) = observed.deployment else {
        return Rollout::Under("the Deployment is not there yet".to_owned());
    };
    let empty = DeploymentStatus::default();
    let status = deployment.status.as_ref().unwrap_or(&empty);
    if status.observed_generation < deployment.metadata.generation {
        return Rollout::Under("the Deployment has not been looked at yet".to_owned());
    }
    let wanted = service.replicas;
    let updated = status.updated_replicas.unwrap_or(0);
    let all = status.replicas.unwrap_or(0);
    let available = status.available_replicas.unwrap_or(0);
    if updated == wanted && all == wanted && available == wanted {
        return Rollout::Complete;
    }
    let message = format!("{available} of {wanted} pods are available");
    let stuck = status.conditions.iter().flatten().any(|condition| {
        condition.type_ == PROGRESSING
            && condition.status == "False"
            && condition.reason.as_deref() == Some("ProgressDeadlineExceeded")
    });
    if stuck { Rollout::Stuck(message) } else { Rollout::Under(message) }
}

fn ready(
    service: &ValidMicroservice,
    observed: &Observed<'_>,
    database: Option<&Finding>,
    rollout: &Rollout,
    now: Timestamp,
) -> Finding {
    let not = |reason: &str, message: &str| Finding::new(READY, false, reason, message);
    if let Some(problem) = &observed.blocked {
        return not(&problem.reason, &problem.message);
    }
    match rollout {
        // What a pod says tells more than how many there are.
        Rollout::Under(message) | Rollout::Stuck(message) => {
            let catches_up =
                || service.catch_up.and_then(|timeout| not_caught_up(observed.pods, timeout, now));
            let pods = || pod_problem(observed.pods).or_else(catches_up);
            match replica_problem(observed.deployment).or_else(pods) {
                Some(problem) => not(&problem.reason, &problem.message),
                None => match database.filter(|finding| finding.state == State::False) {
                    Some(finding) => not(&finding.reason, &finding.message),
                    None if matches!(rollout, Rollout::Stuck(_)) => not("ProgressDeadlineExceeded", message),
                    None => not("PodsNotReady", message),
                },
            }
        }
        Rollout::Complete => match database.filter(|finding| finding.state == State::False) {
            Some(finding) => not(&finding.reason, &finding.message),
            None => match observed.database.refused {
                Some(problem) => not(&problem.reason, &problem.message),
                None => Finding::new(READY, true, "Available", "all pods are available"),
            },
        },
    }
}

fn progressing(observed: &Observed<'_>, rollout: Rollout) -> Finding {
    if let Some(problem) = &observed.blocked {
        return Finding::new(PROGRESSING, false, problem.reason.clone(), problem.message.clone());
    }
    match (rollout, &observed.upgrade) {
        (Rollout::Complete, Some(upgrade)) => {
            Finding::new(PROGRESSING, false, upgrade.reason.clone(), upgrade.message.clone())
        }
        (Rollout::Complete, None) => {
            Finding::new(PROGRESSING, false, "Complete", "the pods are what they should be")
        }
        (Rollout::Under(message), _) => Finding::new(PROGRESSING, true, "RollingOut", message),
        (Rollout::Stuck(message), _) => Finding::new(PROGRESSING, false, "ProgressDeadlineExceeded", message),
    }
}

/// Why a pod could not even be made, if so: a quota or a policy refused it.
fn replica_problem(deployment: Option<&Deployment>) -> Option<Problem> {
    let conditions = deployment?.status.as_ref()?.conditions.as_ref()?;
    let failed = conditions
        .iter()
        .find(|condition| condition.type_ == "ReplicaFailure" && condition.status == "True")?;
    let message = failed.message.as_deref().unwrap_or_default();
    Some(Problem::new("ReplicaFailure", format!("a pod could not be made: {message}")))
}

/// The first thing that keeps a pod from running, if any: an image that cannot
/// be pulled, a container that crashes, no node that fits.
pub fn pod_problem(pods: &[Pod]) -> Option<Problem> {
    let mut pods: Vec<&Pod> = pods.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none()).collect();
    // A fixed order: the same pods give the same text.
    pods.sort_unstable_by(|a, b| a.metadata.name.cmp(&b.metadata.name));
    pods.into_iter().find_map(|pod| {
        let status = pod.status.as_ref()?;
        let containers =
            status.init_container_statuses.iter().flatten().chain(status.container_statuses.iter().flatten());
        containers.filter_map(container_problem).next().or_else(|| {
            status
                .conditions
                .iter()
                .flatten()
                .find(|condition| condition.type_ == "PodScheduled" && condition.status == "False")
                .map(|condition| {
                    Problem::new(
                        condition.reason.clone().unwrap_or_else(|| "Unschedulable".to_owned()),
                        format!(
                            "no node takes the pod: {}",
                            condition.message.as_deref().unwrap_or_default()
                        ),
                    )
                })
        })
    })
}

/// How long the pods' sidecars have been waiting for events, by the pods' names, in a fixed order.
fn catching_up(pods: &[Pod], now: Timestamp) -> impl Iterator<Item = (&str, Duration)> {
    let mut pods: Vec<&Pod> = pods.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none()).collect();
    pods.sort_unstable_by(|a, b| a.metadata.name.cmp(&b.metadata.name));
    pods.into_iter().filter_map(move |pod| {
        let status = pod.status.as_ref()?;
        let mut sidecar = status.init_container_statuses.iter().flatten();
        sidecar.find(|it| it.name == SIDECAR_CONTAINER && it.started == Some(true) && !it.ready)?;
        let started = status.start_time.as_ref().map_or(now, |time| time.0);
        let age = Duration::try_from(now.duration_since(started)).unwrap_or_default();
        Some((pod.metadata.name.as_deref().unwrap_or_default(), age))
    })
}

/// When the next pod will not have caught up in time, if it does not by then: nothing else would tell of it.
pub fn catch_up_ends_in(service: &ValidMicroservice, pods: &[Pod], now: Timestamp) -> Option<Duration> {
    let timeout = service.catch_up?;
    catching_up(pods, now)
        .filter_map(|(_, age)| timeout.checked_sub(age))
        .filter(|left| !left.is_zero())
        .min()
}

/// A pod whose sidecar still waits for events after so long, if any.
fn not_caught_up(pods: &[Pod], timeout: Duration, now: Timestamp) -> Option<Problem> {
    let (name, _) = catching_up(pods, now).find(|(_, age)| *age >= timeout)?;
    Some(Problem::new(
        "CatchUpTimeout",
        format!(
            "pod {name} has not caught up with its subscriptions within {timeout:?}: status.pending of each says how \
             much is left, and Delivering what holds it up"
        ),
    ))
}

fn container_problem(container: &ContainerStatus) -> Option<Problem> {
    let waiting = container.state.as_ref()?.waiting.as_ref()?;
    // ErrImagePull and ImagePullBackOff take turns: one name for both, or the condition would flap.
    let reason = match waiting.reason.as_deref()? {
        "ErrImagePull" | "ImagePullBackOff" | "InvalidImageName" | "ErrImageNeverPull" => "ImageNotPulled",
        "CrashLoopBackOff" => "CrashLoop",
        "CreateContainerConfigError" | "CreateContainerError" | "RunContainerError" => "ContainerNotCreated",
        _ => return None,
    };
    let what = match reason {
        "ImageNotPulled" => format!("the image {} cannot be pulled (ImagePullBackOff)", container.image),
        "CrashLoop" => "it ends again and again; kubectl logs --previous says why".to_owned(),
        _ => waiting.message.clone().unwrap_or_else(|| "it cannot be created".to_owned()),
    };
    Some(Problem::new(reason, format!("container {}: {what}", container.name)))
}

#[cfg(test)]
mod tests;
