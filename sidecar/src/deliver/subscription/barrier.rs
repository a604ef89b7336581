//! Beginning to receive: nothing is sent before all that comes first is here.

use bytes::Bytes;
use futures::FutureExt;
use murmur_mesh::subject;
use tokio::time::Instant;

use super::{RETRY, SHORT_SIGN_INTERVAL, SIGN_INTERVAL, Subscription};
use crate::deliver::barrier::{Barrier, Census, Look};
use crate::deliver::said::Whose;

impl Subscription {
    /// This replica receives the durable's events from now on.
    pub(super) fn took_over(&mut self, index: usize, now: Instant) {
        tracing::debug!(durable = %self.pulls[index].durable, "this replica receives its events");
        self.pulls[index].vouches = false;
        self.runner.board.take_again(self.pulls[index].durable.as_str());
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

    /// Asks the broker how much is out, where a barrier is shut.
    pub(super) fn look(&mut self, now: Instant) {
        if !self.runner.bus.link().connected {
            return;
        }
        for index in 0..self.pulls.len() {
            let pull = &mut self.pulls[index];
            if pull.next_question().is_none_or(|next| now < next) {
                continue;
            }
            pull.barrier.asked(now);
            pull.next_sign = now + if pull.said.is_sure() { SIGN_INTERVAL } else { SHORT_SIGN_INTERVAL };
            let subject = subject::info_request(&pull.durable);
            let reply = format!("{}.{index}.info", self.inbox);
            let asking = self.runner.bus.client().publish_with_reply(subject, reply, Bytes::new());
            if !matches!(tokio::task::unconstrained(asking).now_or_never(), Some(Ok(()))) {
                tracing::debug!(retry = ?RETRY, "no room to ask how much of a durable is out");
            }
        }
    }

    /// The broker's answer to that.
    pub(super) fn looked(&mut self, index: usize, answer: &[u8], now: Instant) {
        match self.pulls[index].said.informed(answer) {
            Whose::Same(words) => words.into_iter().for_each(|(reply, word)| self.say(reply, word)),
            Whose::Another => return self.is_replaced = true,
            Whose::Unknown => {}
        }
        let Ok(look) = serde_json::from_slice::<Look>(answer) else { return };
        let given_back = self.peers.released(self.pulls[index].durable.as_str()).unwrap_or(0);
        let mut here = Census { held: 0, again: false };
        for (sequence, held) in self.lanes.up_to(index, look.upto()) {
            here.held += 1;
            // What a live holder gave back it will not acknowledge any more.
            here.again |= held.again && sequence > given_back;
        }
        if self.pulls[index].barrier.looked(look, here, now) {
            tracing::debug!(durable = %self.pulls[index].durable, held = here.held, "all that comes first is here");
            self.lanes.open(index);
        }
    }
}
