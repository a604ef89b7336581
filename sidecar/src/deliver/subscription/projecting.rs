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

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use murmur_mesh::report::held;
use tokio::time::Instant;

use super::{Ended, Subscription};
use crate::board::Held;
use crate::bus::delivered::{ACK, terminate};
use crate::deliver::Terms;
use crate::deliver::barrier::Look;
use crate::deliver::lanes::Position;
use crate::metrics::{DeadReason, PassedOver};
use crate::project::{Applied, Identity, Item, Projection, Standing, Store, Trouble, Work};

/// Events of one transaction at most.
const MOST: usize = 1024;
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

/// An event whose turn it is, and what the broker is told when it is over.
pub(super) struct Turn {
    /// `None`: the position follows the broker's mark.
    position: Option<Position>,
    item: Item,
    end: Bytes,
    burial: Option<DeadReason>,
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

    /// The events whose turn it is, in their order. What is in already ends here.
    fn turns(&mut self, now: Instant) -> Vec<Turn> {
        let mut turns = Vec::new();
        let Some(projecting) = &mut self.projecting else { return turns };
        let Some(standing) = projecting.standing.clone() else { return turns };
        let exhausted = projecting.exhausted.clone();
        if let Some((position, reason)) = projecting.buried.take() {
            let (item, end) =
                (Item { sequence: position.sequence, work: Work::Pass }, terminate(reason.as_str()));
            if item.sequence > standing.position {
                turns.push(Turn { position: Some(position), item, end, burial: Some(reason) });
            } else {
                // Another writer has passed it meanwhile.
                self.finish(position, end);
            }
        }
        // All that are ready, as there are no more than a window; their order is what a position needs.
        let mut ready: Vec<Position> = std::iter::from_fn(|| self.lanes.next(now)).take(MOST).collect();
        ready.sort_unstable_by_key(|position| position.sequence);
        let mut ready = ready.into_iter();
        for position in ready.by_ref() {
            let sequence = position.sequence;
            if sequence <= standing.position {
                self.metrics.passed_over(PassedOver::Applied).inc();
                self.finish(position, ACK);
                continue;
            }
            if let Some((rejected, cause)) = standing.rejected.as_ref().filter(|_| turns.is_empty())
                && *rejected == sequence
            {
                // Noted before a crash: its dead letter may not be stored.
                self.bury(position, DeadReason::Rejected, cause.clone());
                break;
            }
            let work = match &exhausted {
                Some((given_up, cause)) if *given_up == sequence => Work::GiveUp(cause.clone()),
                _ => match self.passes_over(position) {
                    Some(reason) => {
                        self.metrics.passed_over(reason).inc();
                        Work::Pass
                    }
                    None => {
                        let Some(held) = self.lanes.get_mut(position) else { continue };
                        let moment = Timestamp::now();
                        held.first_attempt.get_or_insert(moment);
                        held.last_attempt = Some(moment);
                        Work::Apply(held.message.clone())
                    }
                },
            };
            turns.push(Turn {
                position: Some(position),
                item: Item { sequence, work },
                end: ACK,
                burial: None,
            });
        }
        // What comes after one that is to be buried first.
        for position in ready.rev() {
            self.lanes.put_first(position);
        }
        let Some(projecting) = &mut self.projecting else { return turns };
        let follow = projecting.follow.take().filter(|mark| *mark > standing.position);
        if let Some(sequence) = follow.filter(|_| turns.is_empty() && !projecting.burying) {
            let item = Item { sequence, work: Work::Pass };
            turns.push(Turn { position: None, item, end: Bytes::new(), burial: None });
        }
        turns
    }

