//! The relay: rows in, events out, rows deleted. What it knows for sure is in the
//! database; what it does not know it reads back from the event store.

use std::time::Duration;

use murmur_mesh::durable::DurableName;
use murmur_mesh::report::OutboxReport;
use tokio::time::{Instant, sleep};

use super::read_back::{Chunk, ReadBack, Unread};
use super::store::{Identity, Mark, Store, StoreError};
use super::{MAY_TAKE, With};
use crate::deliver::fence::Moment;
use crate::metrics::OutboxRow;

/// How long it is waited for word of a commit: a word may be lost.
const PATIENCE: Duration = Duration::from_secs(5);
/// The waits after something went wrong, doubled each time.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// How often the refused rows are counted, since a person may have seen to them.
const COUNT: Duration = Duration::from_secs(10);
/// So many places of the event store the mark may lag behind while the outbox is empty: no
/// more of the service's other events are then read back than these.
const LAG: u64 = 10_000;

/// What a look at the outbox came to.
#[derive(Debug, PartialEq, Eq)]
enum Round {
    /// It is empty.
    Empty,
    /// There may be more.
    More,
    /// It cannot be emptied now, for this reason.
    Held(String),
}

/// The relay of an outbox that nobody else relays.
pub(super) struct Relay<'a, S> {
    with: &'a With,
    store: S,
    mark: Mark,
    /// Rows that are in the table may be in the event store already.
    in_doubt: bool,
    /// The event store that places are of.
    stream: Option<String>,
    pause: Duration,
    counted: Option<Instant>,
    report: OutboxReport,
}

impl<'a, S: Store> Relay<'a, S> {
    /// Takes up where the one before has left off, be it mid-way.
    pub(super) async fn new(with: &'a With, mut store: S) -> Result<Self, StoreError> {
        let mark = store.mark().await?;
        let report = OutboxReport::default();
        let relay = Self {
            with,
            store,
            mark,
            in_doubt: true,
            stream: None,
            pause: FIRST_PAUSE,
            counted: None,
            report,
        };
        Ok(relay)
    }

    /// Relays until the database is lost, the outbox is switched off, or, once it is to stop,
    /// there is nothing left that could be published now.
    pub(super) async fn run(mut self) -> Result<(), StoreError> {
        let mut configuration = self.with.configuration.clone();
        while configuration.borrow_and_update().outbox {
            let mut link = self.with.bus.watch();
            link.mark_unchanged();
            let round = self.round().await?;
            self.tell(&round).await?;
            if round != Round::More && self.with.stop.is_cancelled() {
                break;
            }
            match round {
                Round::More => self.pause = FIRST_PAUSE,
                Round::Empty => {
                    self.pause = FIRST_PAUSE;
                    tokio::select! {
                        changed = self.store.changed(PATIENCE) => changed?,
                        _ = configuration.changed() => {}
                        () = self.with.stop.cancelled() => {}
                    }
                }
                Round::Held(_) => {
                    tokio::select! {
                        () = sleep(self.pause) => self.pause = (self.pause * 2).min(LONGEST_PAUSE),
                        _ = link.changed() => self.pause = FIRST_PAUSE,
                        _ = configuration.changed() => {}
                        () = self.with.stop.cancelled() => {}
                    }
                }
            }
        }
        Ok(())
    }

    async fn round(&mut self) -> Result<Round, StoreError> {
        let (read, connected) = (Moment::now(), self.with.bus.link().connected);
        // How large a row may be the bus says, so what was read without it only shows that there is something.
        let rows = self.store.rows(self.with.largest_row()).await?;
        if rows.is_empty() {
            self.in_doubt = false;
            self.keep_up().await?;
            return Ok(Round::Empty);
        }
        let Some(stream) = self.event_store() else {
            return Ok(Round::Held("the operator has not said which event store there is".to_owned()));
        };
        if !connected {
            return Ok(Round::Held("there is no connection to the bus".to_owned()));
        }
        if self.mark.stream.as_ref() != Some(&stream) {
            self.turn_to(stream).await?;
        }
        if self.in_doubt {
            return match self.read_back().await? {
                Ok(()) => Ok(Round::More),
                Err(unread) => Ok(Round::Held(unread.to_string())),
            };
        }
        // After a stop of this process the rows may be another sidecar's by now.
        if read.elapsed() > MAY_TAKE {
            return Ok(Round::More);
        }
        let sent = self.with.send(rows, read).await;
        self.in_doubt = sent.in_doubt;
        for (position, cause) in &sent.refused {
            self.refuse(*position, cause).await?;
        }
        for (_, stored) in &sent.stored {
            self.count(if stored.duplicate { OutboxRow::Duplicate } else { OutboxRow::Stored });
        }
        let positions: Vec<i64> = sent.stored.iter().map(|(position, _)| *position).collect();
        if !positions.is_empty() {
            let highest = sent.stored.iter().map(|(_, stored)| stored.sequence).max().unwrap_or_default();
            self.settle(&positions, highest).await?;
        }
        Ok(match sent.failed {
            Some(error) => Round::Held(error.to_string()),
            None if sent.waits => Round::Held("the configuration may be an old one".to_owned()),
            None if self.in_doubt => Round::Held("what was sent has not been acknowledged".to_owned()),
            None => Round::More,
        })
    }

