//! The sample systems in services/, applied as a user does, and asked over HTTP.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use http::{Method, StatusCode};
use serde_json::Value;

use crate::mesh::TestMesh;
use crate::probe::Probe;
use crate::wait::eventually;

/// How long a service with a database server may take until it is ready on a busy machine.
pub const READY: Duration = Duration::from_secs(240);

impl TestMesh {
    /// The YAML of a service of `shop` or `blog`, with its volume of the class to which fsGroup applies.
    ///
    /// # Errors
    /// When there is no such file.
    pub fn sample(system: &str, service: &str) -> Result<String> {
        let path = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../services"))
            .join(system)
            .join(format!("{service}.yaml"));
        let yaml = std::fs::read_to_string(&path).with_context(|| format!("no {}", path.display()))?;
        Ok(format!(
            "---\n{}",
            yaml.replace("storage: {size", "storage: {storageClassName: murmur-local, size")
                .replace("volume: {size", "volume: {storageClassName: murmur-local, size")
        ))
    }

    /// Applies these services of a sample system, and waits until all of them are ready.
    ///
    /// # Errors
    /// What kubectl says; when one is not ready in time.
    pub async fn apply_samples(&self, system: &str, services: &[&str]) -> Result<()> {
        for service in services {
            self.apply(&Self::sample(system, service)?).await?;
        }
        for service in services {
            self.wait_for("Microservice", service, "Ready", "True", READY).await?;
        }
        Ok(())
    }

    /// One request to a service, in its newest pod: the status, and the answer as JSON.
    ///
    /// # Errors
    /// When there is no pod, or it does not answer.
    pub async fn ask(&self, service: &str, method: Method, path: &str, body: Value) -> Result<(u16, Value)> {
        let (status, answer) = self.service(service).request(method, path, body).await?;
        Ok((status.as_u16(), serde_json::from_slice(&answer).unwrap_or_default()))
    }

    /// Makes a request until it is answered with this status; gives the answer.
    ///
    /// # Errors
    /// When it is not in time.
    pub async fn answers(
        &self,
        service: &str,
        (method, path, body): (Method, &str, Value),
        wanted: StatusCode,
        limit: Duration,
    ) -> Result<Value> {
        eventually(&format!("{service} answers {method} {path} with {wanted}"), limit, || async {
            let (status, answer) = self.ask(service, method.clone(), path, body.clone()).await?;
            if status == wanted.as_u16() { Ok(Some(answer)) } else { bail!("{status} {answer}") }
        })
        .await
    }

    /// Waits until a GET is answered with exactly this.
    ///
    /// # Errors
    /// When it is not in time.
    pub async fn tells(&self, service: &str, path: &str, wanted: &Value, limit: Duration) -> Result<()> {
        eventually(&format!("{service} answers {path} with {wanted}"), limit, || async {
            let (status, answer) = self.ask(service, Method::GET, path, Value::Null).await?;
            if status == 200 && answer == *wanted { Ok(Some(())) } else { bail!("{status} {answer}") }
        })
        .await
    }

    /// The way to the pods of a service.
    pub fn service(&self, name: &str) -> Probe {
        Probe::new(self.cluster.clone(), &self.namespace, name)
    }
}
