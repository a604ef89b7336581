//! The sidecar of a Murmur service: local HTTP on one side, JetStream on the
//! other. What the service posts it publishes (`publish`), what the
//! service subscribed to it delivers (`deliver`), so that the service
//! itself knows neither NATS nor any library of ours.
//!
//! [`Settings`] are parsed before anything is bound; [`run`] then locks the
//! volume, makes the database, binds, connects and works until it is stopped.
//! The bus gates nothing: while it is away the service runs, publishing is
//! answered with 503, and deliveries wait.

mod board;
pub(crate) mod bus;
pub(crate) mod call;
pub mod cli;
mod connections;
pub mod database;
pub(crate) mod deliver;
pub mod drain;
mod http;
pub mod limits;
mod listeners;
pub mod lock;
pub mod logging;
mod metrics;
pub(crate) mod outbox;
mod peers;
mod project;
pub(crate) mod publish;
pub(crate) mod query;
mod report;
mod running;
pub mod settings;
pub mod startup;
pub mod trace;
mod wiring;

use std::future::Future;
use std::io;
use std::net::SocketAddr;

pub use listeners::Listeners;
pub use settings::{Settings, SettingsError};

use crate::database::DatabaseSettings;
use crate::logging::Level;

/// Why a sidecar could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The volume.
    #[error(transparent)]
    Lock(#[from] lock::LockError),
    /// The database.
    #[error(transparent)]
    Database(#[from] database::DatabaseError),
    /// A socket.
    #[error("cannot listen on {address}: {cause}; is another program using the port?")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// Why.
        cause: io::Error,
    },
    /// The client of the bus.
    #[error("cannot set up the connection to the bus: {0}")]
    Bus(#[source] async_nats::Error),
}

/// Runs a sidecar until `stop`, then lets what is in flight end.
///
/// `bind` is awaited once the volume is locked and the database is there: who
/// can connect can rely on both.
///
/// # Errors
/// When it cannot start. Once it runs, nothing ends it but `stop`.
pub async fn run(
    settings: Settings,
    bind: impl Future<Output = Result<Listeners, StartError>>,
    level: Level,
    stop: impl Future<Output = ()>,
) -> Result<(), StartError> {
    let mut stop = std::pin::pin!(stop);
    let _lock = match &settings.data {
        Some(volume) => tokio::select! {
            lock = lock::hold(volume) => Some(lock?),
            () = &mut stop => return Ok(()),
        },
        None => None,
    };
    if let Some(path) = settings.database.as_ref().and_then(DatabaseSettings::sqlite) {
        database::sqlite::prepare(path)?;
    }
    if let (Some(database), true) = (&settings.database, settings.config.outbox) {
        tokio::select! {
            () = outbox::prepare(database) => {}
            () = &mut stop => return Ok(()),
        }
    }
    let listeners = bind.await?;
    let running = wiring::start(settings, listeners, level).await?;
    stop.await;
    running.end().await;
    Ok(())
}
