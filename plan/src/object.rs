//! A Kubernetes object, ready for server-side apply.

use k8s_openapi::ByteString;
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::batch::v1::CronJob;
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Secret, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::Resource;
use kube::core::ApiResource;
use serde::Serialize;
use serde_json::{Map, Value, json};

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

    /// Whether it outlives its Microservice: a claim, or the credentials of the data on one.
    pub fn is_kept(&self) -> bool {
        self.is_claim() || (self.resource.kind == "Secret" && self.name.ends_with("-db"))
    }
}

/// A Secret.
pub(crate) fn secret(
    name: String,
    metadata: &Value,
    kind: &str,
    texts: impl IntoIterator<Item = (&'static str, String)>,
) -> Object {
    let data: Map<String, Value> =
        texts.into_iter().map(|(key, text)| (key.to_owned(), json!(ByteString(text.into_bytes())))).collect();
    let value =
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": kind, "data": data});
    Object { resource: ApiResource::erase::<Secret>(&()), name, value }
}

/// An object as JSON, without its apiVersion and kind.
pub(crate) fn of<K>(name: String, mut value: Value) -> Object
where
    K: Resource<DynamicType = ()>,
{
    let resource = ApiResource::erase::<K>(&());
    value["apiVersion"] = json!(resource.api_version);
    value["kind"] = json!(resource.kind);
    Object { resource, name, value }
}

/// Every kind that a Microservice owns and whose objects are deleted when they
/// are no longer planned. Claims are not among them.
pub fn prunable() -> [ApiResource; 9] {
    [
        ApiResource::erase::<Deployment>(&()),
        ApiResource::erase::<StatefulSet>(&()),
        ApiResource::erase::<CronJob>(&()),
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
