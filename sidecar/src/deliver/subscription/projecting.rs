//! Events that go to the database: many to a transaction, in the order of the event store.
//!
//! One thing is done at a time: the database is opened, events are applied, a dead
//! letter is stored, or tables are swapped. What the database says about the
//! position counts, not what was acknowledged: an event that came again and is in is
//! only acknowledged, and where the database is behind (it was lost, or restored from
//! a backup), the durable is set back to it.
//!
//! The broker's own mark goes on past events of other types, so it may be ahead
//! although nothing is missing. While nothing waits, and what was acknowledged is known
//! to be in, the position follows that mark; else a durable is set back once for nothing.

mod outcome;
mod position;
mod turns;

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use murmur_mesh::report::held;
use tokio::time::Instant;

pub(super) use self::turns::Turn;
use super::{Ended, Subscription};
use crate::board::Held;
use crate::deliver::Terms;
use crate::deliver::lanes::Position;
use crate::metrics::DeadReason;
use crate::project::{Identity, Projection, Standing, Store};

/// Before the database is tried again.
const FIRST_DELAY: Duration = Duration::from_millis(250);
const LONGEST_DELAY: Duration = Duration::from_secs(10);
/// How often it is looked whether all of the history is applied.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// How soon after the last event the position follows the broker's mark.
const SETTLE: Duration = Duration::from_secs(5);

/// The projection of a subscription.
pub(super) struct Projecting {
    /// Or why there is none.
    projection: Result<Projection, Held>,
    state: State,
    standing: Option<Standing>,
    /// Up to which place in the stream all was acknowledged, as far as is known: the database must be as far.
    acknowledged: u64,
    /// What is known of the database is old.
    stale: bool,
    /// A dead letter is being stored.
    burying: bool,
    /// One that is stored, and the position has not passed its event.
    buried: Option<(Position, DeadReason)>,
    /// An event that used up its attempts, and the last cause.
    exhausted: Option<(u64, String)>,
    /// Nothing is done before.
    next: Instant,
    delay: Duration,
    trouble: Option<Held>,
    /// When the broker was asked last, everything was done.
    drained: bool,
    /// Whether the broker has been asked since the start, and the database was not behind.
    verified: Verified,
    /// Where the broker's mark is, if the position is to follow it.
    follow: Option<u64>,
    /// Events were applied since the broker was asked last.
    moved: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verified {
    /// The broker has not been asked.
    No,
    /// It has, and the database is to be opened and compared.
    Asked,
    Yes,
}

enum State {
    Closed,
    /// The store is elsewhere.
    Busy,
    Open(Store),
}

impl Projecting {
    /// Where the terms ask for one.
    pub(super) fn of(terms: &Terms, now: Instant) -> Option<Self> {
        let subscription = &terms.subscription;
        let definition = subscription.projection()?;
        let projection = murmur_projection::Definition::parse(definition)
            .map_err(|error| Held { reason: held::INVALID_PROJECTION, cause: error.to_string() })
            .and_then(|parsed| {
                let event_store = terms.event_store.as_ref().ok_or_else(|| Held {
                    reason: held::REBUILD_PENDING,
                    cause: "it is not known yet which event store the events come from".to_owned(),
                })?;
                let replay = subscription.replay.as_ref();
                let identity = Identity {
                    subscription: subscription.name.to_string(),
                    event_store: event_store.0.clone(),
                    run: replay.map(|replay| replay.id.clone()).unwrap_or_default(),
                    boundary: replay.map_or(0, |replay| replay.boundary),
                    definition: definition.fingerprint(),
                    on_change: definition.on_change,
                };
                Ok(Projection { identity, definition: parsed })
            });
        Some(Self {
            trouble: projection.as_ref().err().cloned(),
            projection,
            state: State::Closed,
            standing: None,
            acknowledged: 0,
            stale: false,
            burying: false,
            buried: None,
            exhausted: None,
            next: now,
            delay: FIRST_DELAY,
            drained: false,
            verified: Verified::No,
            follow: None,
            moved: false,
        })
    }

    /// Why nothing is applied.
    pub(super) fn trouble(&self) -> Option<Held> {
        self.trouble.clone()
    }

    /// When something is due although nothing happens.
    pub(super) fn next_wake(&self, now: Instant) -> Option<Instant> {
        Some(self.next).filter(|next| *next > now && !matches!(self.state, State::Busy))
    }

    fn is_busy(&self) -> bool {
        self.burying || matches!(self.state, State::Busy)
    }

    /// What is known of the database is read again before anything else.
    fn forget(&mut self) {
        self.doubt();
        match self.state {
            State::Busy => self.stale = true,
            State::Closed | State::Open(_) => self.state = State::Closed,
        }
    }

    /// The database may be another one than before, or another writer's.
    fn doubt(&mut self) {
        (self.verified, self.follow) = (Verified::No, None);
    }

    /// Whether the database is behind what was acknowledged; not twice for the same position.
    fn is_behind(&self, position: u64, rewound: Option<u64>) -> bool {
        position < self.acknowledged && rewound != Some(position)
    }

    /// Whether what was built beside has all that it lacked.
    fn is_complete(&self, rewound: Option<u64>) -> bool {
        let (Some(standing), Ok(projection)) = (&self.standing, &self.projection) else { return false };
        let boundary = projection.identity.boundary;
        standing.beside
            && self.buried.is_none()
            && standing.rejected.is_none()
            && (self.drained && !self.is_behind(standing.position, rewound)
                || boundary > 0 && standing.position >= boundary)
    }
}

impl Subscription {
    /// Does what is next.
    pub(super) fn project(&mut self, now: Instant) {
        let wanted = self.pulls.first().is_some_and(|pull| pull.wanted);
        let Some(projecting) = &mut self.projecting else { return };
        if projecting.is_busy() || now < projecting.next || self.runner.rewind.is_some() {
            return;
        }
        let Ok(projection) = &projecting.projection else { return };
        if !wanted {
            projecting.forget();
            return;
        }
        let State::Open(store) = std::mem::replace(&mut projecting.state, State::Busy) else {
            let (database, projection) = (self.runner.database.clone(), projection.clone());
            let opening = async move { Ended::Opened(Store::open(database.as_ref(), &projection).await) };
            return self.work.push(Box::pin(opening));
        };
        let idle = self.lanes.len() == 0;
        if idle && projecting.is_complete(self.runner.rewound) {
            return self.work.push(Box::pin(async move { Ended::Swapped(store.swap().await) }));
        }
        let beside = projecting.standing.as_ref().is_some_and(|standing| standing.beside);
        if idle && (beside || projecting.moved) {
            let soon = if beside { LOOK_INTERVAL } else { SETTLE };
            self.pulls[0].look_at.get_or_insert(now + soon);
        }
        let turns = self.turns(now);
        let Some(projecting) = &mut self.projecting else { return };
        if turns.is_empty() {
            projecting.state = State::Open(store);
            return;
        }
        self.entry.in_flight.fetch_add(1, Relaxed);
        self.work.push(Box::pin(async move {
            let began = Instant::now();
            let items = turns.iter().map(|turn| turn.item.clone()).collect();
            let applied = store.apply(items).await;
            Ended::Applied(turns, applied, began.elapsed())
        }));
    }
}
