//! Asking back what was lost on its way here. Pure.
//!
//! What the broker hands to a connection that is gone counts as handed out: by
//! itself the broker delivers it again only after the ack wait. Where nobody else
//! can have it, this replica says at once that it does not: it gives back, without
//! having seen them, the places of the stream up to the last one handed out that are
//! not held here. A place that is not out is none of the broker's concern: it
//! ignores the word (`processNak` of nats-server 2.15), so it may be said of all.
//!
//! What was handed out just before the broker looked may still be on its way: so
//! only what was handed out at one look and is not here at a later one is lost.

use std::ops::RangeInclusive;
use std::time::Duration;

use tokio::time::Instant;

use super::barrier::Look;

/// What takes longer on its way here is lost.
const ARRIVES: Duration = Duration::from_millis(100);
/// How long it may take to find out whether another replica can have it.
const LONGEST: Duration = Duration::from_secs(2);
/// A look that is not answered for so long is lost.
const UNANSWERED: Duration = Duration::from_secs(1);
/// At most so many places are given back: the last ones. What is lost of others
/// comes again after the ack wait.
const MOST: u64 = 2048;

/// Who can have what is out and not held here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Whose {
    /// Only this replica: it was lost.
    Ours,
    /// Perhaps another replica.
    Others,
    /// That is not known yet.
    Unknown,
}

/// What this replica knows when the broker answers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Knowledge<'a> {
    /// Its pin.
    pub(super) pin: Option<&'a str>,
    /// All that was out before was handed to it alone.
    pub(super) sole: bool,
    /// No other pod of the service is there.
    pub(super) alone: bool,
    /// Other pods were heard.
    pub(super) others: bool,
}

impl Whose {
    /// A pin that another replica had in between is never the same again.
    pub(super) fn of(look: &Look, here: Knowledge<'_>) -> Self {
        match look.pin() {
            Some(pin) if here.pin != Some(pin) => Self::Unknown,
            Some(_) if here.sole => Self::Ours,
            _ if here.alone => Self::Ours,
            _ if here.others => Self::Others,
            _ => Self::Unknown,
        }
    }
}

/// The search for what was lost from one durable.
#[derive(Debug, Default)]
pub(super) struct Recall(Option<Search>);

#[derive(Debug)]
struct Search {
    since: Instant,
    /// The last place that was handed out at a look before, and when that was.
    before: Option<(Instant, u64)>,
    asked: bool,
    next: Instant,
}

impl Recall {
    /// Something may have been lost until now.
    pub(super) fn begin(&mut self, now: Instant) {
        self.0 = Some(Search { since: now, before: None, asked: false, next: now });
    }

    /// Since when it is searched, while it is.
    pub(super) fn since(&self) -> Option<Instant> {
        self.0.as_ref().map(|search| search.since)
    }

    /// When the broker is to be asked how much is out.
    pub(super) fn next_look(&self) -> Option<Instant> {
        self.0.as_ref().map(|search| search.next)
    }

    /// The broker was asked. `true`: for the first time in this search.
    pub(super) fn asked(&mut self, now: Instant) -> bool {
        self.0.as_mut().is_some_and(|search| {
            search.next = now + UNANSWERED;
            !std::mem::replace(&mut search.asked, true)
        })
    }

    /// The broker answered; `held`: how much of what is out is here. Returns the places
    /// to be given back, those that are held here excepted.
    pub(super) fn looked(
        &mut self,
        look: &Look,
        held: usize,
        whose: Whose,
        now: Instant,
    ) -> Option<RangeInclusive<u64>> {
        let search = self.0.as_mut()?;
        let in_vain = whose == Whose::Unknown && now >= search.since + LONGEST;
        if whose == Whose::Others || in_vain {
            self.0 = None;
            return None;
        }
        let (at, upto) = *search.before.get_or_insert((now, look.upto()));
        if now < at + ARRIVES {
            search.next = at + ARRIVES;
            return None;
        }
        if look.out <= held {
            self.0 = None;
            return None;
        }
        if whose == Whose::Unknown {
            search.before = Some((now, look.upto()));
            search.next = now + ARRIVES;
            return None;
        }
        self.0 = None;
        Some(places(look, upto))
    }
}

