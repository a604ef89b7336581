//! Pulling from one durable: what to ask the broker for.
//!
//! One pull at a time asks for as much as there is room for. While there is no
//! room, a pull that no event fits into keeps the pin alive and shows that the
//! broker is still there.

mod answers;

use std::time::Duration;

use bytes::Bytes;
use murmur_mesh::durable::{DurableName, PIN_GROUP, PULL_EXPIRES, Shard};
use murmur_mesh::subject;
use serde::Serialize;
use tokio::time::Instant;

pub(super) use self::answers::{Receipt, Status};
use super::barrier::Barrier;
use super::fence::{Fence, Moment};
use super::recall::Recall;
use super::said::Said;

/// How long a pull may be overdue before it is taken for lost.
const OVERDUE: Duration = Duration::from_secs(1);
/// After an answer that says that this cannot work now.
const PAUSE: Duration = Duration::from_secs(1);
/// After a change of the durable's leader.
const SHORT_PAUSE: Duration = Duration::from_millis(250);

/// One durable and what is asked of it.
#[derive(Debug)]
pub(super) struct Pull {
    pub(super) durable: DurableName,
    pub(super) shard: Shard,
    /// Whether its events have an order at all.
    is_ordered: bool,
    pub(super) fence: Fence,
    pub(super) barrier: Barrier,
    pub(super) recall: Recall,
    pub(super) said: Said,
    /// Whether this replica is to receive its events.
    pub(super) wanted: bool,
    /// When what is held is given back, as another replica receives now.
    pub(super) give_back_at: Option<Instant>,
    /// It was let go of while all that was out was here: this replica can say
    /// so once nothing is left.
    pub(super) vouches: bool,
    /// Until when the broker's word is awaited before the pin is given up.
    pub(super) parts_by: Option<Instant>,
    /// The last event that came, by its place in the stream.
    pub(super) last: u64,
    /// The last place in the stream of what was held when the connection was lost, until the broker has said whether
    /// it remembers that it handed that out.
    doubted: Option<u64>,
    /// When the broker is asked for a sign of life, as no pull brings one.
    pub(super) next_sign: Instant,
    /// When the broker is asked how far it is, for no other reason.
    pub(super) look_at: Option<Instant>,
    /// What is held from it: events and their bytes.
    pub(super) held: usize,
    pub(super) held_bytes: usize,
    /// How many events followed the one that came last; 0 without the pin.
    pub(super) pending: u64,
    /// All that is out was handed to this replica, and to nobody else.
    pub(super) sole: bool,
    /// All that is out is held here or on its way, as far as this replica can tell.
    whole: bool,
    /// How many events the durable had handed out with the last one that came.
    handed_out: u64,
    pin: Option<String>,
    /// The pin that this replica had last.
    last_pin: Option<String>,
    number: u32,
    open: Option<Open>,
    not_before: Instant,
    missing: bool,
    /// The last pull came to no end: nothing is asked for before the broker shows that it is
    /// there. A broker that reads pulls late, after it stood still, hands out events to
    /// a connection that is gone by then.
    unanswered: bool,
}

#[derive(Debug)]
struct Open {
    number: u32,
    /// Events that may still come.
    asked: usize,
    until: Instant,
    /// Asks for nothing: only keeps the pin alive.
    empty: bool,
    /// Ended by an event that there was no room for: asking again at once would be in vain.
    starved: bool,
}

/// How much may be held from one durable.
#[derive(Debug, Clone, Copy)]
pub(super) struct Window {
    pub(super) events: usize,
    pub(super) bytes: usize,
}

/// A pull to be sent.
#[derive(Debug)]
pub(super) struct Ask {
    pub(super) subject: String,
    /// The last token of where the answers go.
    pub(super) number: u32,
    pub(super) payload: Bytes,
}

/// The body of a pull: `JSApiConsumerGetNextRequest` of nats-server 2.15.
#[derive(Serialize)]
struct Request<'a> {
    batch: usize,
    max_bytes: usize,
    /// Nanoseconds.
    expires: u128,
    #[serde(skip_serializing_if = "Option::is_none")]
    group: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
}

fn is_pinned(shard: Shard) -> bool {
    matches!(shard, Shard::Number(_))
}

impl Pull {
    pub(super) fn new(durable: DurableName, shard: Shard, is_ordered: bool, now: Instant) -> Self {
        Self {
            durable,
            shard,
            is_ordered,
            fence: Fence::new(Moment::now()),
            barrier: if is_pinned(shard) { Barrier::shut(now) } else { Barrier::open() },
            recall: Recall::default(),
            said: Said::default(),
            wanted: true,
            give_back_at: None,
            vouches: false,
            parts_by: None,
            last: 0,
            doubted: None,
            next_sign: now,
            look_at: None,
            held: 0,
            held_bytes: 0,
            pending: 0,
            sole: false,
            whole: false,
            handed_out: 0,
            pin: None,
            last_pin: None,
            number: 0,
            open: None,
            not_before: now,
            missing: false,
            unanswered: false,
        }
    }

    /// Whether one replica at a time holds it.
    pub(super) fn is_pinned(&self) -> bool {
        is_pinned(self.shard)
    }

    /// Whether the broker does not know it.
    pub(super) fn is_missing(&self) -> bool {
        self.missing
    }

    /// Whether this replica holds the pin, as far as is known.
    pub(super) fn has_pin(&self) -> bool {
        self.pin.is_some()
    }

    /// The pin that this replica holds, as far as is known.
    pub(super) fn pin(&self) -> Option<&str> {
        self.pin.as_deref()
    }

    /// The one that it had last.
    pub(super) fn last_pin(&self) -> Option<&str> {
        self.last_pin.as_deref()
    }