    /// The event store as the operator names it. What was known of another one is forgotten.
    fn event_store(&mut self) -> Option<String> {
        let stream = self.with.configuration.borrow().event_store.clone().map(|identity| identity.0);
        if stream != self.stream {
            self.with.group.forget_highest();
            self.stream.clone_from(&stream);
        }
        stream
    }

    /// Turns to an event store that the mark says nothing of.
    async fn turn_to(&mut self, stream: String) -> Result<(), StoreError> {
        let before = self.mark.stream.replace(stream);
        // Nothing was ever sent.
        self.in_doubt &= before.is_some();
        if self.in_doubt {
            tracing::warn!(?before, now = ?self.mark.stream, "the outbox is compared with another event store");
            self.mark.sequence = 0;
            return Ok(());
        }
        // Written before anything is sent there.
        self.mark.sequence = self.with.group.highest();
        self.store.settle(&[], &self.mark).await
    }

    /// Deletes the rows whose events are in the event store.
    async fn read_back(&mut self) -> Result<Result<(), Unread>, StoreError> {
        self.with.metrics.outbox.read_backs.inc();
        let durable = DurableName::outbox(&self.with.service);
        let mut reading = match ReadBack::begin(&self.with.bus, durable, self.mark.sequence + 1).await {
            Ok(reading) => reading,
            Err(unread) => return Ok(Err(unread)),
        };
        let mut found = 0;
        loop {
            match reading.next().await {
                Ok(Some(chunk)) => found += self.take(&chunk).await?,
                Ok(None) => break,
                Err(unread) => return Ok(Err(unread)),
            }
        }
        self.store.settle(&[], &self.mark).await?;
        self.in_doubt = false;
        tracing::info!(found, upto = self.mark.sequence, "compared the outbox with the event store");
        Ok(Ok(()))
    }

    /// Compares events with the rows that they came from; how many of these were still there.
    async fn take(&mut self, chunk: &Chunk) -> Result<usize, StoreError> {
        let positions: Vec<i64> = chunk.seen.iter().map(|seen| seen.position).collect();
        let rows = if positions.is_empty() { Vec::new() } else { self.store.identities(&positions).await? };
        let stored = |row: &Identity| {
            let source = row.source.as_deref().unwrap_or(&self.with.source);
            let message_id = self.with.key.message_id(&self.with.service, source, &row.id);
            chunk.seen.iter().any(|seen| seen.position == row.position && seen.message_id == message_id)
        };
        let gone: Vec<i64> = rows.iter().filter(|row| stored(row)).map(|row| row.position).collect();
        self.mark.sequence = self.mark.sequence.max(chunk.upto);
        if !gone.is_empty() {
            self.store.settle(&gone, &self.mark).await?;
        }
        gone.iter().for_each(|_| self.count(OutboxRow::Found));
        Ok(gone.len())
    }

    /// Deletes what is stored. While nothing is in doubt, all that was sent is deleted, so the mark may
    /// go on to any place that is known.
    async fn settle(&mut self, positions: &[i64], highest: u64) -> Result<(), StoreError> {
        if !self.in_doubt {
            self.mark.sequence = self.mark.sequence.max(highest).max(self.with.group.highest());
        }
        self.store.settle(positions, &self.mark).await
    }

    /// Moves the mark on while there is nothing to publish, when it lags far behind.
    async fn keep_up(&mut self) -> Result<(), StoreError> {
        let stream = self.event_store();
        let highest = self.with.group.highest();
        if self.mark.stream.is_some() && self.mark.stream == stream && highest > self.mark.sequence + LAG {
            self.settle(&[], highest).await?;
        }
        Ok(())
    }

    async fn refuse(&mut self, position: i64, cause: &str) -> Result<(), StoreError> {
        self.store.refuse(position, cause).await?;
        self.count(OutboxRow::Refused);
        self.counted = None;
        tracing::warn!(
            position,
            cause,
            "a row of the outbox is refused: it stands in murmur_outbox_refused now"
        );
        Ok(())
    }

    fn count(&self, outcome: OutboxRow) {
        self.with.metrics.outbox.count(outcome);
    }

    /// Tells how the outbox stands.
    async fn tell(&mut self, round: &Round) -> Result<(), StoreError> {
        let held = match round {
            Round::Held(cause) => Some(cause.clone()),
            Round::Empty => None,
            // Not before it is so.
            Round::More => self.report.held.clone(),
        };
        if held.is_some() != self.report.held.is_some() {
            match &held {
                Some(cause) => tracing::warn!(cause, "the outbox waits"),
                None => tracing::info!("the outbox is empty again"),
            }
        }
        self.report.held = held;
        if self.counted.is_none_or(|at| at.elapsed() > COUNT) {
            let refusals = self.store.refusals().await?;
            (self.report.refused, self.report.cause) = (refusals.count, refusals.cause);
            self.counted = Some(Instant::now());
        }
        self.with.tell(&self.report);
        Ok(())
    }
}
