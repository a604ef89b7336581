//! Objects in the API server: applied as a user would, and what becomes of them.

use std::fmt::Debug;

use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::{Namespace, PersistentVolumeClaim, Pod};
use kube::Resource;
use kube::api::{Api, DeleteParams, ObjectMeta, Patch, PatchParams, PostParams};
use murmur_crds::{EventSubscription, Microservice};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{World, wait};

impl World {
    /// A namespace of this test's own: a mesh.
    pub async fn namespace(&self, prefix: &str) -> anyhow::Result<String> {
        let metadata = ObjectMeta { generate_name: Some(format!("{prefix}-")), ..ObjectMeta::default() };
        let namespace = Namespace { metadata, ..Namespace::default() };
        let made =
            Api::<Namespace>::all(self.client.clone()).create(&PostParams::default(), &namespace).await?;
        Ok(made.metadata.name.unwrap_or_default())
    }

    pub fn api<K>(&self, namespace: &str) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), namespace)
    }

    /// Applies a Microservice with these fields besides an image and a port.
    pub async fn microservice(
        &self,
        namespace: &str,
        name: &str,
        spec: Value,
    ) -> anyhow::Result<Microservice> {
        let mut all = json!({"image": format!("{name}:dev"), "port": 8080});
        merge(&mut all, spec);
        self.apply(namespace, name, "Microservice", all).await
    }

    /// Applies an EventSubscription of a service to one type.
    pub async fn subscription(
        &self,
        namespace: &str,
        name: &str,
        service: &str,
        event_type: &str,
        spec: Value,
    ) -> anyhow::Result<EventSubscription> {
        let mut all = json!({"microserviceRef": {"name": service}, "events": [{"type": event_type}],
            "deliver": {"path": "/events"}});
        merge(&mut all, spec);
        self.apply(namespace, name, "EventSubscription", all).await
    }

    async fn apply<K>(&self, namespace: &str, name: &str, kind: &str, spec: Value) -> anyhow::Result<K>
    where
        K: Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>
            + Clone
            + DeserializeOwned
            + Debug,
    {
        let object = json!({"apiVersion": "murmur.dev/v1alpha1", "kind": kind,
            "metadata": {"name": name, "namespace": namespace}, "spec": spec});
        let parameters = PatchParams::apply("test").force();
        Ok(self.api::<K>(namespace).patch(name, &parameters, &Patch::Apply(&object)).await?)
    }

    /// Removes an object and waits until it is gone.
    pub async fn delete<K>(&self, namespace: &str, name: &str) -> anyhow::Result<()>
    where
        K: Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>
            + Clone
            + DeserializeOwned
            + Debug,
    {
        self.api::<K>(namespace).delete(name, &DeleteParams::background()).await?;
        wait("it is gone", || async {
            Ok(self.api::<K>(namespace).get_opt(name).await?.is_none().then_some(()))
        })
        .await
    }

    /// Does what the Deployment's controller and a kubelet would: all pods are there.
    pub async fn pods_become_ready(&self, namespace: &str, name: &str) -> anyhow::Result<()> {
        let api = self.api::<Deployment>(namespace);
        let deployment = wait("the Deployment is there", || async { Ok(api.get_opt(name).await?) }).await?;
        let replicas = deployment.spec.and_then(|spec| spec.replicas).unwrap_or(1);
        let status = json!({"status": {"observedGeneration": deployment.metadata.generation,
            "replicas": replicas, "updatedReplicas": replicas, "readyReplicas": replicas,
            "availableReplicas": replicas,
            "conditions": [{"type": "Available", "status": "True", "reason": "MinimumReplicasAvailable"}]}});
        api.patch_status(name, &PatchParams::default(), &Patch::Merge(&status)).await?;
        Ok(())
    }

    /// Does what a provisioner would: the claim has a volume of this size.
    pub async fn claim_is_bound(&self, namespace: &str, name: &str, size: &str) -> anyhow::Result<()> {
        let claims = self.api::<PersistentVolumeClaim>(namespace);
        wait("the claim is there", || async { Ok(claims.get_opt(name).await?) }).await?;
        let status = json!({"status": {"phase": "Bound", "capacity": {"storage": size}}});
        claims.patch_status(name, &PatchParams::default(), &Patch::Merge(&status)).await?;
        Ok(())
    }

    /// Does what the StatefulSet's controller and a kubelet would: the server's pod is there, and answers or not.
    pub async fn server_is(&self, namespace: &str, service: &str, ready: bool) -> anyhow::Result<()> {
        let (pods, name) = (self.api::<Pod>(namespace), format!("{service}-db-0"));
        if pods.get_opt(&name).await?.is_none() {
            let sets = self.api::<StatefulSet>(namespace);
            let set = format!("{service}-db");
            let set = wait("the StatefulSet is there", || async { Ok(sets.get_opt(&set).await?) }).await?;
            let template = serde_json::to_value(set.spec.unwrap_or_default().template)?;
            let spec = json!({"containers": template["spec"]["containers"], "volumes": template["spec"]["volumes"],
                "automountServiceAccountToken": false, "serviceAccountName": template["spec"]["serviceAccountName"]});
            let labels = &template["metadata"]["labels"];
            let pod =
                serde_json::from_value(json!({"metadata": {"name": name, "labels": labels}, "spec": spec}))?;
            pods.create(&PostParams::default(), &pod).await?;
        }
        let container = json!({"name": "database", "image": "", "imageID": "", "restartCount": 0, "ready": ready,
            "started": true, "state": {"running": {}}});
        let status = json!({"status": {"phase": "Running", "containerStatuses": [container]}});
        pods.patch_status(&name, &PatchParams::default(), &Patch::Merge(&status)).await?;
        Ok(())
    }

    /// Waits for a condition of a Microservice; returns its reason and message.
    pub async fn condition(
        &self,
        namespace: &str,
        name: &str,
        kind: &str,
        status: &str,
    ) -> anyhow::Result<(String, String)> {
        self.condition_of::<Microservice>(namespace, name, kind, status).await
    }

    /// Waits for a condition of an object; returns its reason and message.
    pub async fn condition_of<K>(
        &self,
        namespace: &str,
        name: &str,
        kind: &str,
        status: &str,
    ) -> anyhow::Result<(String, String)>
    where
        K: Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>
            + Clone
            + DeserializeOwned
            + serde::Serialize
            + Debug,
    {
        let api = self.api::<K>(namespace);
        let what = format!("{name} has the condition {kind} {status}");
        let found = wait(&what, || async {
            let object = serde_json::to_value(api.get(name).await?)?;
            let found = condition(&object, kind).filter(|condition| condition["status"] == status);
            let current = object["metadata"]["generation"].clone();
            Ok(found.filter(|found| found["observedGeneration"] == current))
        })
        .await?;
        let text = |field: &str| found[field].as_str().unwrap_or_default().to_owned();
        Ok((text("reason"), text("message")))
    }
}

/// A condition in an object's JSON.
pub fn condition(object: &Value, kind: &str) -> Option<Value> {
    let conditions = object["status"]["conditions"].as_array()?;
    conditions.iter().find(|condition| condition["type"] == kind).cloned()
}

pub fn named(name: &str) -> ObjectMeta {
    ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() }
}

fn merge(into: &mut Value, from: Value) {
    if let (Some(into), Value::Object(from)) = (into.as_object_mut(), from) {
        into.extend(from);
        into.retain(|_, value| !value.is_null());
    }
}
