//! Pulling from one durable: what to ask the broker for, and what its answers mean.
//!
//! One pull at a time asks for as much as there is room for. While there is no
//! room, a pull that no event fits into keeps the pin alive and shows that the
//! broker is still there.

use std::time::Duration;

use async_nats::{HeaderMap, HeaderValue, Message, StatusCode};
use bytes::Bytes;
use murmur_mesh::durable::{DurableName, PIN_GROUP, PULL_EXPIRES, Shard};
use murmur_mesh::stream;
use serde::Serialize;
use tokio::time::Instant;

use super::barrier::Barrier;
use super::fence::{Fence, Moment};
use super::said::Said;

/// How long a pull may be overdue before it is taken for lost.
const OVERDUE: Duration = Duration::from_secs(1);
/// After an answer that says that this cannot work now.
const PAUSE: Duration = Duration::from_secs(1);
/// After a change of the durable's leader.
const SHORT_PAUSE: Duration = Duration::from_millis(250);
const PIN_ID: &str = "Nats-Pin-Id";

/// One durable and what is asked of it.
#[derive(Debug)]
pub(super) struct Pull {
    pub(super) durable: DurableName,
    /// Its name as text, as acknowledgements' subjects carry it.
    pub(super) shard: Shard,
    pub(super) fence: Fence,
    pub(super) barrier: Barrier,
    pub(super) said: Said,
    /// Whether this replica is to receive its events.
    pub(super) wanted: bool,
    /// When what is held is given back, as another replica receives now.
    pub(super) give_back_at: Option<Instant>,
    /// It was let go of while all that was out was here: this replica can say
    /// so once nothing is left.
    pub(super) vouches: bool,
    /// The last event that came, by its place in the stream.
    pub(super) last: u64,
    /// When the broker is asked for a sign of life, as no pull brings one.
    pub(super) next_sign: Instant,
    /// What is held from it: events and their bytes.
    pub(super) held: usize,
    pub(super) held_bytes: usize,
    /// How many events followed the one that came last; 0 without the pin.
    pub(super) pending: u64,
    pin: Option<String>,
    number: u32,
    open: Option<Open>,
    not_before: Instant,
    missing: bool,
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

/// What a status message means.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Status {
    /// Nothing that matters.
    Fine,
    /// The pin is another's now: so may be all that is held.
    PinLost,
    /// There is no such durable.
    Missing,
    /// The broker does not like the pull.
    Refused(String),
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
    pub(super) fn new(durable: DurableName, shard: Shard, now: Instant) -> Self {
        Self {
            durable,
            shard,
            fence: Fence::new(Moment::now()),
            barrier: if is_pinned(shard) { Barrier::shut(now) } else { Barrier::open() },
            said: Said::default(),
            wanted: true,
            give_back_at: None,
            vouches: false,
            last: 0,
            next_sign: now,
            held: 0,
            held_bytes: 0,
            pending: 0,
            pin: None,
            number: 0,
            open: None,
            not_before: now,
            missing: false,
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

    /// Forgets what is open: the connection or the inbox is another one now.
    pub(super) fn restart(&mut self, now: Instant) {
        self.open = None;
        self.not_before = now;
        self.next_sign = now;
    }

    /// Another receives from now on. Returns whether this replica did.
    pub(super) fn let_go(&mut self) -> bool {
        self.open = None;
        self.pending = 0;
        let had = self.pin.take().is_some();
        self.vouches = had && self.barrier.is_open();
        self.barrier.expect_nothing();
        had
    }

    /// The pull to send now, if any.
    pub(super) fn ask(&mut self, now: Instant, window: Window) -> Option<Ask> {
        if now < self.not_before || !self.wanted || !self.said.is_sure() {
            return None;
        }
        let room = window.events.saturating_sub(self.held);
        let most = window.bytes.saturating_mul(self.barrier.stretch(now));
        let bytes = most.saturating_sub(self.held_bytes);
        // A little room is not worth a round trip, unless nothing is held at all.
        let worth = room * 4 >= window.events && bytes * 4 >= window.bytes;
        let fill = self.barrier.may_fill(now) && (worth || self.held == 0);
        if let Some(open) = &self.open
            && now < open.until + OVERDUE
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
        let subject = format!("$JS.API.CONSUMER.MSG.NEXT.{}.{}", stream::EVENTS, self.durable);
        Some(Ask { subject, number: self.number, payload: Bytes::from(payload) })
    }

    /// When [`Self::ask`] may have something to say although nothing happened.
    pub(super) fn next_look(&self) -> Option<Instant> {
        self.wanted.then(|| self.next_ask())
    }

    fn next_ask(&self) -> Instant {
        self.open.as_ref().map_or(self.not_before, |open| open.until + OVERDUE)
    }

    /// When the broker is to be asked how much is out: for the barrier, or for a
    /// sign of life where something is held and no pull brings one, or which durable it is.
    pub(super) fn next_question(&self) -> Option<Instant> {
        let asks = if self.wanted { self.said.asks() } else { self.held > 0 };
        let sign = asks.then_some(self.next_sign);
        self.barrier.next_look(self.held).into_iter().chain(sign).min()
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

    /// An event came. `true`: under another pin than the last one.
    pub(super) fn event(&mut self, headers: Option<&HeaderMap>) -> bool {
        self.missing = false;
        if let Some(open) = &mut self.open {
            open.asked = open.asked.saturating_sub(1);
        }
        let pin = headers.and_then(|headers| headers.get(PIN_ID)).map(HeaderValue::as_str);
        if !self.is_pinned() || pin == self.pin.as_deref() {
            return false;
        }
        self.pin = pin.map(str::to_owned);
        true
    }

    /// A status came, for the pull of this number.
    pub(super) fn status(
        &mut self,
        number: u32,
        status: StatusCode,
        message: &Message,
        now: Instant,
    ) -> Status {
        if status == StatusCode::IDLE_HEARTBEAT {
            return Status::Fine;
        }
        let current = self.open.as_ref().is_some_and(|open| open.number == number);
        if current {
            self.open = None;
        }
        let description = message.description.as_deref().unwrap_or_default();
        self.missing = false;
        match status.as_u16() {
            // The end of a pull, or none of what was asked for.
            404 | 408 => Status::Fine,
            423 => {
                if self.let_go() {
                    Status::PinLost
                } else {
                    Status::Fine
                }
            }
            503 => {
                self.missing = true;
                self.said.unsure();
                self.pause(now, PAUSE);
                Status::Missing
            }
            // All that was asked for has come, and there would be room for more bytes.
            409 if description.contains("Batch Completed") => Status::Fine,
            409 if description.contains("MaxBytes") => {
                if current && self.held > 0 {
                    let until = now + SHORT_PAUSE;
                    self.open = Some(Open { number, asked: 1, until, empty: false, starved: true });
                }
                Status::Fine
            }
            409 if description.contains("Leadership") || description.contains("Shutdown") => {
                // What was said while nobody led was heard by nobody.
                self.said.unsure();
                self.next_sign = now;
                self.pause(now, SHORT_PAUSE);
                Status::Fine
            }
            409 if description.contains("Deleted") => {
                self.missing = true;
                self.said.unsure();
                self.pause(now, PAUSE);
                Status::Missing
            }
            _ => {
                self.pause(now, PAUSE);
                Status::Refused(format!("{status} {description}"))
            }
        }
    }

    fn pause(&mut self, now: Instant, pause: Duration) {
        self.not_before = now + pause;
    }
}

#[cfg(test)]
mod tests {
    use murmur_mesh::name::SubscriptionName;

    use super::*;

    const WINDOW: Window = Window { events: 100, bytes: 1000 };

    fn pull(shard: Shard) -> (Pull, Instant) {
        let name: SubscriptionName = "s".parse().unwrap();
        let now = Instant::now();
        (Pull::new(DurableName::new(&name, shard, None), shard, now), now)
    }

    fn body(ask: &Ask) -> serde_json::Value {
        serde_json::from_slice(&ask.payload).unwrap()
    }

    fn message(description: &str) -> Message {
        Message {
            subject: "inbox.0.1".into(),
            reply: None,
            payload: Bytes::new(),
            headers: None,
            status: None,
            description: Some(description.to_owned()),
            length: 0,
        }
    }

    fn code(code: u16) -> StatusCode {
        StatusCode::from_u16(code).unwrap()
    }

    fn pinned(id: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(PIN_ID, id);
        headers
    }

    #[test]
    fn one_pull_at_a_time_asks_for_what_there_is_room_for() {
        let (mut pull, now) = pull(Shard::All);
        let ask = pull.ask(now, WINDOW).unwrap();
        assert_eq!(ask.subject, "$JS.API.CONSUMER.MSG.NEXT.EVENTS.s-all");
        assert_eq!(
            body(&ask),
            serde_json::json!({"batch": 100, "max_bytes": 1000, "expires": 3_000_000_000_u64})
        );
        assert!(pull.ask(now, WINDOW).is_none());
        pull.status(ask.number, code(408), &message("Request Timeout"), now);
        pull.held = 40;
        pull.held_bytes = 100;
        let ask = pull.ask(now, WINDOW).unwrap();
        assert_eq!((body(&ask)["batch"].as_u64(), body(&ask)["max_bytes"].as_u64()), (Some(60), Some(900)));
    }

    #[test]
    fn without_room_a_pull_that_nothing_fits_into_renews_the_pin() {
        let (mut pull, now) = pull(Shard::Number(0));
        pull.event(Some(&pinned("a")));
        pull.held = 90;
        let ask = pull.ask(now, WINDOW).unwrap();
        assert_eq!(body(&ask)["max_bytes"], 1);
        assert_eq!(body(&ask)["group"], "g");
        assert_eq!(body(&ask)["id"], "a");
        assert!(pull.ask(now, WINDOW).is_none(), "once until it ends");
        pull.held = 10;
        assert_eq!(body(&pull.ask(now, WINDOW).unwrap())["batch"], 90, "room comes first");
    }

    #[test]
    fn a_pull_that_is_overdue_is_taken_for_lost() {
        let (mut pull, now) = pull(Shard::All);
        pull.ask(now, WINDOW).unwrap();
        assert!(pull.ask(now + PULL_EXPIRES, WINDOW).is_none());
        assert!(pull.ask(now + PULL_EXPIRES + OVERDUE, WINDOW).is_some());
    }

    #[test]
    fn the_pin_comes_with_the_first_event_and_goes_with_a_mismatch() {
        let (mut pull, now) = pull(Shard::Number(0));
        let first = pull.ask(now, WINDOW).unwrap();
        assert!(body(&first).get("id").is_none());
        assert!(pull.event(Some(&pinned("a"))), "a take-over");
        assert!(!pull.event(Some(&pinned("a"))));
        assert_eq!(pull.status(first.number, code(423), &message(""), now), Status::PinLost);
        assert!(!pull.has_pin());
        assert!(body(&pull.ask(now, WINDOW).unwrap()).get("id").is_none());
    }

    #[test]
    fn a_durable_that_is_not_there_is_asked_again_after_a_pause() {
        let (mut pull, now) = pull(Shard::Number(0));
        let ask = pull.ask(now, WINDOW).unwrap();
        assert_eq!(pull.status(ask.number, code(503), &message(""), now), Status::Missing);
        assert!(pull.is_missing());
        assert!(pull.ask(now, WINDOW).is_none());
        assert!(pull.ask(now + PAUSE, WINDOW).is_some());
    }

    #[test]
    fn an_event_that_there_is_no_room_for_is_asked_for_again_once_there_is() {
        let (mut pull, now) = pull(Shard::All);
        let ask = pull.ask(now, WINDOW).unwrap();
        pull.takes(500);
        pull.status(ask.number, code(409), &message("Message Size Exceeds MaxBytes"), now);
        assert!(pull.ask(now, WINDOW).is_none());
        pull.lets_go(500);
        assert!(pull.ask(now, WINDOW).is_some());
    }

    #[test]
    fn a_pull_that_brought_all_that_it_asked_for_is_followed_by_the_next_at_once() {
        let (mut pull, now) = pull(Shard::All);
        let ask = pull.ask(now, WINDOW).unwrap();
        let status = pull.status(ask.number, code(409), &message("Batch Completed"), now);
        assert_eq!(status, Status::Fine);
        assert!(pull.ask(now, WINDOW).is_some());
    }

    #[test]
    fn the_end_of_an_earlier_pull_does_not_end_the_current_one() {
        let (mut pull, now) = pull(Shard::All);
        let first = pull.ask(now, WINDOW).unwrap();
        pull.restart(now);
        pull.ask(now, WINDOW).unwrap();
        pull.status(first.number, code(408), &message(""), now);
        assert!(pull.ask(now, WINDOW).is_none());
    }
}
