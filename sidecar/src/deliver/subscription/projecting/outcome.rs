//! What came of the work on the database, and what follows from it.

use murmur_mesh::report::held;
use tokio::time::Instant;

use super::turns::Turn;
use super::{FIRST_DELAY, LONGEST_DELAY, State, Verified};
use crate::board::Held;
use crate::deliver::lanes::Position;
use crate::deliver::subscription::Subscription;
use crate::metrics::DeadReason;
use crate::project::{Applied, Standing, Store, Trouble};

impl Subscription {
    /// The database was opened, or could not be.
    pub(in crate::deliver::subscription) fn opened(&mut self, opened: Result<(Store, Standing), Trouble>) {
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
    pub(in crate::deliver::subscription) fn applied(
        &mut self,
        turns: Vec<Turn>,
        applied: Result<(Store, Applied), Trouble>,
    ) {
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

    pub(in crate::deliver::subscription) fn bury(
        &mut self,
        position: Position,
        reason: DeadReason,
        cause: String,
    ) {
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
    pub(in crate::deliver::subscription) fn is_in_line(&self, reason: DeadReason) -> bool {
        self.projecting.is_some() && reason != DeadReason::Malformed
    }

    /// Its dead letter is stored, or it is to have none.
    pub(in crate::deliver::subscription) fn buried(&mut self, position: Position, reason: DeadReason) {
        if let Some(projecting) = &mut self.projecting {
            projecting.burying = false;
            projecting.buried = Some((position, reason));
        }
    }

    /// What was built beside has taken its place, or could not.
    pub(in crate::deliver::subscription) fn swapped(&mut self, swapped: Result<(), Trouble>) {
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
