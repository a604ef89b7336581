//! The meshes that this operator serves: one task each, from the first object
//! in a namespace until the last one is gone.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use murmur_plan::Invalid;
use serde_json::Value;
use tokio::sync::Mutex;
use tokio::task::JoinHandle;

use super::actor::{Actor, With};
use super::changes::Changes;
use super::error::BusError;
use super::mesh::Mesh;
use super::store::StoreWatch;
use super::sweep::Sweep;
use super::system::SystemConnection;
use crate::people::Keeper;
use crate::trust::{TrustError, load_account};

/// The most meshes of one operator: one connection each.
const LIMIT: usize = 1_000;

/// Why a mesh cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum MeshError {
    /// Its keys are not there.
    #[error(transparent)]
    Trust(#[from] Box<TrustError>),
    /// Its Mesh resource cannot be planned.
    #[error("the Mesh default cannot be planned: {0}")]
    Invalid(Invalid),
    /// There are too many.
    #[error(transparent)]
    Bus(#[from] BusError),
}

struct Entry {
    mesh: Arc<Mesh>,
    /// The mesh's own, and the one that keeps credentials for people.
    tasks: [JoinHandle<()>; 2],
}

impl Drop for Entry {
    fn drop(&mut self) {
        // The connection closes with its task.
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// All meshes, by namespace.
pub struct Meshes {
    client: kube::Client,
    namespace: String,
    url: String,
    system: Arc<SystemConnection>,
    changes: Changes,
    sweep: Sweep,
    people: Keeper,
    entries: Mutex<HashMap<String, Entry>>,
    /// Held while a mesh is being started: many objects ask for it at once.
    starting: Mutex<()>,
}

impl Meshes {
    /// No meshes yet.
    pub fn new(
        client: kube::Client,
        namespace: String,
        url: String,
        system: SystemConnection,
        sweep: Sweep,
        people: Keeper,
    ) -> Self {
        Self {
            client,
            namespace,
            url,
            system: Arc::new(system),
            changes: Changes::new(),
            sweep,
            people,
            entries: Mutex::default(),
            starting: Mutex::default(),
        }
    }

    /// News from the bus.
    pub fn changes(&self) -> &Changes {
        &self.changes
    }

    /// The mesh of a namespace, started if this is the first time that it is
    /// asked for; its streams are as planned from now on. With a plan that
    /// cannot be made, those of a mesh that runs stay as they are.
    ///
    /// # Errors
    /// When its keys can be neither read nor made, or there are too many meshes.
    pub async fn mesh(
        &self,
        name: &str,
        streams: Result<Vec<Value>, Invalid>,
    ) -> Result<Arc<Mesh>, MeshError> {
        if let Some(mesh) = self.running(name, &streams).await {
            return Ok(mesh);
        }
        let _alone = self.starting.lock().await;
        if let Some(mesh) = self.running(name, &streams).await {
            return Ok(mesh);
        }
        let streams = streams.map_err(MeshError::Invalid)?;
        // Not while the meshes that run are locked: the API server may take its time.
        let account = load_account(&self.client, &self.namespace, name).await.map_err(Box::new)?;
        let mut entries = self.entries.lock().await;
        if entries.len() >= LIMIT {
            return Err(BusError::TooManyMeshes(LIMIT).into());
        }
        let (metrics, events) = (self.people.metrics.clone(), self.people.events.clone());
        let with = With {
            url: self.url.clone(),
            system: self.system.clone(),
            changes: self.changes.clone(),
            sweep: self.sweep.clone(),
            store: StoreWatch::new(name.to_owned(), metrics, events),
        };
        let actor = Actor::new(name.to_owned(), account, streams, with);
        let mesh = actor.mesh();
        let tasks = [tokio::spawn(actor.run()), tokio::spawn(self.people.clone().keep(mesh.clone()))];
        entries.insert(name.to_owned(), Entry { mesh: mesh.clone(), tasks });
        tracing::info!(mesh = name, "serving a mesh");
        Ok(mesh)
    }

    async fn running(&self, name: &str, streams: &Result<Vec<Value>, Invalid>) -> Option<Arc<Mesh>> {
        let entries = self.entries.lock().await;
        let mesh = &entries.get(name)?.mesh;
        if let Ok(streams) = streams {
            mesh.plan_streams(streams.clone());
        }
        Some(mesh.clone())
    }

    /// Has a mesh remove the durables that nobody owns any more, if it is served.
    pub async fn sweep(&self, name: &str) {
        if let Some(entry) = self.entries.lock().await.get(name) {
            entry.mesh.sweep_now();
        }
    }

    /// How many meshes are served.
    pub async fn len(&self) -> usize {
        self.entries.lock().await.len()
    }

    /// Whether none is served.
    pub async fn is_empty(&self) -> bool {
        self.len().await == 0
    }

    /// Stops serving the meshes that are not among `live`.
    pub async fn retain(&self, live: &HashSet<String>) {
        self.entries.lock().await.retain(|name, _| {
            let keep = live.contains(name);
            if !keep {
                tracing::info!(mesh = name, "no longer serving a mesh: nothing is left in its namespace");
            }
            keep
        });
    }
}
