//! Whether a pinned durable's events may be sent yet. Pure.
//!
//! What its holder before had may still be out: it comes again, in no order,
//! and perhaps after newer events. So whoever begins to receive takes all in
//! first, and sends only once everything that is out is here, sorted. The
//! broker says how much is out ([`Look`]).
//!
//! Where nothing here was ever handed to anyone before, nobody else can have
//! acknowledged any of it: equal numbers then mean equal events, and one look
//! is enough. Else a late acknowledgement of a holder before may make the numbers
//! agree by chance, or never: then it takes two looks in a row, and the ack wait,
//! after which all that is out has come again. Where all that is out was handed to
//! this replica alone, there is no holder before: two looks in a row are enough.

use std::time::Duration;

use murmur_mesh::durable::ACK_WAIT;
use serde::Deserialize;
use tokio::time::Instant;

/// Between two looks that must agree.
const BETWEEN_LOOKS: Duration = Duration::from_millis(200);
/// Before the second look; it doubles up to [`BETWEEN_LOOKS`].
const FIRST_DELAY: Duration = Duration::from_millis(10);
/// How often the usual room is doubled, at most.
const MOST_DOUBLINGS: u128 = 1;
/// A look that is not answered for so long is lost.
const LOST: Duration = Duration::from_secs(1);

/// What the broker says about the durable: the part of CONSUMER.INFO that matters here.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Look {
    /// Events that were handed out and not acknowledged.
    #[serde(rename = "num_ack_pending")]
    pub(super) out: usize,
    /// The last event that was handed out.
    delivered: Place,
    /// The last event before which all are done.
    ack_floor: Place,
    /// Events that were not handed out yet.
    #[serde(default)]
    num_pending: u64,
    /// The pin, in a list of one.
    #[serde(default)]
    priority_groups: Vec<PriorityGroup>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
struct Place {
    consumer_seq: u64,
    stream_seq: u64,
}

#[derive(Debug, Clone, Deserialize)]
struct PriorityGroup {
    pinned_client_id: Option<String>,
}

impl Look {
    /// The last event, by its place in the stream, that was handed out when the broker looked.
    pub(super) fn upto(&self) -> u64 {
        self.delivered.stream_seq
    }

    /// How many events it had handed out, repeats included.
    pub(super) fn handed_out(&self) -> u64 {
        self.delivered.consumer_seq
    }

    /// Up to which place in the stream nothing was out.
    pub(super) fn floor(&self) -> u64 {
        self.ack_floor.stream_seq
    }

    /// Up to which place in the stream everything was acknowledged by somebody; 0 where nothing was.
    pub(super) fn acknowledged(&self) -> u64 {
        if self.ack_floor.consumer_seq == 0 { 0 } else { self.ack_floor.stream_seq }
    }

    /// Whether nothing was out and nothing was to come.
    pub(super) fn is_drained(&self) -> bool {
        self.out == 0 && self.num_pending == 0
    }

    /// The pin of who received then, if anyone did.
    pub(super) fn pin(&self) -> Option<&str> {
        self.priority_groups.first()?.pinned_client_id.as_deref().filter(|pin| !pin.is_empty())
    }
}

/// What is held here of the events that the broker had handed out when it looked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Census {
    /// How many.
    pub(super) held: usize,
    /// Whether one of them was handed to someone before.
    pub(super) again: bool,
}

/// The barrier of one durable.
#[derive(Debug, Clone)]
pub(super) struct Barrier(Option<Shut>);

#[derive(Debug, Clone)]
struct Shut {
    since: Instant,
    /// Events may have been lost on the way here: until it is known, none are asked for,
    /// as there might be no room left for those that come again.
    unsure: bool,
    next: Instant,
    delay: Duration,
    agreed: bool,
}

impl Barrier {
    /// For a durable without pins: there is no order to keep.
    pub(super) fn open() -> Self {
        Self(None)
    }

    /// Shut: this replica begins to receive.
    pub(super) fn shut(now: Instant) -> Self {
        Self(Some(Shut { since: now, unsure: false, next: now, delay: FIRST_DELAY, agreed: false }))
    }

    /// Shut: this replica goes on receiving, but what was on the way may be lost.
    pub(super) fn shut_unsure(now: Instant) -> Self {
        let mut barrier = Self::shut(now);
        if let Some(shut) = &mut barrier.0 {
            shut.unsure = true;
        }
        barrier
    }

    /// Since when it is shut.
    pub(super) fn since(&self) -> Option<Instant> {
        self.0.as_ref().map(|shut| shut.since)
    }

    /// Nothing can be on its way here any more: this replica does not receive, or what was
    /// lost is given back.
    pub(super) fn expect_nothing(&mut self) {
        if let Some(shut) = &mut self.0 {
            shut.unsure = false;
        }
    }

    /// Whether events may be sent.
    pub(super) fn is_open(&self) -> bool {
        self.0.is_none()
    }

    /// Whether events may be asked for: what was lost comes first once the ack wait has passed.
    pub(super) fn may_fill(&self, now: Instant) -> bool {
        self.0.as_ref().is_none_or(|shut| !shut.unsure || now >= shut.since + ACK_WAIT)
    }

    /// When to look, while events are held or may be lost.
    pub(super) fn next_look(&self, held: usize) -> Option<Instant> {
        self.0.as_ref().filter(|shut| shut.unsure || held > 0).map(|shut| shut.next)
    }

    /// By how much there must be more room than usual: the holder before may have had more.
    pub(super) fn stretch(&self, now: Instant) -> usize {
        self.0.as_ref().map_or(1, |shut| {
            let waits = now.duration_since(shut.since).as_millis() / (2 * ACK_WAIT.as_millis());
            1 << waits.min(MOST_DOUBLINGS)
        })
    }

