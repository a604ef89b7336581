//! The test bed: a nats-server with the mesh's streams, and sidecars beside it.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use async_nats::jetstream;
use async_nats::jetstream::stream::{Config, DiscardPolicy};
use murmur_mesh::config::{
    CONFIG_FILE, DeadLetterPolicy, Deliver, JWT_FILE, LogLevel, MESSAGE_ID_KEY_FILE, Ordering, Retry,
    SEED_FILE, SidecarConfig, Subscription, TOKEN_FILE,
};
use murmur_mesh::message_id::MessageIdKey;
use murmur_mesh::stream;
use murmur_test_support::Broker;
use murmur_test_support::broker::free_port;
use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::http;

/// What a bundled broker is set to: acknowledged means on disk.
pub const JETSTREAM: &str = "sync_interval: always";

/// A broker with the streams of a mesh.
pub struct Bed {
    broker: Broker,
}

impl Bed {
    /// Starts it.
    ///
    /// # Errors
    /// When nats-server is missing or refuses.
    pub async fn start() -> Result<Self> {
        let bed = Self { broker: Broker::start(JETSTREAM, "").await? };
        let context = bed.client().await?;
        for (name, subjects) in [
            (stream::EVENTS, stream::EVENTS_SUBJECTS.as_slice()),
            (stream::DEAD_LETTERS, stream::DEAD_LETTERS_SUBJECTS.as_slice()),
            (stream::CONFIG, stream::CONFIG_SUBJECTS.as_slice()),
        ] {
            context
                .create_stream(Config {
                    name: name.to_owned(),
                    subjects: subjects.iter().map(ToString::to_string).collect(),
                    discard: DiscardPolicy::New,
                    duplicate_window: Duration::from_secs(600),
                    allow_direct: name == stream::CONFIG,
                    ..Config::default()
                })
                .await?;
        }
        Ok(bed)
    }

    /// A bare client.
    ///
    /// # Errors
    /// When the broker is not there.
    pub async fn client(&self) -> Result<jetstream::Context> {
        Ok(jetstream::new(async_nats::connect(self.broker.url()).await?))
    }

    /// Starts a sidecar that may publish `Tick` and has these subscriptions.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn sidecar(&self, binary: &Path, subscriptions: Vec<Subscription>) -> Result<Sidecar> {
        Sidecar::start(binary, &self.broker.url(), subscriptions).await
    }
}

/// A subscription that delivers to `port`, in order per key.
///
/// # Errors
/// When `name` is not one.
pub fn subscription(name: &str, port: u16, shards: u16) -> Result<Subscription> {
    Ok(Subscription {
        name: name.parse()?,
        ordering: Ordering::Key { shards },
        deliver: Deliver { port, path: "/events".into(), timeout: Duration::from_secs(30), concurrency: 64 },
        retry: Retry {
            max_attempts: 8,
            initial_delay: Duration::from_secs(1),
            factor: 2,
            max_delay: Duration::from_secs(60),
        },
        dead_letter: DeadLetterPolicy::Keep,
    })
}

/// A running sidecar; killed, by its id, when dropped.
pub struct Sidecar {
    child: Child,
    _folder: TempDir,
    /// The port of its local HTTP.
    pub port: u16,
    /// Seconds from exec until it said that it had started.
    pub started: f64,
    /// Seconds from exec until it had stored its first event.
    pub first_publish: f64,
}

impl Sidecar {
    async fn start(binary: &Path, bus: &str, subscriptions: Vec<Subscription>) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let config = SidecarConfig {
            generation: 1,
            service: "bench".parse()?,
            mesh: "bench".parse()?,
            event_store: None,
            publishes: vec!["Tick".parse()?],
            subscriptions,
            log_level: LogLevel::Warn,
            user_jwt: None,
        };
        let user = nkeys::KeyPair::new_user();
        for (file, text) in [
            (CONFIG_FILE, serde_json::to_string(&config)?),
            (JWT_FILE, String::new()),
            (SEED_FILE, user.seed()?),
            (MESSAGE_ID_KEY_FILE, MessageIdKey::from_bytes([1; 32]).to_hex()),
            (TOKEN_FILE, "bench".to_owned()),
        ] {
            std::fs::write(folder.path().join(file), text)?;
        }
        let (port, admin) = (free_port()?, free_port()?);
        let began = Instant::now();
        let child = Command::new(binary)
            .arg("run")
            .env("MURMUR_BUS_URL", bus)
            .env("MURMUR_CONFIG", folder.path().join(CONFIG_FILE))
            .env("MURMUR_BUS_CREDENTIALS", folder.path())
            .env("MURMUR_POD", "bench-0")
            .env("MURMUR_LOCAL_ADDRESS", format!("127.0.0.1:{port}"))
            .env("MURMUR_ADMIN_ADDRESS", format!("127.0.0.1:{admin}"))
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("could not start {}", binary.display()))?;
        let started =
            seconds_until(began, || async { Ok(http::get(admin, "/startedz").await?.is_success()) }).await?;
        let body = super::publish::body();
        let first_publish = seconds_until(began, || async {
            let mut sender = http::connect(port).await?;
            http::publish(&mut sender, &body).await?;
            Ok(true)
        })
        .await?;
        Ok(Self { child, _folder: folder, port, started, first_publish })
    }

    /// Its process id.
    ///
    /// # Errors
    /// When it has ended.
    pub fn pid(&self) -> Result<i32> {
        Ok(i32::try_from(self.child.id().context("the sidecar has ended")?)?)
    }
}

/// Seconds since `began` when `check` first says yes.
async fn seconds_until<F, Fut>(began: Instant, check: F) -> Result<f64>
where
    F: Fn() -> Fut,
    Fut: Future<Output = Result<bool>>,
{
    let mut last = None;
    while began.elapsed() < Duration::from_secs(10) {
        match check().await {
            Ok(true) => return Ok(began.elapsed().as_secs_f64()),
            Ok(false) => {}
            Err(error) => last = Some(error),
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    bail!("the sidecar was not ready within 10 s: {last:?}")
}
