//! What all controllers share.

use std::sync::Arc;

use kube::ResourceExt;
use kube::runtime::reflector::{ObjectRef, Store};
use murmur_crds::{EventSubscription, Mesh, Microservice};
use murmur_plan::Invalid;
use murmur_plan::microservice::Neighbours;
use serde_json::Value;

use crate::bus::{self, Meshes};
use crate::cluster::{Applier, Backoff, Cache, StatusWriter};
use crate::controllers::Offers;
use crate::error::Error;
use crate::mesh;
use crate::metrics::Metrics;
use crate::microservice::{Scales, Turns};
use crate::settings::Settings;
use crate::trust::Authority;

/// What all controllers share.
pub struct Context {
    /// The API server.
    pub client: kube::Client,
    /// The operator's configuration.
    pub settings: Arc<Settings>,
    /// What is counted.
    pub metrics: Metrics,
    /// All Microservices.
    pub microservices: Store<Microservice>,
    /// All EventSubscriptions.
    pub subscriptions: Store<EventSubscription>,
    /// All Meshes.
    pub mesh_resources: Store<Mesh>,
    /// The operator's own objects.
    pub cache: Arc<Cache>,
    /// Writes objects.
    pub applier: Applier,
    /// Writes statuses.
    pub status: StatusWriter,
    /// The bus, by mesh.
    pub meshes: Meshes,
    /// Failures in a row.
    pub backoff: Backoff,
    /// How many pods services with autoscaling should have.
    pub scales: Scales,
    /// Which services have been given their turn to upgrade their sidecar.
    pub turns: Turns,
    /// Which database servers have been given their turn to be replaced.
    pub database_turns: Turns,
    /// Signs the certificates of database servers.
    pub authority: Authority,
    /// What each service offered when it was seen last.
    pub offers: Offers,
}

impl Context {
    /// A Microservice as the watch shows it.
    pub fn microservice(&self, namespace: &str, name: &str) -> Option<Arc<Microservice>> {
        self.microservices.get(&ObjectRef::new(name).within(namespace))
    }

    /// The subscriptions of a service, by name.
    pub fn subscriptions_of(&self, namespace: &str, service: &str) -> Vec<Arc<EventSubscription>> {
        let mut found = self.subscriptions.state_filter(|subscription| {
            subscription.namespace().as_deref() == Some(namespace)
                && subscription.spec.microservice_ref.name == service
        });
        found.sort_by_key(|subscription| subscription.name_any());
        found
    }

    /// What the services of a mesh offer each other.
    pub fn neighbours(&self, namespace: &str) -> Neighbours {
        let services =
            self.microservices.state_filter(|service| service.namespace().as_deref() == Some(namespace));
        Neighbours::of(services.iter().map(AsRef::as_ref))
    }

    /// The streams that a mesh should have.
    pub fn streams(&self, namespace: &str) -> Result<Vec<Value>, Invalid> {
        let key = ObjectRef::new(murmur_crds::mesh::NAME).within(namespace);
        let resource = self.mesh_resources.get(&key);
        mesh::streams(resource.as_deref(), &self.settings.plan)
    }

    /// The bus of a mesh.
    ///
    /// # Errors
    /// When its keys are not there.
    pub async fn mesh(&self, namespace: &str) -> Result<Arc<bus::Mesh>, Error> {
        Ok(self.meshes.mesh(namespace, self.streams(namespace)).await?)
    }
}
