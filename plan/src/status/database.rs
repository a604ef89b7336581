//! Where a service's database stands: what its claim and its server's pod show.

use k8s_openapi::api::core::v1::{ContainerStatus, PersistentVolumeClaim, Pod};
use murmur_crds::database::{DatabasePhase, DatabaseStatus};
use murmur_crds::quantity::parse_core;

use super::conditions::{DATABASE_READY, Finding, Problem, State};
use super::microservice::pod_problem;
use crate::database::{self, Server};
use crate::labels;
use crate::microservice::ValidMicroservice;

/// The longest part of a server's last words, in characters.
const LAST_WORDS: usize = 400;

/// What events of the cluster tell the cause of, and nothing else does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told<'a> {
    /// The pod of this name: its server runs and is not ready, and its probe says why.
    Pod(&'a str),
    /// The claim of this name: it has no volume, and whoever makes volumes says why.
    Claim(&'a str),
}

/// Whose events tell the cause, if they do.
pub fn told_by<'a>(claim: Option<&'a PersistentVolumeClaim>, pods: &'a [Pod]) -> Option<Told<'a>> {
    match claim.filter(|claim| has_no_volume(claim)) {
        Some(claim) => claim.metadata.name.as_deref().map(Told::Claim),
        None => not_ready(pods).map(Told::Pod),
    }
}

/// Whether a claim waits for a volume.
pub fn has_no_volume(claim: &PersistentVolumeClaim) -> bool {
    phase(claim) == "Pending"
}

fn phase(claim: &PersistentVolumeClaim) -> &str {
    claim.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or("Pending")
}

fn not_ready(pods: &[Pod]) -> Option<&str> {
    let pod = pods.iter().find(|pod| {
        let containers = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
        let mut server = containers.filter(|container| container.name == database::CONTAINER);
        server.any(|container| container.started == Some(true) && !container.ready)
    })?;
    pod.metadata.name.as_deref()
}

/// What was observed of a database.
#[derive(Debug, Clone, Default)]
pub struct Observed<'a> {
    /// The claim that holds its data, if it is there.
    pub claim: Option<&'a PersistentVolumeClaim>,
    /// The pods of its server.
    pub pods: &'a [Pod],
    /// What the events of the one that [`told_by`] names said last.
    pub told: Option<&'a str>,
    /// Why it cannot be had: credentials that are gone, the Secret of one elsewhere that is missing.
    pub blocked: Option<&'a Problem>,
    /// What was asked for and is not done, while all goes on as before.
    pub refused: Option<&'a Problem>,
}

/// Where the database of a service stands; `None` if it has none.
pub(super) fn of(service: &ValidMicroservice, observed: &Observed<'_>) -> Option<(DatabaseStatus, Finding)> {
    let sqlite = service.storage.as_ref().is_some_and(|storage| storage.sqlite);
    let (status, finding) = match &service.database {
        Some(server) => with_server(service, server, observed),
        None if sqlite => {
            let name = labels::data_claim(&service.name);
            let found = Found::of_claim(&name, observed);
            (status(found.phase, name), found.finding)
        }
        None => match &service.external {
            Some(secret) => return Some(elsewhere(secret, observed.blocked)),
            None => return None,
        },
    };
    let refused = observed.refused.filter(|_| finding.state == State::True);
    let finding = match observed.blocked.or(refused) {
        Some(problem) => Finding::new(DATABASE_READY, false, problem.reason.clone(), problem.message.clone()),
        None => finding,
    };
    Some((status, finding))
}

/// Nobody looks at a database elsewhere but its service: what is seen is the Secret.
fn elsewhere(secret: &str, problem: Option<&Problem>) -> (DatabaseStatus, Finding) {
    let (phase, finding) = match problem {
        None => {
            let text = format!("the Secret {secret} says where it is");
            (DatabasePhase::Ready, Finding::new(DATABASE_READY, true, "SecretFound", text))
        }
        Some(problem) => (
            DatabasePhase::Pending,
            Finding::new(DATABASE_READY, false, problem.reason.clone(), problem.message.clone()),
        ),
    };
    (
        DatabaseStatus { phase, endpoint: None, secret_name: Some(secret.to_owned()), claim_name: None },
        finding,
    )
}

fn status(phase: DatabasePhase, claim: String) -> DatabaseStatus {
    DatabaseStatus { phase, endpoint: None, secret_name: None, claim_name: Some(claim) }
}

fn with_server(
    service: &ValidMicroservice,
    server: &Server,
    observed: &Observed<'_>,
) -> (DatabaseStatus, Finding) {
    let name = labels::database(&service.name);
    let mut found = Found::of_claim(&name, observed);
    match found.phase {
        DatabasePhase::Bound => {
            let grows = found.reason_is("StorageGrowing").then_some(found.finding);
            found = Found::of_server(&name, observed);
            if found.phase == DatabasePhase::Ready
                && let Some(grows) = grows
            {
                found.finding = grows;
            }
        }
        // Where the volume waits for the pod, what keeps the pod waiting is the cause.
        DatabasePhase::Pending => {
            if let Some(problem) = pod_problem(observed.pods) {
                found.finding.message.push_str("; ");
                found.finding.message.push_str(&problem.message);
            }
        }
        _ => {}
    }
    let status = DatabaseStatus {
        endpoint: Some(database::endpoint(&service.name, &service.mesh, server.engine)),
        secret_name: Some(name.clone()),
        ..status(found.phase, name)
    };
    (status, found.finding)
}

