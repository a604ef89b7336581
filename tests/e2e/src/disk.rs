//! A small disk of a test's own, which can be filled: the memory of a pod, as a volume of the type `local`.

use anyhow::{Context, Result, ensure};
use http::{Method, StatusCode};
use serde_json::json;

use crate::mesh::TestMesh;
use crate::probe::IMAGE;
use crate::wait::eventually;

/// The disk, and a pod that fills it.
pub struct Disk {
    pod: String,
    class: String,
}

impl Disk {
    /// Makes one of this size, for the first claim of its class.
    ///
    /// # Errors
    /// When the cluster refuses, or the pod does not start.
    pub async fn create(mesh: &TestMesh, name: &str, size: &str) -> Result<Self> {
        let disk = Self { pod: format!("disk-{name}"), class: format!("{}-{name}", mesh.namespace) };
        mesh.apply(
            &json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": disk.pod}, "spec": {
            "automountServiceAccountToken": false,
            "securityContext": {"runAsNonRoot": true, "runAsUser": 65532, "runAsGroup": 65532, "fsGroup": 999,
                "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{"name": "probe", "image": IMAGE, "imagePullPolicy": "IfNotPresent",
                "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
                "readinessProbe": {"httpGet": {"path": "/readyz", "port": 8080}, "periodSeconds": 1},
                "volumeMounts": [{"name": "disk", "mountPath": "/disk"}]}],
            "volumes": [{"name": "disk", "emptyDir": {"medium": "Memory", "sizeLimit": size}}]}})
            .to_string(),
        )
        .await?;
        mesh.kubectl(&["wait", "--for=condition=Ready", &format!("pod/{}", disk.pod), "--timeout=60s"])
            .await?;
        let place = "jsonpath={.metadata.uid} {.spec.nodeName}";
        let place = mesh.kubectl(&["get", "pod", &disk.pod, "-o", place]).await?;
        let (uid, node) = place.split_once(' ').context("the pod has no node")?;
        let here = json!({"key": "kubernetes.io/hostname", "operator": "In", "values": [node]});
        mesh.apply(&json!({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": disk.class}, "spec": {
            "capacity": {"storage": size}, "accessModes": ["ReadWriteOnce"],
            "persistentVolumeReclaimPolicy": "Retain", "storageClassName": disk.class,
            "local": {"path": format!("/var/lib/kubelet/pods/{uid}/volumes/kubernetes.io~empty-dir/disk")},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [here]}]}}}}).to_string())
            .await?;
        Ok(disk)
    }

    /// The storage class by which a claim gets it.
    pub fn class(&self) -> &str {
        &self.class
    }

    /// Leaves no room on it.
    ///
    /// # Errors
    /// When the pod cannot be told.
    pub async fn fill(&self, mesh: &TestMesh) -> Result<()> {
        self.tell(mesh, "full").await
    }

    /// Makes room again.
    ///
    /// # Errors
    /// When the pod cannot be told.
    pub async fn free(&self, mesh: &TestMesh) -> Result<()> {
        self.tell(mesh, "free").await
    }

    async fn tell(&self, mesh: &TestMesh, state: &str) -> Result<()> {
        eventually(&format!("{} is {state}", self.pod), std::time::Duration::from_secs(30), || async {
            let (path, body) = (format!("/disk/{state}"), bytes::Bytes::new());
            let answer =
                mesh.cluster.http(&mesh.namespace, &self.pod, 8080, Method::PUT, &path, body).await?;
            ensure!(answer.0 == StatusCode::NO_CONTENT, "{answer:?}");
            Ok(Some(()))
        })
        .await
    }

    /// Takes its volume away, once the claim goes with the namespace.
    ///
    /// # Errors
    /// What kubectl says.
    pub async fn delete(self, mesh: &TestMesh) -> Result<()> {
        mesh.kubectl(&["delete", "pv", &self.class, "--wait=false"]).await?;
        Ok(())
    }
}
