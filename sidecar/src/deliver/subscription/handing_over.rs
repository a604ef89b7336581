//! Letting go of durables: to another replica, for a while, or for good.
//!
//! The pin is given up first. The next holder's barrier waits for what is still
//! held here: that is finished, or given back once the other has waited long
//! enough, and then the others are told that nothing is left.

use std::time::Duration;

use bytes::Bytes;
use murmur_mesh::durable::{PIN_GROUP, Shard};
use murmur_mesh::subject;
use tokio::time::Instant;

use super::{Arrivals, Ended, LET_GO, Subscription};
use crate::bus::delivered::GIVE_BACK;
use crate::deliver::lanes::Position;
use crate::deliver::recall::Recall;

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
            } else {
                tracing::debug!(durable = %pull.durable, held = pull.held, "lets go of a durable");
                pull.next_sign = now;
                let had_pin = pull.let_go();
                pull.recall = Recall::default();
                self.leaving.push((index, had_pin));
            }
        }
    }

    /// Takes back the pulls that are open, and then gives the pins up: in the other
    /// order the broker would give them to those pulls again. What was sent on
    /// them already still arrives.
    pub(super) async fn leave(&mut self, arrivals: &mut Arrivals) {
        for old in arrivals.iter_mut() {
            let _ = old.drain().await;
        }
        self.inbox = self.runner.bus.client().new_inbox();
        match self.runner.bus.client().subscribe(format!("{}.*.*", self.inbox)).await {
            Ok(fresh) => arrivals.push(fresh),
            Err(error) => tracing::error!(%error, "cannot receive"),
        }
        let now = Instant::now();
        for pull in &mut self.pulls {
            pull.restart(now);
        }
        for (index, had_pin) in std::mem::take(&mut self.leaving) {
            if had_pin {
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
        let reply = format!("{}.{index}.unpin", self.inbox);
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
            if pull.vouches && pull.held == 0 && !pull.has_pin() {
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