/// A phase, and what it comes from.
struct Found {
    phase: DatabasePhase,
    finding: Finding,
}

impl Found {
    fn new(phase: DatabasePhase, ready: bool, reason: &str, message: impl Into<String>) -> Self {
        Self { phase, finding: Finding::new(DATABASE_READY, ready, reason, message) }
    }

    fn reason_is(&self, reason: &str) -> bool {
        self.finding.reason == reason
    }

    fn of_claim(name: &str, observed: &Observed<'_>) -> Self {
        use DatabasePhase::{Bound, Lost, Pending};
        let Some(claim) = observed.claim else {
            return Self::new(Pending, false, "ClaimMissing", format!("the claim {name} is not there yet"));
        };
        match phase(claim) {
            "Bound" => match growth(claim) {
                Some(message) => Self::new(Bound, true, "StorageGrowing", message),
                None => Self::new(Bound, true, "Bound", format!("the claim {name} is bound")),
            },
            "Lost" => Self::new(
                Lost,
                false,
                "ClaimLost",
                format!(
                    "the volume of the claim {name} has gone: restore it, or delete the claim to start anew"
                ),
            ),
            _ => {
                let why = match observed.told {
                    Some(said) => tail(said).to_owned(),
                    None => format!("kubectl describe pvc {name} says why"),
                };
                let text = format!("the claim {name} has no volume yet: {why}");
                Self::new(Pending, false, "ClaimPending", text)
            }
        }
    }

    fn of_server(name: &str, observed: &Observed<'_>) -> Self {
        use DatabasePhase::{Ready, Starting};
        let pods = observed.pods;
        let not = |reason: &str, message: String| Self::new(Starting, false, reason, message);
        let live = pods.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none()).min_by(|a, b| {
            // A fixed choice, should there ever be two.
            a.metadata.name.cmp(&b.metadata.name)
        });
        let Some(pod) = live else {
            let text = match pods {
                [] => format!("the server's pod is not there: kubectl describe statefulset {name} says why"),
                _ => "the server's pod is ending; the next one starts when it has gone".to_owned(),
            };
            return not("ServerMissing", text);
        };
        let pod_name = pod.metadata.name.as_deref().unwrap_or_default();
        let container = pod.status.as_ref().and_then(|status| {
            status.container_statuses.as_ref()?.iter().find(|container| container.name == database::CONTAINER)
        });
        if container.is_some_and(|container| container.ready) {
            return Self::new(Ready, true, "Ready", "the server answers");
        }
        // It ends and is started again, in turns: one reason for both, or the condition would flap.
        if let Some(text) = container.and_then(last_words) {
            return not("Restarting", format!("the server ended and is started again: {text}"));
        }
        if let Some(problem) = pod_problem(pods) {
            return not(&problem.reason, problem.message);
        }
        match container {
            Some(container) if container.started == Some(true) => {
                let text = match observed.told {
                    Some(said) => format!("the server runs and is not ready: {}", tail(said)),
                    None => format!(
                        "the server does not answer, or its volume is full: kubectl describe pod {pod_name} shows \
                         what its probes say"
                    ),
                };
                not("NotAnswering", text)
            }
            _ => not(
                "Starting",
                format!("the server has not answered yet: kubectl logs {pod_name} shows how far it is"),
            ),
        }
    }
}

/// The end of what was said.
fn tail(text: &str) -> &str {
    let text = text.trim();
    let start = text.char_indices().rev().nth(LAST_WORDS - 1).map_or(0, |(at, _)| at);
    &text[start..]
}

/// Why the server ended last, if it has.
fn last_words(container: &ContainerStatus) -> Option<String> {
    let ended = |state: Option<&k8s_openapi::api::core::v1::ContainerState>| state?.terminated.clone();
    let last = ended(container.state.as_ref()).or_else(|| ended(container.last_state.as_ref()))?;
    let reason = last.reason.unwrap_or_else(|| "Ended".to_owned());
    let message = last.message.unwrap_or_default();
    let words = tail(&message);
    Some(match words {
        "" => format!("{reason}, exit code {}", last.exit_code),
        words => format!("{reason}, exit code {}; its last words: {words}", last.exit_code),
    })
}

/// What a claim says that is larger than its volume.
fn growth(claim: &PersistentVolumeClaim) -> Option<String> {
    let asked = claim.spec.as_ref()?.resources.as_ref()?.requests.as_ref()?.get("storage")?;
    let status = claim.status.as_ref()?;
    let has = status.capacity.as_ref()?.get("storage")?;
    let smaller = parse_core(has).ok()? < parse_core(asked).ok()?;
    let said = status
        .conditions
        .iter()
        .flatten()
        .filter(|condition| condition.status == "True")
        .map(|condition| {
            format!(" ({}: {})", condition.type_, condition.message.as_deref().unwrap_or_default())
        })
        .next()
        .unwrap_or_default();
    smaller.then(|| format!("the volume grows from {} to {}{said}", has.0, asked.0))
}

#[cfg(test)]
mod tests;
