//! The way to the cluster: its API, and HTTP to a port of a pod.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ListParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

use crate::command;

/// The namespace that Murmur is installed in.
pub const SYSTEM: &str = "murmur-system";

/// A cluster with Murmur installed.
#[derive(Clone)]
pub struct Cluster {
    /// A client of its API.
    pub client: Client,
}

impl Cluster {
    /// Connects by the kubeconfig under test.
    ///
    /// # Errors
    /// When there is none, or it cannot be used.
    pub async fn connect() -> Result<Self> {
        let kubeconfig = Kubeconfig::read_from(command::kubeconfig()?)?;
        let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
        Ok(Self { client: Client::try_from(config)? })
    }

    /// The pods of a namespace with these labels that are not being deleted.
    ///
    /// # Errors
    /// When the API cannot be asked.
    pub async fn pods(&self, namespace: &str, labels: &str) -> Result<Vec<Pod>> {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        let pods = api.list(&ListParams::default().labels(labels)).await?;
        Ok(pods.items.into_iter().filter(|pod| pod.metadata.deletion_timestamp.is_none()).collect())
    }

    /// One HTTP request to a port of a pod.
    ///
    /// # Errors
    /// When the port cannot be reached, or does not answer within 20 s.
    pub async fn http(
        &self,
        namespace: &str,
        pod: &str,
        port: u16,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<(StatusCode, Bytes)> {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        let exchange = async {
            let mut forward = api.portforward(pod, &[port]).await?;
            let stream = forward.take_stream(port).context("no stream")?;
            let (mut sender, connection) =
                hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
            let driver = tokio::spawn(connection);
            let request = Request::builder()
                .method(method)
                .uri(path)
                .header("host", pod)
                .header("content-type", "application/json")
                .body(Full::new(body))?;
            let response = sender.send_request(request).await?;
            let status = response.status();
            let body = response.into_body().collect().await?.to_bytes();
            driver.abort();
            forward.abort();
            anyhow::Ok((status, body))
        };
        match tokio::time::timeout(Duration::from_secs(20), exchange).await {
            Ok(answer) => answer.with_context(|| format!("HTTP to {namespace}/{pod}:{port}{path}")),
            Err(_) => bail!("{namespace}/{pod}:{port}{path} did not answer within 20 s"),
        }
    }
}
