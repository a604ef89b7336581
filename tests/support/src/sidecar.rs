//! A sidecar as a process, with the files that the operator would give it.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use murmur_mesh::config::{CONFIG_FILE, JWT_FILE, MESSAGE_ID_KEY_FILE, SEED_FILE, SidecarConfig, TOKEN_FILE};
use murmur_mesh::message_id::MessageIdKey;
use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::broker::free_port;
use crate::http;

/// The token that its deliveries carry.
pub const TOKEN: &str = "the-token-of-the-service";

/// A running sidecar; killed, by its id, when dropped.
pub struct Sidecar {
    child: Child,
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
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(10) {
            if let Some(status) = sidecar.child.try_wait()? {
                bail!("the sidecar ended with {status}: {}", sidecar.log());
            }
            if http::get(sidecar.admin, "/startedz").await.is_ok_and(|answer| answer.status.is_success()) {
                return Ok(sidecar);
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        bail!("the sidecar has not started within 10 s: {}", sidecar.log())
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
        let child = Command::new(binary)
            .arg("run")
            .env("MURMUR_BUS_URL", bus)
            .env("MURMUR_CONFIG", folder.path().join(CONFIG_FILE))
            .env("MURMUR_BUS_CREDENTIALS", folder.path())
            .env("MURMUR_POD", "tested-0")
            .env("MURMUR_LOCAL_ADDRESS", format!("127.0.0.1:{port}"))
            .env("MURMUR_ADMIN_ADDRESS", format!("127.0.0.1:{admin}"))
            .envs(environment.iter().copied())
            .stdout(std::fs::File::create(folder.path().join("stdout"))?)
            .stderr(std::fs::File::create(folder.path().join("stderr"))?)
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("could not start {}", binary.display()))?;
        Ok(Self { child, folder, port, admin })
    }

    /// Its process id.
    ///
    /// # Errors
    /// When it has ended.
    pub fn pid(&self) -> Result<i32> {
        Ok(i32::try_from(self.child.id().context("the sidecar has ended")?)?)
    }

    /// What it has printed, the last 4,000 characters.
    pub fn log(&self) -> String {
        let read = |name| std::fs::read_to_string(self.folder.path().join(name)).unwrap_or_default();
        let text = read("stdout") + &read("stderr");
        let skip = text.chars().count().saturating_sub(4000);
        text.chars().skip(skip).collect()
    }
}

/// A user of an account of nobody's: for brokers that ask for no credentials.
fn user() -> Result<(String, String)> {
    let (account, user) = (nkeys::KeyPair::new_account(), nkeys::KeyPair::new_user());
    let claims = nats_jwt_rs::user::User::new_claims("tested".to_owned(), user.public_key());
    let jwt = claims.encode(&account).map_err(|error| anyhow::anyhow!("user JWT: {error}"))?;
    Ok((jwt, user.seed()?))
}
