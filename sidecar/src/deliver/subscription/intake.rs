//! Taking events in: asking for them, and what the broker sends back.

use std::hash::BuildHasher;
use std::sync::Arc;

use async_nats::{Message, Subject};
use futures::FutureExt;
use murmur_mesh::config::Ordering;
use tokio::time::Instant;

use super::{Held, MARK_INTERVAL, PINNED_WINDOW, RETRY, ROUTING, Subscription};
use crate::bus::delivered::{Delivered, GIVE_BACK};
use crate::deliver::fence::Moment;
use crate::deliver::lanes::Position;
use crate::deliver::pull::{Receipt, Status, Window};
use crate::deliver::request;
use crate::metrics::DeadReason;

impl Subscription {
    pub(super) fn window(&self) -> Window {
        let events = match self.terms.subscription.ordering {
            Ordering::Key { .. } => PINNED_WINDOW,
            // More than one is never out.
            Ordering::Strict => 1,
            // Without pins the replicas share: what one holds, the others cannot have.
            Ordering::None => (self.terms.concurrency() * 4).clamp(16, PINNED_WINDOW),
        };
        // A whole payload and what comes with it must fit, or it would never come.
        let least = self.runner.bus.client().max_payload() + ROUTING;
        Window { events, bytes: (self.terms.bytes / self.pulls.len().max(1)).max(least) }
    }

    pub(super) fn may_ask(&self) -> bool {
        self.runner.bus.link().connected && !self.runner.bus.is_quiet()
    }

    pub(super) fn pull(&mut self, now: Instant) {
        if !self.may_ask() {
            return;
        }
        let window = self.window();
        for index in 0..self.pulls.len() {
            let Some(ask) = self.pulls[index].ask(now, window) else { continue };
            let reply = self.inboxes.reply(index, ask.number);
            let asking = self.runner.bus.client().publish_with_reply(ask.subject, reply, ask.payload);
            // Unconstrained: after much work in one go tokio would say "not yet" although there is room.
            let asking = tokio::task::unconstrained(asking);
            // No room on the way to the bus, or no client any more: later.
            if !matches!(asking.now_or_never(), Some(Ok(()))) {
                self.pulls[index].restart(now + RETRY);
            }
        }
    }

    /// `false`: what is in the inbox is too old to be ours.
    pub(super) fn arrived(&mut self, message: Message) -> bool {
        let moment = Moment::now();
        match message.status {
            None => {
                let Some(reply) = message.reply.clone() else {
                    return self.informed(&message, moment);
                };
                let Some(delivered) = Delivered::parse(&reply) else { return true };
                let index = self.pulls.iter().position(|pull| pull.durable.as_str() == delivered.durable);
                let Some(index) = index else { return true };
                if !self.pulls[index].fence.holds(moment) {
                    return false;
                }
                self.pulls[index].fence.heard(moment);
                self.pulls[index].pending = delivered.pending;
                let again = delivered.deliveries > 1;
                let position = Position { durable: index, sequence: delivered.sequence };
                self.pulls[index].last = self.pulls[index].last.max(delivered.sequence);
                match self.pulls[index].event(message.headers.as_ref(), delivered.handed_out) {
                    Receipt::Fine => {}
                    Receipt::Gap => self.missed(index, Instant::now()),
                    Receipt::Continues => self.receives(index),
                    Receipt::TakenOver => self.took_over(index, Instant::now()),
                    Receipt::Unwanted if self.lanes.get_mut(position).is_none() => {
                        self.say(reply, GIVE_BACK);
                        self.unpin(index);
                        return true;
                    }
                    // Delivered again while it is held here: it is finished here.
                    Receipt::Unwanted => {}
                }
                self.admit(position, reply, again, message);
            }
            Some(status) => {
                let mut tokens = message.subject.rsplit('.');
                let number = tokens.next().and_then(|token| token.parse().ok());
                let index = tokens.next().and_then(|token| token.parse::<usize>().ok());
                let (Some(number), Some(index)) = (number, index) else { return true };
                let Some(pull) = self.pulls.get_mut(index) else { return true };
                if !pull.fence.holds(moment) {
                    return false;
                }
                pull.fence.heard(moment);
                let was_missing = pull.is_missing();
                match pull.status(number, status, &message, Instant::now()) {
                    Status::Fine => {}
                    Status::PinLost => self.pin_lost(index),
                    Status::Missing if !was_missing => {
                        tracing::info!(durable = %self.pulls[index].durable, "is not there yet");
                    }
                    Status::Missing => {}
                    Status::Refused(cause) => {
                        tracing::warn!(durable = %self.pulls[index].durable, %cause, "the bus refused a pull");
                    }
                }
            }
        }
        true
    }

    /// An answer of the broker about a durable.
    fn informed(&mut self, message: &Message, moment: Moment) -> bool {
        let index = message.subject.rsplit('.').nth(1).and_then(|token| token.parse::<usize>().ok());
        let Some(index) = index.filter(|index| *index < self.pulls.len()) else { return true };
        if !self.pulls[index].fence.holds(moment) {
            return false;
        }
        self.pulls[index].fence.heard(moment);
        let is_fresh = self.inboxes.is_current(index, &message.subject);
        self.looked(index, &message.payload, is_fresh, Instant::now());
        true
    }

    fn admit(&mut self, position: Position, reply: Subject, again: bool, message: Message) {
        if let Some(known) = self.lanes.get_mut(position) {
            // Delivered again: the new acknowledgement is the one that counts.
            known.reply = reply.clone();
            known.marked = Instant::now();
            known.again = true;
        }
        let malformed = request::check(&message).err();
        let lane = match self.terms.subscription.ordering {
            // What is applied in the order of the event store has no lanes.
            Ordering::Key { .. } if malformed.is_none() && self.projecting.is_none() => {
                request::key(&message).map(|key| self.hasher.hash_one(key))
            }
            _ => None,
        };
        let bytes = message.length;
        let held = Held {
            message: Arc::new(message),
            reply,
            marked: Instant::now(),
            again,
            alone: false,
            attempts: 0,
            first_attempt: None,
            last_attempt: None,
        };
        if self.lanes.len() == 0 {
            self.next_marks = held.marked + MARK_INTERVAL;
        }
        if self.lanes.admit(position, lane, held).is_some() {
            return;
        }
        self.pulls[position.durable].takes(bytes);
        if let Some(cause) = malformed {
            self.lanes.take_out(position);
            self.give_up(position, DeadReason::Malformed, cause);
        }
    }
}
