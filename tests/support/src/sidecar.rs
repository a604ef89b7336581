//! A sidecar as a process, with the files that the operator would give it.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use murmur_mesh::config::{CONFIG_FILE, JWT_FILE, MESSAGE_ID_KEY_FILE, SEED_FILE, SidecarConfig, TOKEN_FILE};
use murmur_mesh::message_id::MessageIdKey;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::broker::free_port;
use crate::http;

/// The token that its deliveries carry.
pub const TOKEN: &str = "the-token-of-the-service";

/// A running sidecar; killed, by its id, when dropped.
pub struct Sidecar {
    binary: PathBuf,
    environment: Vec<(String, String)>,
    child: Option<Child>,
    folder: TempDir,
    /// The port of its local HTTP.
    pub port: u16,
    /// The port of its probes and metrics.
    pub admin: u16,
}

impl Sidecar {
    /// Starts `binary` with this configuration and further environment, and
    /// waits until it says that it has started.
    ///
    /// # Errors
    /// When it ends, or does not start within 10 s.
    pub async fn start(
        binary: &Path,
        bus: &str,
        config: &SidecarConfig,
        environment: &[(&str, &str)],
    ) -> Result<Self> {
        let mut sidecar = Self::spawn(binary, bus, config, environment)?;
        sidecar.until_started().await?;
        Ok(sidecar)
    }

    async fn until_started(&mut self) -> Result<()> {
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(10) {
            if let Some(status) = self.child.as_mut().context("the sidecar was killed")?.try_wait()? {
                bail!("the sidecar ended with {status}: {}", self.log());
            }
            if http::get(self.admin, "/startedz").await.is_ok_and(|answer| answer.status.is_success()) {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        bail!("the sidecar has not started within 10 s: {}", self.log())
    }

    /// Starts it without waiting.
    ///
    /// # Errors
    /// When the binary cannot be started.
    pub fn spawn(
        binary: &Path,
        bus: &str,
        config: &SidecarConfig,
        environment: &[(&str, &str)],
    ) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let (jwt, seed) = user()?;
        for (file, text) in [
            (CONFIG_FILE, serde_json::to_string(config)?),
            (JWT_FILE, jwt),
            (SEED_FILE, seed),
            (MESSAGE_ID_KEY_FILE, MessageIdKey::from_bytes([7; 32]).to_hex()),
            (TOKEN_FILE, TOKEN.to_owned()),
        ] {
            std::fs::write(folder.path().join(file), text)?;
        }
        let (port, admin) = (free_port()?, free_port()?);
        let file = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
        let own = [
            ("MURMUR_BUS_URL", bus.to_owned()),
            ("MURMUR_CONFIG", file(CONFIG_FILE)),
            ("MURMUR_BUS_CREDENTIALS", file("")),
            ("MURMUR_POD", "tested-0".to_owned()),
            ("MURMUR_LOCAL_ADDRESS", format!("127.0.0.1:{port}")),
            ("MURMUR_ADMIN_ADDRESS", format!("127.0.0.1:{admin}")),
        ];
        let further = environment.iter().map(|(name, value)| (*name, (*value).to_owned()));
        let environment =
            own.into_iter().chain(further).map(|(name, value)| (name.to_owned(), value)).collect();
        let mut sidecar = Self { binary: binary.to_owned(), environment, child: None, folder, port, admin };
        sidecar.exec()?;
        Ok(sidecar)
    }

    fn exec(&mut self) -> Result<()> {
        let log =
            |name| std::fs::File::options().append(true).create(true).open(self.folder.path().join(name));
        let child = Command::new(&self.binary)
            .arg("run")
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdout(log("stdout")?)
            .stderr(log("stderr")?)
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("could not start {}", self.binary.display()))?;
        self.child = Some(child);
        Ok(())
    }

    /// Kills it without a warning (SIGKILL).
    ///
    /// # Errors
    /// When there is no process to wait for.
    pub async fn kill(&mut self) -> Result<()> {
        if let Some(mut child) = self.child.take() {
            child.kill().await?;
        }
        Ok(())
    }

    /// Ends it as Kubernetes does (SIGTERM), and kills it if it has not ended in time.
    ///
    /// # Errors
    /// When there is no process to wait for.
    pub async fn end(&mut self, patience: Duration) -> Result<()> {
        self.signal(Signal::TERM)?;
        if let Some(mut child) = self.child.take()
            && tokio::time::timeout(patience, child.wait()).await.is_err()
        {
            child.kill().await?;
        }
        Ok(())
    }

    /// Starts it again after [`Sidecar::kill`] or [`Sidecar::end`], on the same ports.
    ///
    /// # Errors
    /// As [`Sidecar::start`].
    pub async fn resume(&mut self) -> Result<()> {
        self.exec()?;
        self.until_started().await
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
    /// When it has ended.
    pub fn pid(&self) -> Result<i32> {
        let id = self.child.as_ref().and_then(Child::id).context("the sidecar has ended")?;
        Ok(i32::try_from(id)?)
    }

    /// What it has printed.
    pub fn log(&self) -> String {
        let read = |name| std::fs::read_to_string(self.folder.path().join(name)).unwrap_or_default();
        read("stdout") + &read("stderr")
    }
}

/// A user of an account of nobody's: for brokers that ask for no credentials.
fn user() -> Result<(String, String)> {
    let (account, user) = (nkeys::KeyPair::new_account(), nkeys::KeyPair::new_user());
    let claims = nats_jwt_rs::user::User::new_claims("tested".to_owned(), user.public_key());
    let jwt = claims.encode(&account).map_err(|error| anyhow::anyhow!("user JWT: {error}"))?;
    Ok((jwt, user.seed()?))
}
