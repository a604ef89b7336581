//! Objects brought to what is planned by server-side apply: only when a cached
//! read shows a difference, and never another's.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::ResourceExt;
use kube::api::{Api, DynamicObject, Patch, PatchParams, PostParams};
use murmur_crds::quantity::parse_core;
use murmur_plan::Object;
use murmur_plan::labels::MANAGER;
use serde_json::Value;

use super::cache::Cache;
use super::ownership::Owner;
use crate::compare::{digest, missing};
use crate::metrics::Metrics;

/// The annotation that holds the digest of what was planned: it shows a field
/// that is no longer planned, which comparing what is planned cannot.
const PLAN_HASH: &str = "murmur.dev/plan-hash";

/// Why an object is not as planned.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// Someone else's object has the name.
    #[error("{kind} {name} is there and is another's: remove or rename it, or rename what needs that name")]
    NameTaken {
        /// Its kind.
        kind: String,
        /// Its name.
        name: String,
    },
    /// A Microservice that had this name before, and was deleted, has left an object of the name.
    #[error(
        "{kind} {name} is left of the deleted Microservice of this name: it goes, and then the new one is made"
    )]
    LeftOver {
        /// Its kind.
        kind: String,
        /// Its name.
        name: String,
    },
    /// The namespace is being deleted: nothing can be made in it.
    #[error("the namespace is being deleted")]
    NamespaceTerminating,
    /// A claim that is there cannot be made larger.
    #[error("the claim {name} keeps its size: {message}")]
    CannotGrow {
        /// Its name.
        name: String,
        /// What the API server said.
        message: String,
    },
    /// The API server refused or was away.
    #[error("{kind} {name} could not be {done}: {message}")]
    Refused {
        /// Its kind.
        kind: String,
        /// Its name.
        name: String,
        /// What was tried.
        done: &'static str,
        /// What the API server said.
        message: String,
    },
}

/// What the API server said, without what changes from one try to the next.
pub(crate) fn message(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        other => other.to_string(),
    }
}

/// Applies objects and remembers what came of it.
pub struct Applier {
    client: kube::Client,
    cache: Arc<Cache>,
    metrics: Metrics,
    /// What the API server made of a plan, by [`key`]: the digests of the plan
    /// and of the object. It may write a value in another way (`1000m` as
    /// `1`), which is no difference.
    settled: Mutex<HashMap<String, (String, String)>>,
}

impl Applier {
    /// Nothing applied yet.
    pub fn new(client: kube::Client, cache: Arc<Cache>, metrics: Metrics) -> Self {
        Self { client, cache, metrics, settled: Mutex::default() }
    }

    /// Reads what is there of `objects`: from the cache, and from the API server
    /// itself what the cache lacks (it holds only what bears our label).
    ///
    /// # Errors
    /// [`ApplyError::NameTaken`] or [`ApplyError::LeftOver`] for the first that is not the owner's.
    pub async fn look(
        &self,
        owner: &Owner,
        objects: &[Object],
    ) -> Result<Vec<Option<Arc<DynamicObject>>>, ApplyError> {
        let mut found = Vec::with_capacity(objects.len());
        for object in objects {
            let mut live = self.cache.get(&object.resource, &owner.namespace, &object.name);
            // Whether a cached object is ours may be old news, too.
            if !live.as_ref().is_some_and(|live| owner.owns(&live.metadata, object.is_kept())) {
                live = self.read(owner, object).await?.map(Arc::new);
            }
            if let Some(live) = &live {
                owner.must_own(&object.resource, &object.name, &live.metadata, object.is_kept())?;
            }
            found.push(live);
        }
        Ok(found)
    }

    /// Applies an object if what is there differs; `live` is what
    /// [`look`](Self::look) found. Returns the object as it is then.
    ///
    /// # Errors
    /// When the API server refuses.
    pub async fn apply(
        &self,
        owner: &Owner,
        object: &Object,
        live: Option<Arc<DynamicObject>>,
    ) -> Result<Arc<DynamicObject>, ApplyError> {
        let mut planned = object.value.clone();
        if let Some(live) = &live
            && object.is_claim()
        {
            keep_storage(&mut planned, &live.data);
        }
        let hash = digest(&planned);
        planned["metadata"]["annotations"][PLAN_HASH] = Value::from(hash.clone());
        if let Some(live) = &live {
            let as_json = serde_json::to_value(&**live).unwrap_or_default();
            let Some(difference) = missing(&planned, &as_json) else { return Ok(live.clone()) };
            let settled = self.settled.lock().unwrap_or_else(PoisonError::into_inner);
            if settled
                .get(&key(owner, object))
                .is_some_and(|(plan, object)| *plan == hash && *object == content(&as_json))
            {
                return Ok(live.clone());
            }
            drop(settled);
            tracing::info!(
                kind = object.resource.kind,
                namespace = owner.namespace,
                name = object.name,
                difference,
                "putting an object right"
            );
            // Only this very object, not one of its name that came since.
            planned["metadata"]["uid"] = Value::from(live.uid());
        }
        if live.is_none() && object.resource.kind == "Secret" {
            return self.create(owner, object, planned).await;
        }
        // A new object is not forced: should someone else make one of its name
        // at this moment, theirs conflicts and stays as it is.
        let parameters = PatchParams { force: live.is_some(), ..PatchParams::apply(MANAGER) };
        let applied =
            self.api(owner, object).patch(&object.name, &parameters, &Patch::Apply(&planned)).await.map_err(
                |error| match (&error, &live) {
                    // All else about a claim that is there is ours to change.
                    (kube::Error::Api(status), Some(_))
                        if object.is_claim() && [403, 422].contains(&status.code) =>
                    {
                        ApplyError::CannotGrow { name: object.name.clone(), message: message(&error) }
                    }
                    _ => refused(object, "applied", &error),
                },
            )?;
        self.metrics.wrote(&object.resource.kind, "apply");
        let mut as_json = serde_json::to_value(&applied).unwrap_or_default();
        if let Some(metadata) = as_json["metadata"].as_object_mut() {
            metadata.remove("managedFields");
        }
        let entry = (hash, content(&as_json));
        self.settled.lock().unwrap_or_else(PoisonError::into_inner).insert(key(owner, object), entry);
        Ok(Arc::new(applied))
    }

