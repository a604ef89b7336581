//! A Kubernetes object, ready for server-side apply.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Secret, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::Resource;
use kube::core::ApiResource;
use serde::Serialize;
use serde_json::Value;

/// An object that should be in the cluster, with exactly the fields that
/// Murmur wants to own.
#[derive(Debug, Clone, PartialEq)]
pub struct Object {
    /// Its kind.
    pub resource: ApiResource,
    /// Its name in the namespace of the Microservice.
    pub name: String,
    /// The object itself, to be applied as it is; apiVersion, kind, name and
    /// namespace are in it.
    pub value: Value,
}

impl Object {
    /// Takes a typed object.
    ///
    /// # Errors
    /// When it cannot become JSON, which no type of k8s-openapi does.
    pub(crate) fn new<K>(object: &K) -> Result<Self, serde_json::Error>
    where
        K: Resource<DynamicType = ()> + Serialize,
    {
        Ok(Self {
            resource: ApiResource::erase::<K>(&()),
            name: object.meta().name.clone().unwrap_or_default(),
            value: serde_json::to_value(object)?,
        })
    }

    /// Whether it is a claim, which outlives everything but an explicit wish:
    /// one that is there without our label is not ours, and none is ever pruned.
    pub fn is_claim(&self) -> bool {
        self.resource.kind == "PersistentVolumeClaim"
    }
}

/// Every kind that a Microservice owns and whose objects are deleted when they
/// are no longer planned. Claims are not among them.
pub fn prunable() -> [ApiResource; 7] {
    [
        ApiResource::erase::<Deployment>(&()),
        ApiResource::erase::<Service>(&()),
        ApiResource::erase::<ServiceAccount>(&()),
        ApiResource::erase::<NetworkPolicy>(&()),
        ApiResource::erase::<PodDisruptionBudget>(&()),
        ApiResource::erase::<ConfigMap>(&()),
        ApiResource::erase::<Secret>(&()),
    ]
}

/// The kind of a service's claim.
pub fn claim() -> ApiResource {
    ApiResource::erase::<PersistentVolumeClaim>(&())
}
