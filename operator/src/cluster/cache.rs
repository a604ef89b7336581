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
use murmur_plan::labels::{MANAGED_BY, MANAGER, MICROSERVICE};
use tokio::task::JoinSet;

use super::queue::Queue;
use super::watch::{self, Seen};

/// The objects that bear our label, by kind, and the services' pods.
pub struct Cache {
    kinds: Vec<(ApiResource, Store<DynamicObject>)>,
    pods: Store<Pod>,
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
                watch::run(stream, &mut writer, named, |seen| touch(&services, seen)).await;
            });
        }
        let (pods, mut writer) = watch::store::<Pod>();
        let api: Api<Pod> = Api::all(client.clone());
        let config = watcher::Config::default().labels(MICROSERVICE);
        let services = services.clone();
        tasks.spawn(async move {
            let stream = watcher(api, config).default_backoff();
            // Only the status is read: the rest would be most of the memory.
            Box::pin(watch::run(stream, &mut writer, |pod| pod.spec = None, |seen| touch(&services, seen)))
                .await;
        });
        Self { kinds: stores, pods }
    }

    /// Waits until everything has been listed once.
    pub async fn ready(&self) {
        for (_, store) in &self.kinds {
            // An error means that the watch has been dropped, as at the end.
            let _ = store.wait_until_ready().await;
        }
        let _ = self.pods.wait_until_ready().await;
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
            store.state_filter(|object| is_of(object, namespace, service))
        })
    }

    /// All objects of a kind.
    pub fn all(&self, kind: &ApiResource) -> Vec<Arc<DynamicObject>> {
        let store = self.kinds.iter().find(|(found, _)| found == kind);
        store.map_or_else(Vec::new, |(_, store)| store.state())
    }

    /// The pods of a service.
    pub fn pods(&self, namespace: &str, service: &str) -> Vec<Arc<Pod>> {
        self.pods.state_filter(|pod| is_of(pod, namespace, service))
    }
}

fn is_of<K: ResourceExt>(object: &K, namespace: &str, service: &str) -> bool {
    object.namespace().as_deref() == Some(namespace)
        && object.labels().get(MICROSERVICE).is_some_and(|found| found == service)
}

async fn touch<K: ResourceExt>(services: &Queue<Microservice>, seen: Seen<K>) {
    let (Seen::There(object) | Seen::Gone(object)) = seen;
    if let (Some(namespace), Some(service)) = (object.namespace(), object.labels().get(MICROSERVICE)) {
        services.add(ObjectRef::new(service).within(&namespace)).await;
    }
}
