//! The test bed: a nats-server with the mesh's streams, and sidecars beside it.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;
use async_nats::jetstream;
use murmur_mesh::config::{LogLevel, Subscription};
use murmur_test_support::{Broker, Sidecar, http, mesh};

/// JetStream's settings of a bundled broker: acknowledged means on disk.
pub const SYNCED: &str = "sync_interval: always";
/// JetStream's own defaults: synced to disk every two minutes.
pub const UNSYNCED: &str = "";

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

    /// Starts it with these settings of JetStream.
    ///
    /// # Errors
    /// When nats-server is missing or refuses.
    pub async fn with(jetstream: &str) -> Result<Self> {
        let bed = Self { broker: Broker::start(jetstream, "").await? };
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
        let mut config = mesh::config(subscriptions)?;
        config.log_level = LogLevel::Warn;
        let began = Instant::now();
        let sidecar = Sidecar::start(binary, &self.broker.url(), &config, &[]).await?;
        let started = began.elapsed().as_secs_f64();
        let body = super::publish::body();
        while http::connect(sidecar.port).await.is_err()
            || crate::http::publish(&mut http::connect(sidecar.port).await?, &body).await.is_err()
        {
            anyhow::ensure!(began.elapsed() < Duration::from_secs(10), "nothing could be published");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Ok(Started { sidecar, started, first_publish: began.elapsed().as_secs_f64() })
    }
}

/// A subscription for speed: many at once with the service.
///
/// # Errors
/// When `name` is not one.
pub fn subscription(name: &str, port: u16) -> Result<Subscription> {
    let mut subscription = mesh::subscription(name, port)?;
    subscription.deliver.concurrency = 64;
    Ok(subscription)
}
