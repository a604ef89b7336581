//! The way to a probe service (see `probe/main.go`).

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http::{Method, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::wait::eventually;

/// The image of the probe.
pub const IMAGE: &str = "murmur-e2e/probe:dev";

/// One delivery that a probe recorded.
#[derive(Debug, Clone, Deserialize, PartialEq, Eq)]
pub struct Delivery {
    /// The event's id.
    pub id: String,
    /// Its type.
    #[serde(rename = "type")]
    pub event_type: String,
    /// Its partition key.
    pub key: String,
    /// Its place in the event store.
    pub sequence: u64,
    /// Which attempt this was, from 1.
    pub attempt: u32,
    /// The replay that it belongs to, or `false`.
    pub replay: String,
    /// The pod that got it.
    pub pod: String,
    /// Whether it carried the service's token.
    pub token: bool,
    /// What the probe answered.
    pub status: u16,
}

/// What the sidecar of a probe answered to a query or a call.
#[derive(Debug, Clone, Deserialize)]
pub struct Reply {
    /// The HTTP status.
    pub status: u16,
    headers: HashMap<String, String>,
    /// The body.
    pub body: String,
    /// How long it took, in milliseconds.
    pub millis: u64,
}

impl Reply {
    /// A header, whose name is written like `Murmur-Error`; empty if there is none.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    /// The body as JSON; null if it is none.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_default()
    }
}

/// What a run of the load generator saw.
#[derive(Debug, Clone, Deserialize)]
pub struct LoadResult {
    /// Whether it is still running.
    pub running: bool,
    /// The ids whose publish was answered with 200.
    pub acked: Vec<String>,
    /// How many were not.
    pub failed: usize,
    /// The first of those.
    pub failures: Vec<Value>,
}

/// A probe service.
#[derive(Clone)]
pub struct Probe {
    cluster: Cluster,
    namespace: String,
    service: String,
}

impl Probe {
    /// The probe that runs as this service.
    pub fn new(cluster: Cluster, namespace: &str, service: &str) -> Self {
        Self { cluster, namespace: namespace.to_owned(), service: service.to_owned() }
    }

    /// One request to the probe, in its newest ready pod.
    ///
    /// # Errors
    /// When there is no pod, or it does not answer.
    pub async fn request(&self, method: Method, path: &str, body: Value) -> Result<(StatusCode, Bytes)> {
        let labels = format!("murmur.dev/microservice={}", self.service);
        let mut pods = self.cluster.pods(&self.namespace, &labels).await?;
        pods.sort_by_key(|pod| pod.metadata.creation_timestamp.clone());
        let pod = pods.pop().and_then(|pod| pod.metadata.name);
        let pod = pod.with_context(|| format!("{} has no pod", self.service))?;
        let body = if body.is_null() { Bytes::new() } else { Bytes::from(body.to_string()) };
        self.cluster.http(&self.namespace, &pod, 8080, method, path, body).await
    }

    async fn expect(&self, method: Method, path: &str, body: Value, wanted: StatusCode) -> Result<Bytes> {
        let (status, answer) = self.request(method, path, body).await?;
        if status != wanted {
            bail!("{} {path}: {status} {}", self.service, String::from_utf8_lossy(&answer));
        }
        Ok(answer)
    }

    /// Publishes one event; gives the sidecar's answer as it is.
    ///
    /// # Errors
    /// When the probe cannot be reached.
    pub async fn publish(&self, event_type: &str, id: &str, key: &str) -> Result<(StatusCode, Value)> {
        let body = json!({"id": id, "type": event_type, "key": key, "size": 16});
        let (status, answer) = self.request(Method::POST, "/emit", body).await?;
        let text = String::from_utf8_lossy(&answer).into_owned();
        Ok((status, serde_json::from_slice(&answer).unwrap_or(Value::String(text))))
    }

