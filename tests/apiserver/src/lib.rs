//! A real kube-apiserver with a real etcd, on loopback, for tests and benchmarks.
//!
//! There is no kubelet and no controller: objects are stored, checked and
//! watched as in a cluster, and nothing else happens to them. Both processes
//! end with the value, and also when the test that holds it is killed.
//!
//! ```no_run
//! # async fn example() -> anyhow::Result<()> {
//! let server = murmur_test_apiserver::TestApiServer::start().await?;
//! let client = server.client().await?;
//! # Ok(())
//! # }
//! ```

mod files;
mod process;

pub use murmur_test_support::tools::program as tool;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use kube::config::{KubeConfigOptions, Kubeconfig};
use process::Process;
use tempfile::TempDir;
use tokio::sync::Mutex;

/// How long the API server may take to be ready; it takes about five seconds.
const READY_WITHIN: Duration = Duration::from_secs(90);

/// What can be chosen.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Whether each request is written to [`TestApiServer::audit_log`].
    pub audit: bool,
    /// More arguments of kube-apiserver.
    pub arguments: Vec<String>,
}

/// A running API server. Its user is a member of `system:masters`; RBAC is on,
/// so that a test sees what another user may do by impersonating one.
#[derive(Debug)]
pub struct TestApiServer {
    // Fields are dropped in this order: the processes end before their files go.
    apiserver: Process,
    etcd: Process,
    port: u16,
    directory: TempDir,
}

impl TestApiServer {
    /// Starts one with the default options.
    ///
    /// # Errors
    /// When a binary is missing (the text says how to get it) or does not become ready.
    pub async fn start() -> anyhow::Result<Self> {
        Self::start_with(&Options::default()).await
    }

    /// Starts one.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub async fn start_with(options: &Options) -> anyhow::Result<Self> {
        let directory = tempfile::tempdir().context("no temporary folder for the API server")?;
        files::write(directory.path())?;
        let [client_port, peer_port, port] = process::free_ports()?;
        let etcd =
            Process::start("etcd", directory.path(), &files::etcd(directory.path(), client_port, peer_port))?;
        let mut arguments = files::apiserver(directory.path(), client_port, port, options.audit);
        arguments.extend(options.arguments.iter().cloned());
        let apiserver = Process::start("kube-apiserver", directory.path(), &arguments)?;
        std::fs::write(directory.path().join("kubeconfig"), files::kubeconfig(port).to_string())?;
        let server = Self { apiserver, etcd, port, directory };
        server.ready().await?;
        Ok(server)
    }

    /// The one that other tests of this process use at the same time, or a new
    /// one. It ends with the last of its holders; use a namespace per test.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub async fn shared() -> anyhow::Result<Arc<Self>> {
        static SHARED: Mutex<Weak<TestApiServer>> = Mutex::const_new(Weak::new());
        let mut shared = SHARED.lock().await;
        if let Some(server) = shared.upgrade() {
            return Ok(server);
        }
        let server = Arc::new(Self::start().await?);
        *shared = Arc::downgrade(&server);
        Ok(server)
    }

    /// Its address.
    pub fn url(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }

    /// A kubeconfig file for kubectl.
    pub fn kubeconfig(&self) -> PathBuf {
        self.directory.path().join("kubeconfig")
    }

    /// The audit log, a JSON object per line; empty unless [`Options::audit`] was set.
    pub fn audit_log(&self) -> PathBuf {
        self.directory.path().join("audit.log")
    }

    /// The process id of kube-apiserver, to measure it.
    pub fn apiserver_id(&self) -> u32 {
        self.apiserver.id()
    }

    /// The process id of etcd, to measure it.
    pub fn etcd_id(&self) -> u32 {
        self.etcd.id()
    }

    /// The configuration of a client.
    ///
    /// # Errors
    /// When the kubeconfig that was written cannot be used.
    pub async fn config(&self) -> anyhow::Result<kube::Config> {
        let kubeconfig = Kubeconfig::read_from(self.kubeconfig())?;
        Ok(kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?)
    }

    /// A client, bound to the runtime that it is made in.
    ///
    /// # Errors
    /// As [`config`](Self::config).
    pub async fn client(&self) -> anyhow::Result<kube::Client> {
        Ok(kube::Client::try_from(self.config().await?)?)
    }

    async fn ready(&self) -> anyhow::Result<()> {
        let client = self.client().await?;
        let started = Instant::now();
        loop {
            let request = http::Request::get("/readyz").body(Vec::new())?;
            let last = match client.request_text(request).await {
                Ok(_) => return Ok(()),
                Err(error) => error,
            };
            for process in [&self.etcd, &self.apiserver] {
                if !process.running() || started.elapsed() > READY_WITHIN {
                    bail!("{} ({last})", process.complaint(self.directory.path()));
                }
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

/// A path as an argument.
fn text(path: &Path) -> String {
    path.display().to_string()
}

#[cfg(test)]
mod tests;