    /// Creates a Secret, whose keys are made once: of two makers one is refused.
    async fn create(
        &self,
        owner: &Owner,
        object: &Object,
        planned: Value,
    ) -> Result<Arc<DynamicObject>, ApplyError> {
        let new: DynamicObject = serde_json::from_value(planned).map_err(|error| ApplyError::Refused {
            kind: object.resource.kind.clone(),
            name: object.name.clone(),
            done: "created",
            message: error.to_string(),
        })?;
        let parameters = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
        let created = self.api(owner, object).create(&parameters, &new).await;
        self.metrics.wrote(&object.resource.kind, "create");
        created.map(Arc::new).map_err(|error| refused(object, "created", &error))
    }

    /// Forgets what came of a service's objects.
    pub fn forget(&self, namespace: &str, service: &str) {
        let prefix = format!("{namespace}/{service}/");
        let mut settled = self.settled.lock().unwrap_or_else(PoisonError::into_inner);
        settled.retain(|key, _| !key.starts_with(&prefix));
    }

    async fn read(&self, owner: &Owner, object: &Object) -> Result<Option<DynamicObject>, ApplyError> {
        let read = self.api(owner, object).get_opt(&object.name).await;
        read.map_err(|error| refused(object, "read", &error))
    }

    fn api(&self, owner: &Owner, object: &Object) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), &owner.namespace, &object.resource)
    }
}

/// What names an object among those of all services.
fn key(owner: &Owner, object: &Object) -> String {
    format!("{}/{}/{}/{}", owner.namespace, owner.service, object.resource.kind, object.name)
}

fn refused(object: &Object, done: &'static str, error: &kube::Error) -> ApplyError {
    if let kube::Error::Api(status) = error
        && let Some(details) = &status.details
        && details.causes.iter().any(|cause| cause.reason == "NamespaceTerminating")
    {
        return ApplyError::NamespaceTerminating;
    }
    let message = message(error);
    ApplyError::Refused { kind: object.resource.kind.clone(), name: object.name.clone(), done, message }
}

/// The digest of an object without its status and what each write changes.
fn content(object: &Value) -> String {
    let mut object = object.clone();
    if let Some(object) = object.as_object_mut() {
        object.remove("status");
        if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
            for field in ["resourceVersion", "managedFields", "generation"] {
                metadata.remove(field);
            }
        }
    }
    digest(&object)
}

/// A claim that is there keeps its class, which cannot change, and its size
/// when it is larger than planned: storage does not shrink.
fn keep_storage(planned: &mut Value, live: &Value) {
    let class = &live["spec"]["storageClassName"];
    if !planned["spec"]["storageClassName"].is_null() && !class.is_null() {
        planned["spec"]["storageClassName"] = class.clone();
    }
    let bytes = |value: &Value| {
        let text = value["spec"]["resources"]["requests"]["storage"].as_str()?;
        parse_core(&Quantity(text.to_owned())).ok()
    };
    if bytes(live) > bytes(planned) {
        planned["spec"]["resources"]["requests"]["storage"] =
            live["spec"]["resources"]["requests"]["storage"].clone();
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_claim_that_is_there_keeps_its_class_and_does_not_shrink() {
        let claim = |class: &str, size: &str| json!({"spec": {"storageClassName": class, "resources": {"requests": {"storage": size}}}});
        let mut planned = claim("new", "1Gi");
        keep_storage(&mut planned, &claim("old", "2Gi"));
        assert_eq!(planned, claim("old", "2Gi"));
        let mut planned = claim("old", "3Gi");
        keep_storage(&mut planned, &claim("old", "2Gi"));
        assert_eq!(planned, claim("old", "3Gi"));
    }
}