    /// Starts a load: `count` events at `rate` a second over `keys` keys, each
    /// published by a request to `url`.
    ///
    /// # Errors
    /// When the probe refuses.
    pub async fn start_load(&self, url: &str, prefix: &str, count: u32, rate: u32, keys: u32) -> Result<()> {
        let body = json!({"url": url, "type": "Tick", "prefix": prefix, "count": count, "rate": rate, "keys": keys, "size": 200});
        self.expect(Method::POST, "/load", body, StatusCode::ACCEPTED).await?;
        Ok(())
    }

    /// What the load has seen so far.
    ///
    /// # Errors
    /// When the probe cannot be reached.
    pub async fn load(&self) -> Result<LoadResult> {
        let answer = self.expect(Method::GET, "/load", Value::Null, StatusCode::OK).await?;
        Ok(serde_json::from_slice(&answer)?)
    }

    /// Waits until the load has ended; gives its result.
    ///
    /// # Errors
    /// When it has not in time.
    pub async fn finish_load(&self, limit: Duration) -> Result<LoadResult> {
        eventually("the load ends", limit, || async {
            let result = self.load().await?;
            Ok((!result.running).then_some(result))
        })
        .await
    }

    /// All that was recorded.
    ///
    /// # Errors
    /// When the probe cannot be reached.
    pub async fn received(&self) -> Result<Vec<Delivery>> {
        let answer = self.expect(Method::GET, "/received", Value::Null, StatusCode::OK).await?;
        Ok(serde_json::from_slice(&answer)?)
    }

    /// Waits until all these ids were taken (answered with 2xx); gives all deliveries.
    ///
    /// # Errors
    /// When some are missing in the end; the error names the first.
    pub async fn receives(&self, ids: &[String], limit: Duration) -> Result<Vec<Delivery>> {
        eventually(&format!("{} receives {} events", self.service, ids.len()), limit, || async {
            let received = self.received().await?;
            let taken: std::collections::HashSet<_> = received
                .iter()
                .filter(|delivery| delivery.status < 300)
                .map(|delivery| delivery.id.as_str())
                .collect();
            let missing: Vec<_> = ids.iter().filter(|id| !taken.contains(id.as_str())).collect();
            match missing.first() {
                None => Ok(Some(received)),
                Some(first) => bail!("{} missing, the first is {first}", missing.len()),
            }
        })
        .await
    }

    /// A request to the probe's sidecar, which the probe makes.
    ///
    /// # Errors
    /// When the probe cannot be reached, or the sidecar does not answer it.
    pub async fn talk(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: &Value,
    ) -> Result<Reply> {
        let headers: HashMap<_, _> = headers.iter().copied().collect();
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let message = json!({"method": method.as_str(), "path": path, "headers": headers, "body": body});
        Ok(serde_json::from_slice(&self.expect(Method::POST, "/talk", message, StatusCode::OK).await?)?)
    }

    /// Makes the probe answer events whose id starts with `prefix` with `status`.
    ///
    /// # Errors
    /// When the probe cannot be reached.
    pub async fn answer_with(&self, prefix: &str, status: u16) -> Result<()> {
        self.answer_after("", prefix, status).await
    }

    /// Makes it answer them after a delay such as `200ms`. The prefix `query` stands for queries.
    ///
    /// # Errors
    /// When the probe cannot be reached.
    pub async fn answer_after(&self, delay: &str, prefix: &str, status: u16) -> Result<()> {
        let rules = json!([{"prefix": prefix, "status": status, "delay": delay}]);
        self.expect(Method::PUT, "/rules", rules, StatusCode::NO_CONTENT).await?;
        Ok(())
    }

    /// Opens (or closes) the port of deliveries.
    ///
    /// # Errors
    /// When the probe cannot be reached.
    pub async fn open_door(&self, open: bool) -> Result<()> {
        let path = if open { "/door/open" } else { "/door/closed" };
        self.expect(Method::PUT, path, Value::Null, StatusCode::NO_CONTENT).await?;
        Ok(())
    }
}
