//! The outbox: what the service inserts into `murmur_outbox` of its own database,
//! in its own transaction, is published once it is committed, and nothing else.
//!
//! The table is a queue: a row is deleted once its event is stored, so that none
//! is ever passed over, however late its transaction commits ([`relay`]). A push
//! from the database says when something was committed ([`sqlite`], [`postgres`]).
//! Whether a row was published before a crash, or before an answer was lost, is
//! read back from the event store ([`read_back`]): the broker's memory of message
//! ids, which is short, only covers what is on its way at that moment.

mod postgres;
mod read_back;
mod relay;
mod row;
mod send;
mod sqlite;
mod store;
mod wal;

use std::sync::Arc;
use std::time::Duration;

use murmur_mesh::config::SidecarConfig;
use murmur_mesh::message_id::MessageIdKey;
use murmur_mesh::name::ServiceName;
use murmur_mesh::report::OutboxReport;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use self::postgres::Postgres;
use self::relay::Relay;
use self::sqlite::Sqlite;
use self::store::StoreError;
use crate::board::Board;
use crate::bus::Bus;
use crate::database::{DatabaseSettings, postgres as server};
use crate::metrics::Metrics;
use crate::publish::{Door, GroupCommit, Publisher};
use crate::trace::Tracer;

/// How long it may take from reading rows to sending their events.
const MAY_TAKE: Duration = Duration::from_secs(20);
/// How long the start of the service waits for the tables: a database that is new takes its time.
const PREPARE: Duration = Duration::from_secs(60);
/// The waits while the database is away, doubled each time.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// How often a sidecar that is not the relay asks to become it.
const STAND_BY: Duration = Duration::from_secs(1);

/// What the relay works with.
pub(crate) struct With {
    pub(crate) service: ServiceName,
    /// The `source` of events that name none.
    pub(crate) source: String,
    pub(crate) key: MessageIdKey,
    pub(crate) configuration: watch::Receiver<Arc<SidecarConfig>>,
    pub(crate) door: watch::Receiver<Arc<Door>>,
    pub(crate) bus: Bus,
    pub(crate) publisher: Publisher,
    /// What the service publishes by itself, of which the places in the event store are known.
    pub(crate) group: Arc<GroupCommit>,
    /// What a message needs beside its data.
    pub(crate) headroom: usize,
    pub(crate) tracer: Tracer,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) board: Arc<Board>,
    /// The service has ended: what it has committed is published, as far as that can be done now.
    pub(crate) stop: CancellationToken,
}

/// How an attempt to relay came to its end.
enum Turn {
    /// It was switched off, or is to stop.
    Over,
    /// Another sidecar of the service is the relay.
    StandBy,
}

/// Makes the tables before the service starts, if it has an outbox. A database that cannot be reached is
/// waited for, but not for ever: the service may have other things to do.
pub(crate) async fn prepare(database: &DatabaseSettings) {
    let began = Instant::now();
    let mut pause = FIRST_PAUSE;
    loop {
        let made = match database {
            DatabaseSettings::Sqlite(path) => sqlite::prepare(path),
            DatabaseSettings::Postgres(folder) => postgres::prepare(&server::Postgres::new(folder)).await,
        };
        let Err(error) = made else { return };
        if began.elapsed() + pause > PREPARE {
            tracing::warn!(%error, "the service starts without its outbox; it is tried on");
            return;
        }
        tracing::debug!(%error, "the outbox is not there yet");
        sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

impl With {
    /// Relays whenever the configuration says so, until it is to stop.
    pub(crate) async fn run(self, database: DatabaseSettings) {
        let mut configuration = self.configuration.clone();
        let mut pause = FIRST_PAUSE;
        while !self.stop.is_cancelled() {
            if !configuration.borrow_and_update().outbox {
                self.board.set_outbox(None);
                tokio::select! {
                    changed = configuration.changed() => if changed.is_err() { return },
                    () = self.stop.cancelled() => {}
                }
                continue;
            }
            let began = Instant::now();
            let wait = match self.turn(&database).await {
                Ok(Turn::Over) => continue,
                Ok(Turn::StandBy) => {
                    self.board.set_outbox(None);
                    STAND_BY
                }
                Err(error) => {
                    pause = if began.elapsed() > LONGEST_PAUSE { FIRST_PAUSE } else { pause * 2 };
                    pause = pause.min(LONGEST_PAUSE);
                    self.fails(&error);
                    pause
                }
            };
            tokio::select! {
                () = sleep(wait) => {}
                () = self.stop.cancelled() => {}
            }
        }
    }

    async fn turn(&self, database: &DatabaseSettings) -> Result<Turn, StoreError> {
        match database {
            DatabaseSettings::Sqlite(path) => {
                Relay::new(self, Sqlite::open(path.clone()).await?).await?.run().await?;
            }
            DatabaseSettings::Postgres(folder) => {
                let Some(store) = Postgres::open(&server::Postgres::new(folder)).await? else {
                    return Ok(Turn::StandBy);
                };
                tracing::info!("this sidecar publishes what is in the outbox");
                Relay::new(self, store).await?.run().await?;
            }
        }
        Ok(Turn::Over)
    }

    fn fails(&self, error: &StoreError) {
        tracing::warn!(%error, "the outbox cannot be relayed now; it is tried again");
        let before = self.board.outbox().unwrap_or_default();
        self.tell(&OutboxReport { held: Some(error.to_string()), ..before });
    }

    fn tell(&self, report: &OutboxReport) {
        self.metrics.outbox.held.set(i64::from(report.held.is_some()));
        self.board.set_outbox(Some(report.clone()));
    }
}