    /// The database was opened, or could not be.
    pub(super) fn opened(&mut self, opened: Result<(Store, Standing), Trouble>) {
        let Some(projecting) = &mut self.projecting else { return };
        let (store, standing) = match opened {
            Ok(opened) => opened,
            Err(trouble) => return self.in_trouble(trouble),
        };
        if std::mem::take(&mut projecting.stale) {
            projecting.state = State::Closed;
            return;
        }
        let name = &self.terms.subscription.name;
        if projecting.is_behind(standing.position, self.runner.rewound) {
            tracing::warn!(
                subscription = %name, position = standing.position, acknowledged = projecting.acknowledged,
                "the database is behind what was acknowledged; those events are asked for again"
            );
            projecting.state = State::Closed;
            self.runner.rewind = Some(standing.position + 1);
            return;
        }
        if standing.beside && projecting.standing.as_ref().is_none_or(|before| !before.beside) {
            tracing::info!(subscription = %name, position = standing.position, "its tables are built anew, beside");
        }
        if projecting.verified == Verified::Asked {
            projecting.verified = Verified::Yes;
            // What the broker counts beyond is known to be nothing.
            projecting.acknowledged = standing.position;
        }
        projecting.standing = Some(standing);
        projecting.state = State::Open(store);
        self.out_of_trouble();
    }

    /// Events were applied, or not.
    pub(super) fn applied(&mut self, turns: Vec<Turn>, applied: Result<(Store, Applied), Trouble>) {
        let Some(projecting) = &mut self.projecting else { return };
        let (store, applied) = match applied {
            Ok(applied) => applied,
            Err(trouble) => {
                self.metrics.unavailable.inc();
                self.back(turns);
                return self.in_trouble(trouble);
            }
        };
        projecting.state = State::Open(store);
        if std::mem::take(&mut projecting.stale) {
            projecting.state = State::Closed;
        }
        let mut turns = turns.into_iter();
        match applied {
            Applied::Done(count) => {
                self.done(turns.by_ref().take(count));
                self.back(turns.collect());
            }
            Applied::Rejected(count, cause) => {
                self.done(turns.by_ref().take(count));
                let rejected = turns.next();
                self.back(turns.collect());
                if let Some(turn) = rejected {
                    self.metrics.rejected.inc();
                    self.reject(&turn, cause);
                }
            }
            Applied::Failed(count, cause) => {
                self.done(turns.by_ref().take(count));
                let rest: Vec<_> = turns.collect();
                let failed = rest.first().and_then(|turn| turn.position);
                self.back(rest);
                if let Some(position) = failed {
                    self.metrics.failed.inc();
                    self.try_later(position, cause);
                }
            }
            Applied::Fenced => {
                tracing::info!(
                    subscription = %self.terms.subscription.name,
                    "another writer has moved the position on; it is read again"
                );
                self.back(turns.collect());
                if let Some(projecting) = &mut self.projecting {
                    projecting.forget();
                }
                return;
            }
        }
        self.out_of_trouble();
    }

    /// What is in is over.
    fn done(&mut self, turns: impl Iterator<Item = Turn>) {
        for turn in turns {
            let sequence = turn.item.sequence;
            if let Some(projecting) = &mut self.projecting
                && let Some(standing) = &mut projecting.standing
            {
                (standing.position, standing.rejected) = (sequence, None);
                projecting.acknowledged = projecting.acknowledged.max(sequence);
                projecting.exhausted.take_if(|(given_up, _)| *given_up <= sequence);
            }
            if matches!(turn.item.work, Work::Apply(_)) {
                self.metrics.done.inc();
            }
            self.runner.rewound = None;
            self.entry.last_sequence.fetch_max(sequence, Relaxed);
            if let Some(position) = turn.position {
                self.finish(position, turn.end);
                self.projecting.iter_mut().for_each(|projecting| projecting.moved = true);
            }
        }
    }

    /// What is not in goes back to its place.
    fn back(&mut self, turns: Vec<Turn>) {
        for turn in turns.into_iter().rev() {
            let Some(position) = turn.position else { continue };
            match (turn.burial, &mut self.projecting) {
                (Some(reason), Some(projecting)) => projecting.buried = Some((position, reason)),
                _ => self.lanes.put_first(position),
            }
        }
        self.recount();
    }

    fn reject(&mut self, turn: &Turn, cause: String) {
        let Some(position) = turn.position else { return };
        self.count_attempt(position);
        let mut reason = DeadReason::Rejected;
        if let Some(projecting) = &mut self.projecting {
            if let Some(standing) = &mut projecting.standing {
                standing.rejected = Some((turn.item.sequence, cause.clone()));
            }
            if projecting.exhausted.take_if(|(sequence, _)| *sequence == turn.item.sequence).is_some() {
                reason = DeadReason::Exhausted;
            }
        }
        self.bury(position, reason, cause);
    }

