//! Letting go of durables: to another replica, for a while, or for good.
//!
//! The pulls are taken back first. The broker then says how much is out: what is not held here was lost on its way, and is
//! given back at once. Then the pin is given up. The next holder's barrier waits for what is still held here: that is
//! finished, or given back once the other has waited long enough, and then the others are told that nothing is left.

use std::time::Duration;

use bytes::Bytes;
use murmur_mesh::durable::{PIN_GROUP, Shard};
use murmur_mesh::subject;
use tokio::time::Instant;

use super::{Ended, LET_GO, PARTING, Subscription};
use crate::bus::delivered::GIVE_BACK;
use crate::deliver::barrier::Look;
use crate::deliver::fence::Moment;
use crate::deliver::lanes::Position;
use crate::deliver::recall::{self, Recall};

impl Subscription {
    /// Takes what is this replica's to receive, and lets go of the rest.
    pub(super) fn assign(&mut self, now: Instant) {
        let none = self.terms.subscription.suspend || self.stopping.is_some() || self.filter.is_err();
        for index in 0..self.pulls.len() {
            let ours = match self.pulls[index].shard {
                Shard::Number(shard) => self.peers.is_ours(&self.terms.subscription.name, shard),
                Shard::All => true,
            };
            let wanted = !none && ours;
            let pull = &mut self.pulls[index];
            if pull.wanted == wanted {
                continue;
            }
            pull.wanted = wanted;
            if wanted {
                pull.give_back_at = None;
                pull.restart(now);
                self.returning.push(index);
                if self.pulls[index].parts_by.take().is_some() {
                    self.unpin(index);
                }
            } else {
                tracing::debug!(durable = %pull.durable, held = pull.held, "lets go of a durable");
                pull.next_sign = now;
                let had_pin = pull.let_go();
                pull.recall = Recall::default();
                self.leaving.push((index, had_pin));
            }
        }
    }

    /// Takes back the pulls of what is let go of, before the pins are given up: in the other order the broker would give
    /// them to those pulls again.
    pub(super) async fn leave(&mut self) {
        for (index, had_pin) in std::mem::take(&mut self.leaving) {
            if let Err(error) = self.inboxes.take_back(index).await {
                tracing::error!(%error, "cannot receive");
            }
            let now = Instant::now();
            let pull = &mut self.pulls[index];
            pull.restart(now);
            if had_pin && pull.wanted {
                // It is this replica's again by now, which pulls without a pin like any other.
                self.unpin(index);
            } else if had_pin {
                pull.parts_by = Some(now + PARTING);
                pull.look_at = Some(now);
            }
        }
    }

    /// What was another's for longer than the ack wait begins with a fresh inbox: nothing in the one before is young
    /// enough to be ours, and the broker was not heard of it for no reason but that it was not asked.
    pub(super) async fn come_back(&mut self) {
        let moment = Moment::now();
        for index in std::mem::take(&mut self.returning) {
            let pull = &mut self.pulls[index];
            if pull.held > 0 || pull.fence.holds(moment) {
                continue;
            }
            pull.fence.heard(moment);
            self.replace_inbox(index).await;
        }
    }

    /// The broker's word, asked for after the pulls were taken back: nothing is on its way here any more. `held`: how much of
    /// what is out is here.
    pub(super) fn part(&mut self, index: usize, look: &Look, held: usize) {
        let pull = &mut self.pulls[index];
        if pull.parts_by.take().is_none() {
            return;
        }
        if pull.vouches && look.pin().is_some() && look.pin() == pull.last_pin() {
            let places = recall::places(look, look.upto());
            if look.out > held && places.start() - 1 == look.floor() {
                pull.last = pull.last.max(look.upto());
                self.give_back_unseen(index, places, look.handed_out());
            } else if look.out > held {
                pull.vouches = false;
            }
        }
        self.unpin(index);
    }

    /// Gives up the pins of which the broker had no word to say in time.
    pub(super) fn part_overdue(&mut self, now: Instant) {
        for index in 0..self.pulls.len() {
            let pull = &mut self.pulls[index];
            if pull.parts_by.take_if(|by| *by <= now).is_some() {
                pull.vouches = false;
                self.unpin(index);
            }
        }
    }

    /// Another replica receives the durable's events from now on.
    pub(super) fn pin_lost(&mut self, index: usize) {
        let pull = &self.pulls[index];
        tracing::debug!(durable = %pull.durable, held = pull.held, "another replica receives its events now");
    }

    /// Without it another replica would wait for the pin's time to run out.
    pub(super) fn unpin(&self, index: usize) {
        let request = Bytes::from(format!(r#"{{"group":"{PIN_GROUP}"}}"#));
        let reply = self.inboxes.reply(index, "unpin");
        let client = self.runner.bus.client().clone();
        let subject = subject::unpin_request(&self.pulls[index].durable);
        self.work.push(Box::pin(async move {
            let _ = client.publish_with_reply(subject, reply, request).await;
            Ended::Sent
        }));
    }

    /// Gives back what is held although another receives now, once that one has
    /// waited long enough; says so when nothing is left.
    pub(super) fn let_go(&mut self, now: Instant) {
        let at_once = self.terms.subscription.suspend || self.stopping.is_some();
        let mut due = false;
        for pull in &mut self.pulls {
            let receives = pull.has_pin() || pull.wanted && !pull.is_pinned();
            if receives || pull.held == 0 {
                pull.give_back_at = None;
            } else {
                let wait = if at_once { Duration::ZERO } else { LET_GO };
                let at = pull.give_back_at.get_or_insert(now + wait);
                *at = (*at).min(now + wait);
                due |= *at <= now;
            }
            if pull.vouches && pull.held == 0 && !pull.has_pin() && pull.parts_by.is_none() {
                pull.vouches = false;
                self.runner.board.release(pull.durable.as_str(), pull.last);
            }
        }
        if due {
            self.give_back(now);
        }
    }

    fn give_back(&mut self, now: Instant) {
        for pull in self.pulls.iter_mut().filter(|pull| pull.give_back_at.is_some_and(|at| at <= now)) {
            pull.lacks();
        }
        let pulls = &self.pulls;
        let due = |position: Position| pulls[position.durable].give_back_at.is_some_and(|at| at <= now);
        for held in self.lanes.release(due) {
            self.say(held.reply, GIVE_BACK);
        }
        self.recount();
    }
}
