//! What the operator's objects look like in the cluster, as the watches show it.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use kube::api::{DynamicObject, TypeMeta};
use kube::core::ApiResource;
use kube::runtime::WatchStreamExt;
use kube::runtime::reflector::{ObjectRef, Store, store::Writer};
use kube::runtime::watcher::{self, watcher};
use kube::{Api, ResourceExt};
use murmur_crds::Microservice;
use murmur_plan::labels::{DATABASE, MANAGED_BY, MANAGER, MICROSERVICE};
use tokio::task::JoinSet;

use super::queue::Queue;
use super::watch::{self, Seen};

/// The objects that bear our label, by kind, and the pods of services and of their databases.
pub struct Cache {
    kinds: Vec<(ApiResource, Store<DynamicObject>)>,
    pods: Store<Pod>,
    databases: Store<Pod>,
}

impl Cache {
    /// Watches all of `kinds` and the pods; each change has the service that it
    /// belongs to looked at.
    pub fn watch(
        client: &kube::Client,
        kinds: &[ApiResource],
        services: &Queue<Microservice>,
        tasks: &mut JoinSet<()>,
    ) -> Self {
        let mut stores = Vec::new();
        for kind in kinds {
            let mut writer = Writer::new(kind.clone());
            stores.push((kind.clone(), writer.as_reader()));
            let api: Api<DynamicObject> = Api::all_with(client.clone(), kind);
            let config = watcher::Config::default().labels(&format!("{MANAGED_BY}={MANAGER}"));
            let services = services.clone();
            let types = TypeMeta { api_version: kind.api_version.clone(), kind: kind.kind.clone() };
            tasks.spawn(async move {
                let stream = watcher(api, config).default_backoff();
                // The members of a list do not say of what kind they are.
                let named = |object: &mut DynamicObject| object.types = Some(types.clone());
                watch::run(stream, &mut writer, named, |seen| touch(&services, MICROSERVICE, seen)).await;
            });
        }
        let mut pods = |label| watch_pods(client, label, services, tasks);
        let (of_services, of_databases) = (pods(MICROSERVICE), pods(DATABASE));
        Self { kinds: stores, pods: of_services, databases: of_databases }
    }

    /// Waits until everything has been listed once.
    pub async fn ready(&self) {
        for (_, store) in &self.kinds {
            // An error means that the watch has been dropped, as at the end.
            let _ = store.wait_until_ready().await;
        }
        let _ = self.pods.wait_until_ready().await;
        let _ = self.databases.wait_until_ready().await;
    }

    /// An object of ours.
    pub fn get(&self, kind: &ApiResource, namespace: &str, name: &str) -> Option<Arc<DynamicObject>> {
        let (_, store) = self.kinds.iter().find(|(found, _)| found == kind)?;
        store.get(&ObjectRef::new_with(name, kind.clone()).within(namespace))
    }

    /// The objects of a kind that belong to a service.
    pub fn of_service(&self, kind: &ApiResource, namespace: &str, service: &str) -> Vec<Arc<DynamicObject>> {
        let store = self.kinds.iter().find(|(found, _)| found == kind);
        store.map_or_else(Vec::new, |(_, store)| {
            store.state_filter(|object| is_of(object, MICROSERVICE, namespace, service))
        })
    }

    /// All objects of a kind.
    pub fn all(&self, kind: &ApiResource) -> Vec<Arc<DynamicObject>> {
        let store = self.kinds.iter().find(|(found, _)| found == kind);
        store.map_or_else(Vec::new, |(_, store)| store.state())
    }

    /// The pods of a service.
    pub fn pods(&self, namespace: &str, service: &str) -> Vec<Arc<Pod>> {
        self.pods.state_filter(|pod| is_of(pod, MICROSERVICE, namespace, service))
    }

    /// The pods of a service's database.
    pub fn database_pods(&self, namespace: &str, service: &str) -> Vec<Arc<Pod>> {
        self.databases.state_filter(|pod| is_of(pod, DATABASE, namespace, service))
    }
}

/// Watches the pods that name a service by a label.
fn watch_pods(
    client: &kube::Client,
    label: &'static str,
    services: &Queue<Microservice>,
    tasks: &mut JoinSet<()>,
) -> Store<Pod> {
    let (pods, mut writer) = watch::store::<Pod>();
    let api: Api<Pod> = Api::all(client.clone());
    let config = watcher::Config::default().labels(label);
    let services = services.clone();
    tasks.spawn(async move {
        let stream = watcher(api, config).default_backoff();
        // Only the status is read: the rest would be most of the memory.
        let trim = |pod: &mut Pod| pod.spec = None;
        Box::pin(watch::run(stream, &mut writer, trim, |seen| touch(&services, label, seen))).await;
    });
    pods
}

fn is_of<K: ResourceExt>(object: &K, label: &str, namespace: &str, service: &str) -> bool {
    object.namespace().as_deref() == Some(namespace)
        && object.labels().get(label).is_some_and(|found| found == service)
}

async fn touch<K: ResourceExt>(services: &Queue<Microservice>, label: &str, seen: Seen<K>) {
    let (Seen::There(object) | Seen::Gone(object)) = seen;
    if let (Some(namespace), Some(service)) = (object.namespace(), object.labels().get(label)) {
        services.add(ObjectRef::new(service).within(&namespace)).await;
    }
}