    fn bury(&mut self, position: Position, reason: DeadReason, cause: String) {
        if let Some(projecting) = &mut self.projecting {
            projecting.burying = true;
        }
        self.give_up(position, reason, cause);
    }

    fn try_later(&mut self, position: Position, cause: String) {
        let attempts = self.count_attempt(position);
        let delay = self.retry_delay(attempts);
        let most = self.terms.subscription.retry.max_attempts;
        tracing::debug!(
            subscription = %self.terms.subscription.name, sequence = position.sequence, attempts, %cause,
            "an event failed and is tried again"
        );
        let Some(projecting) = &mut self.projecting else { return };
        if attempts >= most {
            projecting.exhausted = Some((position.sequence, cause));
        } else {
            projecting.next = Instant::now() + delay;
        }
    }

    /// Whether what is given up for this reason had its turn: the position passes it once it is buried.
    pub(super) fn is_in_line(&self, reason: DeadReason) -> bool {
        self.projecting.is_some() && reason != DeadReason::Malformed
    }

    /// Its dead letter is stored, or it is to have none.
    pub(super) fn buried(&mut self, position: Position, reason: DeadReason) {
        if let Some(projecting) = &mut self.projecting {
            projecting.burying = false;
            projecting.buried = Some((position, reason));
        }
    }

    /// What was built beside has taken its place, or could not.
    pub(super) fn swapped(&mut self, swapped: Result<(), Trouble>) {
        match swapped {
            Ok(()) => {
                tracing::info!(subscription = %self.terms.subscription.name, "its tables are built anew");
                if let Some(projecting) = &mut self.projecting {
                    projecting.state = State::Closed;
                    projecting.standing = None;
                }
            }
            Err(trouble) => self.in_trouble(trouble),
        }
    }

    /// This replica applies from now on; another may have before.
    pub(super) fn begins(&mut self, look: &Look) {
        if let Some(projecting) = &mut self.projecting {
            projecting.acknowledged = projecting.acknowledged.max(look.acknowledged());
            projecting.forget();
            projecting.verified = Verified::Asked;
        }
    }

    /// The broker says how far the durable is.
    pub(super) fn rests(&mut self, index: usize, look: &Look) {
        let idle = self.pulls[index].held == 0;
        let rewound = self.runner.rewound;
        let Some(projecting) = &mut self.projecting else { return };
        projecting.drained = idle && look.is_drained();
        if !projecting.drained {
            return;
        }
        projecting.moved = false;
        match (projecting.verified, &projecting.standing) {
            (Verified::Yes, _) => projecting.follow = Some(look.acknowledged()),
            (Verified::No | Verified::Asked, standing) => {
                projecting.acknowledged = projecting.acknowledged.max(look.acknowledged());
                let position = standing.as_ref().map(|standing| standing.position);
                match position {
                    Some(position) if projecting.is_behind(position, rewound) => {
                        projecting.forget();
                        projecting.verified = Verified::Asked;
                    }
                    Some(position) => {
                        projecting.verified = Verified::Yes;
                        projecting.acknowledged = position;
                        projecting.follow = Some(look.acknowledged());
                    }
                    // It is compared once the database is open.
                    None => projecting.verified = Verified::Asked,
                }
            }
        }
    }

    fn in_trouble(&mut self, trouble: Trouble) {
        let Some(projecting) = &mut self.projecting else { return };
        projecting.state = State::Closed;
        projecting.stale = false;
        projecting.doubt();
        projecting.next = Instant::now() + projecting.delay;
        projecting.delay = (projecting.delay * 2).min(LONGEST_DELAY);
        projecting.trouble = Some(match trouble {
            Trouble::Away(cause) => Held { reason: held::DATABASE_UNAVAILABLE, cause },
            Trouble::Invalid(cause) => Held { reason: held::INVALID_PROJECTION, cause },
            Trouble::Waits(cause) => Held { reason: held::REBUILD_PENDING, cause: cause.to_owned() },
        });
        self.show_hold();
    }

    fn out_of_trouble(&mut self) {
        let Some(projecting) = &mut self.projecting else { return };
        projecting.delay = FIRST_DELAY;
        if projecting.trouble.take().is_some() {
            self.show_hold();
        }
    }
}
