//! Which events go to the database next, and what the broker is told of them.

use std::sync::atomic::Ordering::Relaxed;

use bytes::Bytes;
use jiff::Timestamp;
use tokio::time::Instant;

use crate::bus::delivered::{ACK, terminate};
use crate::deliver::lanes::Position;
use crate::deliver::subscription::Subscription;
use crate::metrics::{DeadReason, PassedOver};
use crate::project::{Item, Work};

/// Events of one transaction at most.
const MOST: usize = 1024;

/// An event whose turn it is, and what the broker is told when it is over.
pub(in crate::deliver::subscription) struct Turn {
    /// `None`: the position follows the broker's mark.
    pub(super) position: Option<Position>,
    pub(super) item: Item,
    pub(super) end: Bytes,
    pub(super) burial: Option<DeadReason>,
}

impl Subscription {
    /// The events whose turn it is, in their order. What is in already ends here.
    pub(super) fn turns(&mut self, now: Instant) -> Vec<Turn> {
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

    /// What is in is over.
    pub(super) fn done(&mut self, turns: impl Iterator<Item = Turn>) {
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
    pub(super) fn back(&mut self, turns: Vec<Turn>) {
        for turn in turns.into_iter().rev() {
            let Some(position) = turn.position else { continue };
            match (turn.burial, &mut self.projecting) {
                (Some(reason), Some(projecting)) => projecting.buried = Some((position, reason)),
                _ => self.lanes.put_first(position),
            }
        }
        self.recount();
    }
}
