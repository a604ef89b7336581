//! A mesh of a test's own: a namespace, and what the test applies to it.

use std::time::Duration;

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Api, DeleteParams, DynamicObject, PostParams};
use kube::core::GroupVersionKind;
use kube::discovery::ApiResource;
use kube::runtime::wait::await_condition;
use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::command;
use crate::probe::Probe;

/// How long a service may take until it is ready on a busy machine.
pub const READY: Duration = Duration::from_secs(120);

/// A namespace that only one test uses.
pub struct TestMesh {
    /// The cluster.
    pub cluster: Cluster,
    /// The namespace's name.
    pub namespace: String,
}

impl TestMesh {
    /// Makes a namespace whose name begins with `e2e-<name>`, under Pod
    /// Security `restricted`.
    ///
    /// # Errors
    /// When the cluster refuses.
    pub async fn create(name: &str) -> Result<Self> {
        Self::under(name, "restricted").await
    }

    /// Makes one under no Pod Security, for what gets at the node itself.
    ///
    /// # Errors
    /// When the cluster refuses.
    pub async fn unrestricted(name: &str) -> Result<Self> {
        Self::under(name, "privileged").await
    }

    async fn under(name: &str, security: &str) -> Result<Self> {
        let cluster = Cluster::connect().await?;
        let namespace = format!("e2e-{name}-{}", &uuid::Uuid::new_v4().simple().to_string()[..6]);
        let object: Namespace = serde_json::from_value(json!({"metadata": {
            "name": namespace,
            "labels": {"pod-security.kubernetes.io/enforce": security, "murmur.dev/e2e": "true"},
        }}))?;
        Api::all(cluster.client.clone()).create(&PostParams::default(), &object).await?;
        Ok(Self { cluster, namespace })
    }

    /// Applies YAML, as a user does.
    ///
    /// # Errors
    /// What kubectl says.
    pub async fn apply(&self, yaml: &str) -> Result<()> {
        command::run("kubectl", &["apply", "-n", &self.namespace, "-f", "-"], yaml).await?;
        Ok(())
    }

    /// Runs kubectl in this namespace.
    ///
    /// # Errors
    /// What kubectl says.
    pub async fn kubectl(&self, args: &[&str]) -> Result<String> {
        command::run("kubectl", &[&["-n", &self.namespace], args].concat(), "").await
    }

    /// Waits until a Job is complete; gives what it printed.
    ///
    /// # Errors
    /// When it is not in time, and its log is in the error.
    pub async fn complete(&self, job: &str) -> Result<String> {
        let job = format!("job/{job}");
        let waited = self.kubectl(&["wait", "--for=condition=complete", &job, "--timeout=120s"]).await;
        let log = self.kubectl(&["logs", &job]).await;
        waited.with_context(|| format!("{job} is not complete, its log: {log:?}"))?;
        log
    }

    /// Runs murmur on this mesh from here, as a user does: by the kubeconfig and a port-forward.
    /// What it prints is read as JSON, one value or one on each line.
    ///
    /// # Errors
    /// What murmur says.
    pub async fn murmur(&self, args: &[&str]) -> Result<Vec<Value>> {
        let more = ["-n", &self.namespace, "-o", "json"];
        let said = command::run("murmur", &[args, &more].concat(), "").await?;
        let values = serde_json::Deserializer::from_str(&said).into_iter().collect::<Result<_, _>>();
        values.with_context(|| format!("murmur {} said: {said}", args.join(" ")))
    }

    /// The API of one of Murmur's kinds, as untyped objects: what a user sees.
    pub fn api(&self, kind: &str) -> Api<DynamicObject> {
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("murmur.dev", "v1alpha1", kind));
        Api::namespaced_with(self.cluster.client.clone(), &self.namespace, &resource)
    }

    /// A condition of an object: its status, reason and message.
    ///
    /// # Errors
    /// When the object is not there.
    pub async fn condition(&self, kind: &str, name: &str, condition: &str) -> Result<Option<Condition>> {
        Ok(Condition::of(&self.api(kind).get(name).await?, condition))
    }

    /// Waits until a condition has a status; gives it.
    ///
    /// # Errors
    /// When it has not within `limit`.
    pub async fn wait_for(
        &self,
        kind: &str,
        name: &str,
        condition: &str,
        status: &str,
        limit: Duration,
    ) -> Result<Condition> {
        self.wait_until((kind, name, condition), limit, |found| found.status == status)
            .await
            .with_context(|| format!("{condition} is not {status}"))
    }

    /// Waits until a condition, by its object's kind and name and its own type, is as it is wanted; gives it.
    ///
    /// # Errors
    /// When it is not within `limit`.
    pub async fn wait_until(
        &self,
        (kind, name, condition): (&str, &str, &str),
        limit: Duration,
        is_wanted: impl Fn(&Condition) -> bool + Clone,
    ) -> Result<Condition> {
        let found = |object: Option<&DynamicObject>| {
            object.and_then(|object| Condition::of(object, condition)).filter(is_wanted.clone())
        };
        let seen =
            await_condition(self.api(kind), name, |object: Option<&DynamicObject>| found(object).is_some());
        match tokio::time::timeout(limit, seen).await {
            Ok(object) => found(object?.as_ref()).context("the condition is gone again"),
            Err(_) => {
                let last = self.condition(kind, name, condition).await;
                anyhow::bail!("{kind} {name}: {condition} not as wanted within {limit:?} (last: {last:?})")
            }
        }
    }

    /// Waits until a service is ready; gives the way to its probe.
    ///
    /// # Errors
    /// When it is not in time.
    pub async fn ready(&self, service: &str) -> Result<Probe> {
        self.wait_for("Microservice", service, "Ready", "True", READY).await?;
        Ok(Probe::new(self.cluster.clone(), &self.namespace, service))
    }

    /// Deletes the namespace; called at the end of a test that passed, so that
    /// a failed one leaves its traces.
    ///
    /// # Errors
    /// When the cluster refuses.
    pub async fn delete(self) -> Result<()> {
        let api: Api<Namespace> = Api::all(self.cluster.client);
        api.delete(&self.namespace, &DeleteParams::default()).await?;
        Ok(())
    }
}

/// A condition as a user sees it.
#[derive(Debug, Clone)]
pub struct Condition {
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// Its reason, one word.
    pub reason: String,
    /// Its message, a sentence.
    pub message: String,
}

impl Condition {
    fn of(object: &DynamicObject, condition: &str) -> Option<Self> {
        let conditions = object.data.pointer("/status/conditions").and_then(Value::as_array);
        let found = conditions.into_iter().flatten().find(|found| found["type"] == condition)?;
        Some(Self {
            status: text(&found["status"]),
            reason: text(&found["reason"]),
            message: text(&found["message"]),
        })
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
