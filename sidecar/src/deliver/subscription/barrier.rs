//! Beginning to receive: nothing is sent before all that comes first is here.

use bytes::Bytes;
use futures::FutureExt;
use murmur_mesh::subject;
use tokio::time::Instant;

use super::{LET_GO, RETRY, Subscription};
use crate::bus::delivered::GIVE_BACK;
use crate::deliver::barrier::{Barrier, Census, Look};

impl Subscription {
    /// This replica receives the durable's events from now on.
    pub(super) fn took_over(&mut self, index: usize, now: Instant) {
        tracing::debug!(durable = %self.pulls[index].durable, "this replica receives its events");
        self.pulls[index].give_back_at = None;
        self.shut(index, Barrier::shut(now));
    }

    /// What was on its way here may be lost.
    pub(super) fn shut_unsure(&mut self, now: Instant) {
        for index in 0..self.pulls.len() {
            if self.pulls[index].has_pin() {
                self.shut(index, Barrier::shut_unsure(now));
            }
        }
    }

    fn shut(&mut self, index: usize, barrier: Barrier) {
        self.pulls[index].barrier = barrier;
        self.lanes.shut(index);
    }

    /// Another replica receives the durable's events from now on. What is held
    /// here stays ours for a moment: the other one's barrier waits for it.
    pub(super) fn pin_lost(&mut self, index: usize, now: Instant) {
        let pull = &mut self.pulls[index];
        tracing::debug!(durable = %pull.durable, held = pull.held, "another replica receives its events now");
        pull.give_back_at = Some(now + LET_GO);
        if !pull.barrier.is_open() {
            pull.barrier = Barrier::shut(now);
        }
    }

    /// Gives back what another waits for, once it has waited long enough.
    pub(super) fn let_go(&mut self, now: Instant) {
        let due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        if !self.pulls.iter().any(|pull| due(pull.give_back_at)) {
            return;
        }
        let pulls = &self.pulls;
        for held in self.lanes.release(|index| due(pulls[index].give_back_at)) {
            self.say(held.reply, GIVE_BACK);
        }
        for pull in self.pulls.iter_mut().filter(|pull| due(pull.give_back_at)) {
            pull.give_back_at = None;
        }
        self.recount();
    }

    /// Asks the broker how much is out, where a barrier is shut.
    pub(super) fn look(&mut self, now: Instant) {
        if !self.runner.bus.link().connected {
            return;
        }
        for index in 0..self.pulls.len() {
            let pull = &mut self.pulls[index];
            if pull.barrier.next_look(pull.held).is_none_or(|next| now < next) {
                continue;
            }
            pull.barrier.asked(now);
            let subject = subject::info_request(&pull.durable);
            let reply = format!("{}.{index}.info", self.inbox);
            let asking = self.runner.bus.client().publish_with_reply(subject, reply, Bytes::new());
            if !matches!(asking.now_or_never(), Some(Ok(()))) {
                tracing::debug!(retry = ?RETRY, "no room to ask how much of a durable is out");
            }
        }
    }

    /// The broker's answer to that.
    pub(super) fn looked(&mut self, index: usize, answer: &[u8], now: Instant) {
        let Ok(look) = serde_json::from_slice::<Look>(answer) else { return };
        let mut here = Census { held: 0, again: false };
        for held in self.lanes.up_to(index, look.upto()) {
            here.held += 1;
            here.again |= held.again;
        }
        if self.pulls[index].barrier.looked(look, here, now) {
            tracing::debug!(durable = %self.pulls[index].durable, held = here.held, "all that comes first is here");
            self.lanes.open(index);
        }
    }

    /// When a barrier is looked at again, or something is given back.
    pub(super) fn next_step(&self) -> Option<Instant> {
        let looks = self.pulls.iter().filter_map(|pull| pull.barrier.next_look(pull.held));
        looks.chain(self.pulls.iter().filter_map(|pull| pull.give_back_at)).min()
    }
}
