//! The test bed: a nats-server with the mesh's streams, and sidecars beside it.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;
use async_nats::jetstream;
use http::StatusCode;
use murmur_mesh::config::{LogLevel, SidecarConfig, Subscription};
use murmur_test_support::{Broker, Sidecar, mesh};

use super::loads::body;
use crate::poster::Poster;

/// When the broker syncs to disk.
#[derive(Clone, Copy)]
pub struct DiskSync {
    /// As scenarios are named.
    pub name: &'static str,
    /// JetStream's settings.
    pub jetstream: &'static str,
    /// Whether acknowledged means on disk.
    pub synced: bool,
}

/// A bundled broker's: acknowledged means on disk.
pub const SYNCED: DiskSync = DiskSync { name: "synced", jetstream: "sync_interval: always", synced: true };
/// JetStream's own: every two minutes.
pub const UNSYNCED: DiskSync = DiskSync { name: "default sync", jetstream: "", synced: false };

/// A broker with the streams of a mesh.
pub struct Bed {
    broker: Broker,
}

/// A sidecar, and how soon it was there.
pub struct Started {
    /// The sidecar.
    pub sidecar: Sidecar,
    /// Seconds from exec until it said that it had started.
    pub started: f64,
    /// Seconds from exec until it had stored its first event.
    pub first_publish: f64,
}

impl Bed {
    /// Starts it as a bundled one.
    ///
    /// # Errors
    /// When nats-server is missing or refuses.
    pub async fn start() -> Result<Self> {
        Self::with(SYNCED).await
    }

    /// Starts it, to sync like that.
    ///
    /// # Errors
    /// When nats-server is missing or refuses.
    pub async fn with(sync: DiskSync) -> Result<Self> {
        let bed = Self { broker: Broker::start(sync.jetstream, "").await? };
        mesh::streams(&bed.client().await?, -1).await?;
        Ok(bed)
    }

    /// The broker.
    pub fn broker(&self) -> &Broker {
        &self.broker
    }

    /// A bare client.
    ///
    /// # Errors
    /// When the broker is not there.
    pub async fn client(&self) -> Result<jetstream::Context> {
        mesh::client(&self.broker).await
    }

    /// Starts a sidecar that may publish and has these subscriptions.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn sidecar(&self, binary: &Path, subscriptions: Vec<Subscription>) -> Result<Started> {
        self.sidecar_with(binary, mesh::config(subscriptions)?).await
    }

    /// Starts a sidecar with this configuration.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn sidecar_with(&self, binary: &Path, config: SidecarConfig) -> Result<Started> {
        let config = SidecarConfig { log_level: LogLevel::Warn, ..config };
        let began = Instant::now();
        let sidecar = Sidecar::start(binary, &self.broker.url(), &config, &[]).await?;
        let started = began.elapsed().as_secs_f64();
        while publish_first(sidecar.port).await.is_err() {
            anyhow::ensure!(began.elapsed() < Duration::from_secs(10), "nothing could be published");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Ok(Started { sidecar, started, first_publish: began.elapsed().as_secs_f64() })
    }
}

async fn publish_first(port: u16) -> Result<()> {
    Poster::connect(port).await?.publish(&body(), StatusCode::OK).await
}

/// A subscription for speed: many at once with the service.
///
/// # Errors
/// When `name` is not one.
pub fn subscription(name: &str, port: u16) -> Result<Subscription> {
    let mut subscription = mesh::subscription(name, port)?;
    if let Some(deliver) = subscription.deliver_mut() {
        deliver.concurrency = 64;
    }
    Ok(subscription)
}
