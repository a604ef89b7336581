//! Kubernetes events: one when a condition changes, so never in a loop.

use k8s_openapi::api::core::v1::ObjectReference;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};

/// The longest note that the API server takes, in bytes.
const LONGEST_NOTE: usize = 1_000;

/// Records events about objects.
#[derive(Clone)]
pub struct Events(Recorder);

impl Events {
    /// Records as `murmur-operator`, from this replica.
    pub fn new(client: kube::Client, identity: &str) -> Self {
        let reporter =
            Reporter { controller: "murmur-operator".to_owned(), instance: Some(identity.to_owned()) };
        Self(Recorder::new(client, reporter))
    }

    /// Records that something is wrong with a mesh as a whole, about its
    /// namespace: a mesh needs no Mesh.
    pub async fn of_mesh(&self, mesh: &str, reason: &str, note: &str) {
        let namespace = ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Namespace".to_owned()),
            name: Some(mesh.to_owned()),
            namespace: Some(mesh.to_owned()),
            ..ObjectReference::default()
        };
        self.record(&namespace, false, reason, "Mesh", note).await;
    }

    /// Records that something became true (`good`) or false about an object. An
    /// event that cannot be written is logged and forgotten: the condition
    /// says the same.
    pub async fn record(&self, object: &ObjectReference, good: bool, reason: &str, action: &str, note: &str) {
        let mut end = note.len().min(LONGEST_NOTE);
        while !note.is_char_boundary(end) {
            end -= 1;
        }
        let event = Event {
            type_: if good { EventType::Normal } else { EventType::Warning },
            reason: reason.to_owned(),
            note: Some(note[..end].to_owned()),
            action: action.to_owned(),
            secondary: None,
        };
        if let Err(error) = self.0.publish(&event, object).await {
            tracing::debug!(reason, %error, "an event could not be written");
        }
    }
}
