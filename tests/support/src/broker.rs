//! A nats-server with JetStream of a test's own.

use std::net::TcpListener;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rand::Rng;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::tools::program;

/// Where the data is, in the broker's folder.
const STORE: &str = "jetstream";
/// Ports that the kernel gives to no outgoing connection (Linux: 32768 and up):
/// while a server is down, no client that tries to reach it can be given its port.
const PORTS: Range<u16> = 10_000..32_000;

/// A running nats-server on a port of its own; killed, by its id, when dropped.
pub struct Broker {
    port: u16,
    monitor: u16,
    folder: TempDir,
    child: Option<Child>,
}

impl Broker {
    /// Starts one; `jetstream` is added to JetStream's own block (say
    /// `sync_interval: always`), `configuration` to the rest.
    ///
    /// # Errors
    /// When nats-server is missing or does not come up within 10 s.
    pub async fn start(jetstream: &str, configuration: &str) -> Result<Self> {
        Self::start_on(free_port()?, jetstream, configuration).await
    }

    /// Starts one on a port that others know already.
    ///
    /// # Errors
    /// As [`Broker::start`], and when another has taken the port.
    pub async fn start_on(port: u16, jetstream: &str, configuration: &str) -> Result<Self> {
        let (folder, monitor) = (tempfile::tempdir()?, free_port()?);
        let text = format!(
            "listen: \"127.0.0.1:{port}\"\nhttp: \"127.0.0.1:{monitor}\"\njetstream {{\n  store_dir: {:?}\n  {jetstream}\n}}\n{configuration}\n",
            folder.path().join(STORE),
        );
        std::fs::write(folder.path().join("nats.conf"), text)?;
        let mut broker = Self { port, monitor, folder, child: None };
        broker.resume().await?;
        Ok(broker)
    }

    /// Starts it again after [`Broker::kill`], with the same data and port.
    ///
    /// # Errors
    /// When it does not come up within 10 s.
    pub async fn resume(&mut self) -> Result<()> {
        let log = std::fs::File::options().append(true).create(true).open(self.folder.path().join("log"))?;
        let child = Command::new(program("nats-server")?)
            .arg("-c")
            .arg(self.folder.path().join("nats.conf"))
            .stdout(Stdio::null())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .context("could not start nats-server")?;
        self.child = Some(child);
        for _ in 0..200 {
            if tokio::net::TcpStream::connect(("127.0.0.1", self.port)).await.is_ok() {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        bail!("nats-server did not come up within 10 s: {}", self.log())
    }

    /// Kills it without a warning (SIGKILL); its data stays.
    ///
    /// # Errors
    /// When there is no process to wait for.
    pub async fn kill(&mut self) -> Result<()> {
        if let Some(mut child) = self.child.take() {
            child.kill().await?;
        }
        Ok(())
    }

    /// Takes its data away, as a lost volume would; only while it is killed.
    ///
    /// # Errors
    /// When it runs, or the files cannot be removed.
    pub fn lose_data(&self) -> Result<()> {
        if self.child.is_some() {
            bail!("nats-server still runs: kill it first");
        }
        std::fs::remove_dir_all(self.store()).context("could not remove the data of nats-server")
    }

    /// Sends a signal, such as STOP and CONT.
    ///
    /// # Errors
    /// When it is not running.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        kill_process(Pid::from_raw(self.pid()?).context("no process id")?, signal)?;
        Ok(())
    }

    /// Its process id.
    ///
    /// # Errors
    /// When it is not running.
    pub fn pid(&self) -> Result<i32> {
        let id = self.child.as_ref().and_then(Child::id).context("nats-server is not running")?;
        Ok(i32::try_from(id)?)
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The port on which it tells of itself, by HTTP.
    pub fn monitor(&self) -> u16 {
        self.monitor
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Where clients connect as this user.
    pub fn url_as(&self, user: &str, password: &str) -> String {
        format!("nats://{user}:{password}@127.0.0.1:{}", self.port)
    }

    /// Where clients connect.
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// The folder of its configuration, log and data.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The folder of its data.
    pub fn store(&self) -> PathBuf {
        self.folder.path().join(STORE)
    }

    /// Whether there is a process, be it stopped.
    pub fn is_running(&self) -> bool {
        self.child.is_some()
    }
}

/// A port that was free a moment ago, and that this process has given to nobody else of late.
///
/// # Errors
/// When the machine has none.
pub fn free_port() -> Result<u16> {
    static NEXT: LazyLock<AtomicUsize> =
        LazyLock::new(|| AtomicUsize::new(rand::rng().random_range(0..PORTS.len())));
    let next = || PORTS.start + (NEXT.fetch_add(1, Ordering::Relaxed) % PORTS.len()) as u16;
    let free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    std::iter::repeat_with(next).take(1000).find(free).context("no port is free")
}