/// The places that can be out up to one, the last of them if they are many.
pub(super) fn places(look: &Look, upto: u64) -> RangeInclusive<u64> {
    (look.floor() + 1).max((upto + 1).saturating_sub(MOST))..=upto
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(out: usize, floor: u64, upto: u64) -> Look {
        pinned(out, floor, upto, None)
    }

    fn pinned(out: usize, floor: u64, upto: u64, pin: Option<&str>) -> Look {
        let look = serde_json::json!({
            "num_ack_pending": out,
            "priority_groups": [{"group": "g", "pinned_client_id": pin}],
            "delivered": {"consumer_seq": 7, "stream_seq": upto},
            "ack_floor": {"consumer_seq": 1, "stream_seq": floor},
        });
        serde_json::from_value(look).unwrap()
    }

    fn begun() -> (Recall, Instant) {
        let now = Instant::now();
        let mut recall = Recall::default();
        assert_eq!(recall.next_look(), None);
        recall.begin(now);
        assert_eq!(recall.next_look(), Some(now));
        (recall, now)
    }

    #[test]
    fn what_is_out_at_one_look_and_not_here_at_a_later_one_is_given_back_once() {
        let (mut recall, now) = begun();
        assert_eq!(recall.looked(&look(3, 10, 20), 1, Whose::Ours, now), None, "it may be on its way");
        assert_eq!(recall.next_look(), Some(now + ARRIVES));
        let later = now + ARRIVES;
        let places = recall.looked(&look(4, 12, 25), 1, Whose::Ours, later);
        assert_eq!(places, Some(13..=20), "what was handed out since may be on its way");
        assert_eq!(recall.looked(&look(4, 12, 25), 1, Whose::Ours, later + ARRIVES), None);
        assert_eq!(recall.next_look(), None);
    }

    #[test]
    fn where_all_that_is_out_is_here_or_another_can_have_it_nothing_is_given_back() {
        let (mut recall, now) = begun();
        assert_eq!(recall.looked(&look(3, 10, 20), 3, Whose::Ours, now), None);
        assert_eq!(recall.since(), Some(now), "the broker may still send to a connection that is gone");
        assert_eq!(recall.looked(&look(3, 10, 20), 3, Whose::Ours, now + ARRIVES), None);
        assert_eq!(recall.since(), None);
        let (mut recall, now) = begun();
        assert_eq!(recall.looked(&look(3, 10, 20), 1, Whose::Others, now), None);
        assert_eq!(recall.since(), None);
    }

    #[test]
    fn while_it_is_not_known_whether_another_can_have_it_nothing_is_given_back_and_not_for_ever() {
        let (mut recall, now) = begun();
        assert_eq!(recall.looked(&look(3, 10, 20), 1, Whose::Unknown, now), None);
        let later = now + LONGEST - ARRIVES;
        assert_eq!(recall.looked(&look(3, 10, 21), 1, Whose::Unknown, later), None);
        assert_eq!(recall.since(), Some(now));
        let mut known = Recall(recall.0.take());
        let places = known.looked(&look(3, 10, 22), 1, Whose::Ours, now + LONGEST);
        assert_eq!(places, Some(11..=21), "what was lost meanwhile, too");
        recall.begin(now);
        assert_eq!(recall.looked(&look(3, 10, 20), 1, Whose::Unknown, now + LONGEST), None);
        assert_eq!(recall.since(), None);
    }

    #[test]
    fn of_very_many_places_the_last_are_given_back() {
        let (mut recall, now) = begun();
        recall.looked(&look(1, 0, 1_000_000), 0, Whose::Ours, now);
        let places = recall.looked(&look(1, 0, 1_000_000), 0, Whose::Ours, now + ARRIVES).unwrap();
        assert_eq!((places.clone().count(), places.last()), (2048, Some(1_000_000)));
    }

    #[test]
    fn what_is_out_is_ours_with_the_same_pin_or_if_nobody_else_is_there() {
        let of = |theirs: Option<&str>, ours: Option<&str>, [sole, alone, others]: [bool; 3]| {
            Whose::of(&pinned(1, 0, 1, theirs), Knowledge { pin: ours, sole, alone, others })
        };
        let (a, b) = (Some("a"), Some("b"));
        assert_eq!(of(a, a, [true, false, true]), Whose::Ours);
        assert_eq!(of(a, a, [false, false, true]), Whose::Others, "a holder before may have some");
        assert_eq!(
            of(b, a, [true, true, false]),
            Whose::Unknown,
            "another receives, or an event is on its way"
        );
        assert_eq!(of(b, None, [true, true, false]), Whose::Unknown);
        assert_eq!(of(None, a, [true, false, true]), Whose::Others, "another may have had the pin");
        assert_eq!(of(None, a, [true, true, false]), Whose::Ours);
        assert_eq!(of(None, None, [false, true, false]), Whose::Ours, "without pins, too");
        assert_eq!(of(None, None, [false, false, false]), Whose::Unknown);
    }

    #[test]
    fn a_question_without_an_answer_is_asked_again() {
        let (mut recall, now) = begun();
        assert!(recall.asked(now));
        assert_eq!(recall.next_look(), Some(now + UNANSWERED));
        assert!(!recall.asked(now + UNANSWERED));
    }
}
