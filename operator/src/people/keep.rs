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

impl Keeper {
    /// Keeps those of one mesh until it is dropped.
    pub async fn keep(self, mesh: Arc<Mesh>) {
        let mut told = BTreeMap::new();
        loop {
            let mut wait = AGAIN;
            for person in Person::ALL {
                let Err(problem) = self.ensure(&mesh, person).await else { continue };
                wait = RETRY;
                // Once: what has not changed is no news.
                if told.get(&person) != Some(&problem) {
                    tracing::warn!(mesh = mesh.name, reason = problem.reason, "{}", problem.message);
                    self.events.of_mesh(&mesh.name, &problem.reason, &problem.message).await;
                    told.insert(person, problem);
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
