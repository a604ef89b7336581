//! The Secrets themselves: read by name, and written when they must be.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use data_encoding::BASE64;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, ObjectMeta, Patch, PatchParams, PostParams};
use murmur_mesh::people::Person;
use murmur_plan::labels::{MANAGED_BY, MANAGER, PERSON};
use murmur_plan::status::conditions::Problem;
use serde_json::json;

use super::content::{Files, renewed};
use crate::bus::Mesh;
use crate::cluster::{Events, message};
use crate::metrics::Metrics;

/// How often the Secrets of a mesh are looked at; the operator may not watch Secrets.
const AGAIN: Duration = Duration::from_secs(600);
/// Wait after a failure.
const RETRY: Duration = Duration::from_secs(15);

/// Keeps the credentials of people.
#[derive(Clone)]
pub struct Keeper {
    /// The API server.
    pub client: kube::Client,
    /// The URL of NATS that the Secrets name.
    pub url: String,
    /// Where a failure is told.
    pub events: Events,
    /// Where writes are counted.
    pub metrics: Metrics,
}

/// What was told last about each person's Secret that is not as it should be.
#[derive(Default)]
struct Told(BTreeMap<Person, Problem>);

impl Told {
    /// The problem, if it is news: another one than before, or one that has come back.
    fn news(&mut self, person: Person, outcome: Result<(), Problem>) -> Option<Problem> {
        let before = self.0.remove(&person);
        let problem = outcome.err()?;
        self.0.insert(person, problem.clone());
        Some(problem).filter(|problem| before.as_ref() != Some(problem))
    }
}

impl Keeper {
    /// Keeps those of one mesh until it is dropped.
    pub async fn keep(self, mesh: Arc<Mesh>) {
        let mut told = Told::default();
        loop {
            let mut wait = AGAIN;
            for person in Person::ALL {
                let outcome = self.ensure(&mesh, person).await;
                if outcome.is_err() {
                    wait = RETRY;
                }
                if let Some(problem) = told.news(person, outcome) {
                    tracing::warn!(mesh = mesh.name, reason = problem.reason, "{}", problem.message);
                    self.events.of_mesh(&mesh.name, &problem.reason, &problem.message).await;
                }
            }
            tokio::time::sleep(wait).await;
        }
    }

    async fn ensure(&self, mesh: &Mesh, person: Person) -> Result<(), Problem> {
        let name = person.secret();
        let api: Api<Secret> = Api::namespaced(self.client.clone(), &mesh.name);
        let live = api.get_opt(name).await.map_err(|error| refused(name, "read", &error))?;
        if let Some(live) = &live
            && !is_ours(&live.metadata, person)
        {
            return Err(Problem::new(
                "NameTaken",
                format!(
                    "Secret {name} is there and is not Murmur's: the command line needs that name; \
                     remove or rename it"
                ),
            ));
        }
        let found = live.as_ref().map(text).unwrap_or_default();
        let now = Timestamp::now().as_second();
        let wanted = renewed(person, &mesh.account, &self.url, &found, now)
            .map_err(|error| Problem::new("SecretUnusable", format!("Secret {name}: {error}")))?;
        let Some(wanted) = wanted else { return Ok(()) };
        let data: serde_json::Map<_, _> =
            wanted.iter().map(|(key, text)| (key.clone(), json!(BASE64.encode(text.as_bytes())))).collect();
        match live {
            // Only this very Secret, not one of its name that came since.
            Some(live) => {
                let patch = json!({"metadata": {"uid": live.metadata.uid}, "data": data});
                let parameters =
                    PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
                let written = api.patch(name, &parameters, &Patch::Merge(&patch)).await;
                self.metrics.wrote("Secret", "patch");
                written.map_err(|error| refused(name, "renewed", &error))?;
            }
            None => {
                let labels = json!({(MANAGED_BY): MANAGER, (PERSON): name});
                let secret = json!({"metadata": {"name": name, "labels": labels}, "data": data});
                let secret: Secret = serde_json::from_value(secret)
                    .map_err(|error| refused(name, "made", &kube::Error::SerdeError(error)))?;
                let parameters =
                    PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
                let written = api.create(&parameters, &secret).await;
                self.metrics.wrote("Secret", "create");
                written.map_err(|error| refused(name, "created", &error))?;
            }
        }
        tracing::info!(mesh = mesh.name, secret = name, "wrote credentials for people");
        Ok(())
    }
}

/// Like a claim it belongs to no Microservice: it is ours if it bears our labels and no owner.
fn is_ours(object: &ObjectMeta, person: Person) -> bool {
    let label = |name: &str| object.labels.as_ref().and_then(|labels| labels.get(name)).map(String::as_str);
    label(MANAGED_BY) == Some(MANAGER)
        && label(PERSON) == Some(person.secret())
        && object.owner_references.iter().flatten().all(|owner| owner.controller != Some(true))
}

fn text(secret: &Secret) -> Files {
    let data = secret.data.iter().flatten();
    data.filter_map(|(key, bytes)| Some((key.clone(), String::from_utf8(bytes.0.clone()).ok()?))).collect()
}

fn refused(name: &str, done: &'static str, error: &kube::Error) -> Problem {
    let text = format!("Secret {name} could not be {done}: {}", message(error));
    Problem::new("ApplyFailed", text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_told_once_and_again_when_it_comes_back() {
        let (mut told, person) = (Told::default(), Person::ALL[0]);
        let failed = |message: &str| Err(Problem::new("ApplyFailed", message));
        let mut news = |outcome| told.news(person, outcome).map(|problem| problem.message);
        assert_eq!(news(failed("a")), Some("a".to_owned()));
        assert_eq!(news(failed("a")), None);
        assert_eq!(news(failed("b")), Some("b".to_owned()));
        assert_eq!(news(Ok(())), None);
        assert_eq!(news(failed("b")), Some("b".to_owned()), "it has come back");
    }
}