    /// The broker was asked.
    pub(super) fn asked(&mut self, now: Instant) {
        if let Some(shut) = &mut self.0 {
            shut.next = now + LOST;
        }
    }

    /// The broker answered; `ours`: all that is out was handed to this replica alone. `true`: it opens.
    pub(super) fn looked(&mut self, look: &Look, here: Census, ours: bool, now: Instant) -> bool {
        let Some(shut) = &mut self.0 else { return false };
        let waited = ours || now >= shut.since + ACK_WAIT;
        let agrees = waited && look.out <= here.held;
        if !here.again && look.out == here.held || agrees && shut.agreed {
            self.0 = None;
            return true;
        }
        shut.agreed = agrees;
        shut.next = now + if agrees { BETWEEN_LOOKS } else { shut.delay };
        shut.delay = (shut.delay * 2).min(BETWEEN_LOOKS);
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(out: usize) -> Look {
        let place = Place { consumer_seq: 100, stream_seq: 100 };
        Look { out, delivered: place, ack_floor: place, num_pending: 0, priority_groups: Vec::new() }
    }

    fn here(held: usize, again: bool) -> Census {
        Census { held, again }
    }

    #[test]
    fn it_opens_at_once_when_all_that_is_out_is_here_and_was_nobodys_before() {
        let now = Instant::now();
        let mut barrier = Barrier::shut(now);
        assert!(!barrier.is_open());
        assert!(!barrier.looked(&look(9), here(7, false), false, now), "two are elsewhere");
        assert!(barrier.looked(&look(7), here(7, false), false, now));
        assert!(barrier.is_open());
    }

    #[test]
    fn what_was_anothers_before_takes_the_ack_wait_and_two_looks_in_a_row() {
        let start = Instant::now();
        let mut barrier = Barrier::shut(start);
        let mut at = |millis: u64, out| {
            barrier.looked(&look(out), here(7, true), false, start + ACK_WAIT + Duration::from_millis(millis))
        };
        assert!(!at(0, 7));
        assert!(!at(200, 8), "they must agree in a row");
        assert!(!at(400, 7));
        assert!(at(600, 7));
        let mut early = Barrier::shut(start);
        let soon = start + ACK_WAIT - Duration::from_millis(1);
        assert!(!early.looked(&look(7), here(7, true), false, soon));
        assert!(!early.looked(&look(7), here(7, true), false, soon));
    }

    #[test]
    fn what_was_handed_to_this_replica_alone_takes_two_looks_in_a_row_and_no_wait() {
        let now = Instant::now();
        let mut barrier = Barrier::shut_unsure(now);
        assert!(!barrier.looked(&look(8), here(7, true), true, now), "one is lost");
        assert!(!barrier.looked(&look(7), here(7, true), true, now));
        assert_eq!(barrier.next_look(7), Some(now + BETWEEN_LOOKS));
        assert!(barrier.looked(&look(7), here(7, true), true, now + BETWEEN_LOOKS));
    }

    #[test]
    fn the_pin_is_read_from_what_the_broker_says() {
        let mut answer = serde_json::json!({
            "num_ack_pending": 0,
            "delivered": {"consumer_seq": 1, "stream_seq": 2}, "ack_floor": {"consumer_seq": 3, "stream_seq": 4},
        });
        let read = |answer: &serde_json::Value| serde_json::from_value::<Look>(answer.clone()).unwrap();
        assert_eq!(read(&answer).pin(), None);
        answer["priority_groups"] = serde_json::json!([{"group": "g", "pinned_ts": "0001-01-01T00:00:00Z"}]);
        assert_eq!(read(&answer).pin(), None, "nobody receives");
        answer["priority_groups"][0]["pinned_client_id"] = "a".into();
        let look = read(&answer);
        assert_eq!((look.pin(), look.handed_out(), look.upto(), look.floor()), (Some("a"), 1, 2, 4));
    }

    #[test]
    fn a_late_acknowledgement_of_what_is_held_here_does_not_shut_it_for_ever() {
        let start = Instant::now();
        let mut barrier = Barrier::shut(start);
        let later = start + ACK_WAIT;
        assert!(!barrier.looked(&look(6), here(7, true), false, later));
        assert!(barrier.looked(&look(6), here(7, true), false, later + BETWEEN_LOOKS));
    }

    #[test]
    fn after_a_lost_connection_nothing_new_is_asked_for_until_it_is_known_what_was_lost() {
        let now = Instant::now();
        let mut barrier = Barrier::shut_unsure(now);
        assert_eq!(barrier.next_look(0), Some(now));
        assert!(!barrier.may_fill(now));
        assert!(!barrier.looked(&look(3), here(1, false), false, now));
        assert!(!barrier.may_fill(now + ACK_WAIT / 2));
        assert!(barrier.may_fill(now + ACK_WAIT));
        assert!(barrier.looked(&look(1), here(1, false), false, now));
        assert!(barrier.may_fill(now));
    }

    #[test]
    fn it_looks_only_while_something_is_held_and_soon_again() {
        let now = Instant::now();
        let mut barrier = Barrier::shut(now);
        assert_eq!(barrier.next_look(0), None);
        assert_eq!(barrier.next_look(1), Some(now));
        barrier.asked(now);
        assert_eq!(barrier.next_look(1), Some(now + LOST));
        barrier.looked(&look(2), here(1, false), false, now);
        assert_eq!(barrier.next_look(1), Some(now + FIRST_DELAY));
        assert_eq!(Barrier::open().next_look(1), None);
    }
}
