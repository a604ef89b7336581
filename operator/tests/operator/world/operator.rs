//! Operators under test: the shared one, and others beside it.

use std::process::Stdio;
use std::sync::atomic::Ordering;

use clap::Parser;
use murmur_operator::settings::{Flags, Settings};
use murmur_test_support::broker::free_port;
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};

use super::{PATIENCE, SIDECAR_IMAGE, SYSTEM, World};

/// A running `murmur-operator`.
pub struct Operator {
    child: Child,
    port: u16,
}

impl World {
    /// Starts the shared operator unless it runs.
    pub(super) async fn ensure_operator(&self) -> anyhow::Result<()> {
        let mut operator = self.operator.lock().await;
        if operator.is_none() {
            *operator = Some(self.start_operator(&self.new_lease()).await?);
        }
        Ok(())
    }

    /// A lease that nobody holds: one that was killed does not give its back.
    pub fn new_lease(&self) -> String {
        format!("murmur-operator-{}", self.leases.fetch_add(1, Ordering::Relaxed))
    }

    /// Starts an operator beside the shared one.
    pub async fn start_operator(&self, lease: &str) -> anyhow::Result<Operator> {
        self.start_operator_with(lease, SIDECAR_IMAGE, &[]).await
    }

    /// The same with another sidecar and more flags.
    pub async fn start_operator_with(
        &self,
        lease: &str,
        image: &str,
        more: &[&str],
    ) -> anyhow::Result<Operator> {
        let port = free_port()?;
        let log = std::fs::File::options().append(true).open(self.log.path())?;
        let child = Command::new(env!("CARGO_BIN_EXE_murmur-operator"))
            .env("KUBECONFIG", self.kubeconfig.path())
            .args(flags(&self.nats_url))
            .args(["--sidecar-image", image])
            .args(more)
            .args(["--lease-name", lease, "--lease-seconds", "3", "--identity", &format!("operator-{port}")])
            .args(["--listen", &format!("127.0.0.1:{port}"), "--log-level", "info,murmur_operator=debug"])
            .stdout(Stdio::from(log.try_clone()?))
            .stderr(Stdio::from(log))
            .kill_on_drop(true)
            .spawn()?;
        Ok(Operator { child, port })
    }

    /// Kills the shared operator without a warning.
    pub async fn kill_operator(&self) -> anyhow::Result<()> {
        if let Some(mut operator) = self.operator.lock().await.take() {
            operator.child.kill().await?;
        }
        Ok(())
    }

    /// Starts the shared operator again.
    pub async fn restart_operator(&self) -> anyhow::Result<()> {
        self.ensure_operator().await
    }

    /// What the shared operator counts.
    pub async fn metrics(&self) -> anyhow::Result<String> {
        let operator = self.operator.lock().await;
        let operator = operator.as_ref().ok_or_else(|| anyhow::anyhow!("no operator runs"))?;
        Ok(operator.get("/metrics").await?.1)
    }
}

impl Operator {
    /// Asks it to stop; returns its exit code.
    pub async fn stop(mut self) -> anyhow::Result<Option<i32>> {
        let id = self.child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        kill_process(id.ok_or_else(|| anyhow::anyhow!("it has ended"))?, Signal::TERM)?;
        Ok(tokio::time::timeout(PATIENCE, self.child.wait()).await??.code())
    }

    /// What it serves at a path: the status line's code and the body.
    pub async fn get(&self, path: &str) -> anyhow::Result<(u16, String)> {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", self.port)).await?;
        let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        let code = answer.split(' ').nth(1).unwrap_or_default().parse()?;
        let (_, body) = answer.split_once("\r\n\r\n").unwrap_or_default();
        Ok((code, body.to_owned()))
    }
}

fn flags(nats_url: &str) -> [String; 4] {
    ["--namespace", SYSTEM, "--nats-url", nats_url].map(str::to_owned)
}

/// The settings of an operator of this broker.
pub(super) fn settings(nats_url: &str) -> anyhow::Result<Settings> {
    let flags = Flags::try_parse_from(
        ["test", "--sidecar-image", SIDECAR_IMAGE].map(str::to_owned).into_iter().chain(flags(nats_url)),
    )?;
    Ok(Settings::parse(flags)?)
}
