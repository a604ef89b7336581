//! Beginning to receive: nothing is sent before all that comes first is here.

use std::ops::RangeInclusive;

use bytes::Bytes;
use futures::FutureExt;
use murmur_mesh::subject;
use tokio::time::Instant;

use super::{RETRY, SHORT_SIGN_INTERVAL, SIGN_INTERVAL, Subscription};
use crate::bus::delivered::{GIVE_BACK, unseen};
use crate::bus::leader;
use crate::deliver::barrier::{Barrier, Census, Look};
use crate::deliver::lanes::Position;
use crate::deliver::recall::{self, Knowledge};
use crate::deliver::said;

impl Subscription {
    /// This replica receives the durable's events from now on.
    pub(super) fn took_over(&mut self, index: usize, now: Instant) {
        self.receives(index);
        self.shut(index, Barrier::shut(now));
        self.pulls[index].search(now);
    }

    /// Something was lost on its way here.
    pub(super) fn missed(&mut self, index: usize, now: Instant) {
        tracing::debug!(durable = %self.pulls[index].durable, "something was lost on its way here");
        if self.pulls[index].barrier.is_open() {
            self.shut(index, Barrier::shut_unsure(now));
        }
        self.pulls[index].search(now);
    }

    /// The broker sends the durable's events to this replica.
    pub(super) fn receives(&mut self, index: usize) {
        let pull = &mut self.pulls[index];
        tracing::debug!(durable = %pull.durable, sole = pull.sole, "this replica receives its events");
        pull.vouches = false;
        self.runner.board.take_again(pull.durable.as_str());
    }

    /// What was on its way here may be lost.
    pub(super) fn shut_unsure(&mut self, index: usize, now: Instant) {
        self.pulls[index].doubts(self.lanes.last(index));
        if self.pulls[index].has_pin() {
            self.shut(index, Barrier::shut_unsure(now));
        }
        self.pulls[index].search(now);
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
            pull.look_at = None;
            if pull.recall.asked(now) {
                // Pods that do not know this one answer with a report of their own.
                self.runner.board.changed.notify_one();
            }
            pull.next_sign = now + if pull.waits() { SHORT_SIGN_INTERVAL } else { SIGN_INTERVAL };
            let subject = subject::info_request(&pull.durable);
            let reply = self.inboxes.reply(index, "info");
            let asking = self.runner.bus.client().publish_with_reply(subject, reply, Bytes::new());
            if !matches!(tokio::task::unconstrained(asking).now_or_never(), Some(Ok(()))) {
                tracing::debug!(retry = ?RETRY, "no room to ask how much of a durable is out");
            }
        }
    }

    /// The broker's answer to that; `is_fresh`: it was asked after the durable's pulls were taken back, if they were.
    pub(super) fn looked(&mut self, index: usize, answer: &[u8], is_fresh: bool, now: Instant) {
        if !leader::speaks(self.runner.bus.client(), answer) {
            return;
        }
        match self.pulls[index].said.informed(answer) {
            said::Whose::Same(words) => words.into_iter().for_each(|(reply, word)| self.say(reply, word)),
            said::Whose::Another => return self.is_replaced = true,
            said::Whose::Unknown => {}
        }
        let Ok(look) = serde_json::from_slice::<Look>(answer) else { return };
        self.pulls[index].answered();
        self.forgets(index, look.upto());
        let given_back = self.peers.released(self.pulls[index].durable.as_str()).unwrap_or(0);
        let mut here = Census { held: 0, again: false };
        for (sequence, held) in self.lanes.up_to(index, look.upto()) {
            here.held += 1;
            // What a live holder gave back it will not acknowledge any more.
            here.again |= held.again && sequence > given_back;
        }
        if is_fresh {
            self.part(index, &look, here.held);
        }
        let whose = self.whose(index, &look, now);
        if self.pulls[index].barrier.looked(&look, here, whose == recall::Whose::Ours, now) {
            tracing::debug!(durable = %self.pulls[index].durable, held = here.held, "all that comes first is here");
            self.pulls[index].completes();
            self.lanes.open(index);
            self.begins(&look);
        }
        self.rests(index, &look);
        if let Some(places) = self.pulls[index].recall.looked(&look, here.held, whose, now) {
            self.give_back_unseen(index, places, look.handed_out());
        }
    }

    /// A broker that was killed may not know any more that it handed out the last events: they come again, each in its
    /// place. To go on with those that are here would be to pass others, which it handed to another replica before them.
    fn forgets(&mut self, index: usize, upto: u64) {
        if !self.pulls[index].has_forgotten(upto) {
            return;
        }
        let forgotten = |position: Position| position.durable == index && position.sequence > upto;
        let events = self.lanes.release(forgotten).len();
        self.recount();
        let durable = &self.pulls[index].durable;
        tracing::debug!(%durable, events, upto, "the bus has forgotten what it handed out last");
    }

    /// Who can have what is out and not held here.
    fn whose(&self, index: usize, look: &Look, now: Instant) -> recall::Whose {
        let pull = &self.pulls[index];
        let since = pull.barrier.since().or(pull.recall.since());
        let knowledge = Knowledge {
            pin: pull.pin(),
            sole: pull.sole,
            alone: since.is_some_and(|since| self.peers.is_alone(since, now)),
            others: self.peers.number() > 1,
        };
        recall::Whose::of(look, knowledge)
    }

    /// Lets the broker deliver again, now, what is out and not here.
    pub(super) fn give_back_unseen(&mut self, index: usize, places: RangeInclusive<u64>, handed_out: u64) {
        let durable = self.pulls[index].durable.clone();
        tracing::debug!(%durable, ?places, "asks back what was lost on its way here");
        for sequence in places {
            if self.lanes.is_lost(Position { durable: index, sequence }) {
                self.say(unseen(&durable, sequence, handed_out).into(), GIVE_BACK);
            }
        }
        self.pulls[index].barrier.expect_nothing();
    }
}
