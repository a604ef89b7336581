//! The test bed: API server, broker, the operator, and a stand-in for what
//! makes pods: Deployments are told to be available.

use std::io::BufRead;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use futures::TryStreamExt;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::api::{Api, ListParams, Patch, PatchParams, PostParams};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Client, ResourceExt};
use murmur_crds::Microservice;
use murmur_test_apiserver::{Options, TestApiServer, tool};
use murmur_test_support::Broker;
use murmur_test_support::broker::free_port;
use serde_json::{Value, json};
use tokio::process::{Child, Command};

/// The operator's own namespace.
const SYSTEM: &str = "murmur-system";
/// Whom the benchmark's own requests are made as, so that the audit log tells
/// them from the operator's.
const OURSELVES: &str = "benchmark";

/// All of it, ended when dropped.
pub struct Bed {
    server: TestApiServer,
    _broker: Broker,
    operator: Child,
    deployments: tokio::task::JoinHandle<()>,
    /// A client that acts as the benchmark.
    pub client: Client,
}

impl Bed {
    /// Starts everything and waits until the operator is there.
    ///
    /// # Errors
    /// When something does not come up.
    pub async fn start(operator: &Path) -> Result<Self> {
        let server = TestApiServer::start_with(&Options { audit: true, ..Options::default() }).await?;
        let mut config = server.config().await?;
        config.auth_info.impersonate = Some(OURSELVES.to_owned());
        config.auth_info.impersonate_groups = Some(vec!["system:masters".to_owned()]);
        let client = Client::try_from(config)?;
        let output = Command::new(tool("kubectl")?)
            .args(["apply", "--server-side", "-f", "crds/"])
            .env("KUBECONFIG", server.kubeconfig())
            .output()
            .await?;
        ensure!(output.status.success(), "kubectl: {}", String::from_utf8_lossy(&output.stderr));
        for name in [SYSTEM, super::NAMESPACE, "bare"] {
            let namespace: Namespace = serde_json::from_value(json!({"metadata": {"name": name}}))?;
            Api::all(client.clone()).create(&PostParams::default(), &namespace).await?;
        }
        let port = free_port()?;
        let operator = Command::new(operator)
            .env("KUBECONFIG", server.kubeconfig())
            .env("POD_NAMESPACE", SYSTEM)
            .env("POD_NAME", "operator-0")
            .env("MURMUR_NATS_URL", format!("nats://127.0.0.1:{port}"))
            .env("MURMUR_SIDECAR_IMAGE", "murmur/sidecar:bench")
            .env("MURMUR_LISTEN", format!("127.0.0.1:{}", free_port()?))
            .env("MURMUR_LOG_LEVEL", "warn")
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("could not start {}", operator.display()))?;
        let broker = broker(&client, port).await?;
        let deployments = tokio::spawn(run_deployments(client.clone()));
        Ok(Self { server, _broker: broker, operator, deployments, client })
    }

    /// The operator's process id.
    ///
    /// # Errors
    /// When it has ended.
    pub fn operator(&self) -> Result<i32> {
        Ok(i32::try_from(self.operator.id().context("the operator has ended")?)?)
    }

    /// How many requests the operator has made so far.
    ///
    /// # Errors
    /// When the audit log cannot be read.
    pub fn requests_of_the_operator(&self) -> Result<usize> {
        let log = std::io::BufReader::new(std::fs::File::open(self.server.audit_log())?);
        let mut count = 0;
        for line in log.lines() {
            let event: Value = serde_json::from_str(&line?)?;
            let own = event["user"]["username"] == "admin" && event["impersonatedUser"].is_null();
            // kubectl has applied the resource types as the same user.
            let kubectl = event["userAgent"].as_str().is_some_and(|agent| agent.starts_with("kubectl"));
            count += usize::from(own && !kubectl);
        }
        Ok(count)
    }

    /// Waits until this many Microservices are Ready.
    ///
    /// # Errors
    /// When they are not within `limit`.
    pub async fn all_ready(&self, namespace: &str, wanted: usize, limit: Duration) -> Result<()> {
        let api: Api<Microservice> = Api::namespaced(self.client.clone(), namespace);
        let began = Instant::now();
        loop {
            let list = api.list(&ListParams::default()).await?;
            let ready = list.items.iter().filter(|service| is_ready(service)).count();
            if ready == wanted {
                return Ok(());
            }
            if began.elapsed() > limit {
                bail!("only {ready} of {wanted} Microservices are Ready after {limit:?}");
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        self.deployments.abort();
    }
}

fn is_ready(service: &Microservice) -> bool {
    let status = serde_json::to_value(&service.status).unwrap_or_default();
    let conditions = status["conditions"].as_array().cloned().unwrap_or_default();
    conditions.iter().any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

/// A broker that trusts whom the operator has made.
async fn broker(client: &Client, port: u16) -> Result<Broker> {
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), SYSTEM);
    let began = Instant::now();
    let auth = loop {
        if let Some(map) = api.get_opt("murmur-nats-auth").await? {
            break map.data.and_then(|mut data| data.remove("auth.conf")).context("no auth.conf")?;
        }
        ensure!(began.elapsed() < Duration::from_secs(30), "the operator has made no trust within 30 s");
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    let folder = std::env::temp_dir().join(format!("murmur-bench-jwt-{port}"));
    std::fs::create_dir_all(&folder)?;
    let auth = auth.replace("/data/jwt", &folder.display().to_string());
    Broker::start_on(port, "sync_interval: always", &auth).await
}

/// Tells each Deployment that comes that all its replicas are available.
async fn run_deployments(client: Client) {
    let all: Api<Deployment> = Api::namespaced(client.clone(), super::NAMESPACE);
    let told = watcher(all.clone(), watcher::Config::default())
        .default_backoff()
        .applied_objects()
        .try_for_each_concurrent(super::AT_ONCE, |deployment| {
            let all = all.clone();
            async move {
                let generation = deployment.metadata.generation;
                let status = deployment.status.as_ref();
                if status.and_then(|status| status.observed_generation) == generation {
                    return Ok(());
                }
                let replicas = deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
                let now = "2026-11-21T09:00:00Z";
                let patch = json!({"status": {
                    "observedGeneration": generation, "replicas": replicas, "updatedReplicas": replicas,
                    "readyReplicas": replicas, "availableReplicas": replicas,
                    "conditions": [
                        {"type": "Available", "status": "True", "reason": "MinimumReplicasAvailable",
                         "lastUpdateTime": now, "lastTransitionTime": now},
                        {"type": "Progressing", "status": "True", "reason": "NewReplicaSetAvailable",
                         "lastUpdateTime": now, "lastTransitionTime": now},
                    ],
                }});
                // One that has changed meanwhile comes again.
                let _ = all
                    .patch_status(&deployment.name_any(), &PatchParams::default(), &Patch::Merge(patch))
                    .await;
                Ok(())
            }
        })
        .await;
    if let Err(error) = told {
        eprintln!("the watch of Deployments ended: {error}");
    }
}