    /// All that is out is here: nobody else has any of it.
    pub(super) fn completes(&mut self) {
        (self.sole, self.whole) = (true, true);
    }

    /// Something that is out is let go of.
    pub(super) fn lacks(&mut self) {
        self.whole = false;
    }

    /// The connection was lost. `last`: the last place in the stream of what is held.
    pub(super) fn doubts(&mut self, last: u64) {
        self.doubted = Some(last);
    }

    /// Up to where the broker says that it has handed out. `true`: it has forgotten what it handed out last.
    pub(super) fn has_forgotten(&mut self, upto: u64) -> bool {
        self.doubted.take().is_some_and(|last| last > upto)
    }

    /// Looks for what may have been lost on its way here. Without an order it may come
    /// again when it will.
    pub(super) fn search(&mut self, now: Instant) {
        if self.is_ordered && self.wanted {
            self.recall.begin(now);
        }
    }

    /// The broker showed that it is there.
    pub(super) fn answered(&mut self) {
        self.unanswered = false;
    }

    /// The durable has, or is about to have, another leader. What was said while nobody led was heard by nobody, and what
    /// the one before had heard last it may have dropped without a word: acknowledgements, and the open pull.
    pub(super) fn is_led_anew(&mut self, now: Instant) {
        // Who leads is asked once it hears acknowledgements, too.
        let settled = now + SHORT_PAUSE;
        self.open = None;
        self.unanswered = false;
        self.said.unsure();
        self.next_sign = settled;
        self.search(settled);
        self.not_before = settled;
    }

    /// Forgets what is open: the connection or the inbox is another one now.
    pub(super) fn restart(&mut self, now: Instant) {
        self.open = None;
        self.unanswered = false;
        self.not_before = now;
        self.next_sign = now;
    }

    /// Another receives from now on. Returns whether this replica did.
    pub(super) fn let_go(&mut self) -> bool {
        self.open = None;
        self.pending = 0;
        let had = self.pin.is_some();
        self.last_pin = self.pin.take().or(self.last_pin.take());
        self.vouches = had && self.barrier.is_open();
        self.barrier.expect_nothing();
        had
    }

    /// The pull to send now, if any.
    pub(super) fn ask(&mut self, now: Instant, window: Window) -> Option<Ask> {
        let lost = |open: &mut Open| now >= open.until + OVERDUE;
        if self.open.take_if(lost).is_some_and(|open| open.asked > 0 && !open.starved) {
            self.unanswered = true;
            self.next_sign = now;
            self.search(now);
        }
        if now < self.not_before || !self.wanted || self.waits() {
            return None;
        }
        let room = window.events.saturating_sub(self.held);
        let most = window.bytes.saturating_mul(self.barrier.stretch(now));
        let bytes = most.saturating_sub(self.held_bytes);
        // A little room is not worth a round trip, unless nothing is held at all, or what is held waits for what is not.
        let worth = room * 4 >= window.events && bytes * 4 >= window.bytes;
        let waits = !self.barrier.is_open() && room > 0 && bytes > 0;
        let fill = self.barrier.may_fill(now) && (worth || waits || self.held == 0);
        if let Some(open) = &self.open
            && open.asked > 0
            && !(open.empty && fill)
        {
            return None;
        }
        let (batch, max_bytes) = if fill { (room, bytes) } else { (1, 1) };
        let pinned = self.is_pinned();
        let request = Request {
            batch,
            max_bytes,
            expires: PULL_EXPIRES.as_nanos(),
            group: pinned.then_some(PIN_GROUP),
            id: self.pin.as_deref().filter(|_| pinned),
        };
        let payload = serde_json::to_vec(&request).ok()?;
        self.number = self.number.wrapping_add(1);
        self.open = Some(Open {
            number: self.number,
            asked: batch,
            until: now + PULL_EXPIRES,
            empty: !fill,
            starved: false,
        });
        let subject = subject::next_request(&self.durable);
        Some(Ask { subject, number: self.number, payload: Bytes::from(payload) })
    }

    /// When [`Self::ask`] may have something to say although nothing happened.
    pub(super) fn next_look(&self) -> Option<Instant> {
        (self.wanted && !self.waits()).then(|| self.next_ask())
    }

    fn next_ask(&self) -> Instant {
        self.open.as_ref().map_or(self.not_before, |open| open.until + OVERDUE)
    }

    /// When the broker is to be asked how much is out: for the barrier, or for a
    /// sign of life where something is held and no pull brings one, or which durable it is.
    pub(super) fn next_question(&self) -> Option<Instant> {
        let asks = if self.wanted { self.said.asks() || self.unanswered } else { self.held > 0 };
        let sign = asks.then_some(self.next_sign);
        let looks = [self.barrier.next_look(self.held), self.recall.next_look(), sign, self.look_at];
        looks.into_iter().flatten().min()
    }

    /// Whether nothing may be asked for before the broker has answered a question.
    pub(super) fn waits(&self) -> bool {
        // Without a pin, what is asked for would come before what is given back.
        let searches = !self.is_pinned() && self.recall.since().is_some();
        self.unanswered || searches || !self.said.is_sure()
    }

    /// An event of so many bytes is held.
    pub(super) fn takes(&mut self, bytes: usize) {
        self.held += 1;
        self.held_bytes += bytes;
    }

    /// An event of so many bytes is held no longer.
    pub(super) fn lets_go(&mut self, bytes: usize) {
        self.held = self.held.saturating_sub(1);
        self.held_bytes = self.held_bytes.saturating_sub(bytes);
        self.open.take_if(|open| open.starved);
    }

    fn pause(&mut self, now: Instant, pause: Duration) {
        self.not_before = now + pause;
    }
}

#[cfg(test)]
mod tests;
