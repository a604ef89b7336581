//! Who goes alone, who waits for others, and when those who wait go: the
//! decisions of group commit, without its effects.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use super::pace::Pace;

/// A batch of so many goes even while others are open: larger ones are hardly quicker.
const FULL: usize = 256;
/// So too one of so many bytes.
const FULL_BYTES: usize = 2 << 20;
/// The most batches that are open at once: the broker takes 50 for all services together.
const OPEN: usize = 4;
/// So many go alone when it has been long since singles were measured.
const SAMPLE: usize = 16;
/// After the broker has refused a batch, none is sent for so long; doubled each time.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(16);

/// What waits, and what is under way.
#[derive(Debug)]
pub(super) struct Gathering<T> {
    pace: Pace,
    /// Since then newcomers wait for each other instead of going alone.
    gathers_since: Option<Instant>,
    /// When the last batch began.
    began: Option<Instant>,
    /// When the last batch was stored.
    last_batch: Option<Instant>,
    waiting: VecDeque<(T, usize)>,
    singles: usize,
    batches: usize,
    /// So many are likely to wait soon: those that were just answered come again...
    expected: usize,
    /// ...until then.
    expected_until: Option<Instant>,
    filling: Option<Filling>,
    pause: Duration,
    paused_until: Option<Instant>,
}

/// The batch that is sent as its members come: the broker is half done with it when the last one is there.
#[derive(Debug, Default)]
struct Filling {
    members: usize,
    bytes: usize,
}

/// Who goes now.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next<T> {
    /// Nobody yet.
    Nobody,
    /// These, each alone; with the number in flight once the first has gone.
    Alone(Vec<T>, usize),
    /// These, together: in the batch that is being filled, or else in a new one.
    Together {
        /// They.
        members: Vec<T>,
        /// Whether it is complete: else it is the one that is being filled from now on.
        complete: bool,
    },
}

impl<T> Default for Gathering<T> {
    fn default() -> Self {
        Self {
            pace: Pace::default(),
            gathers_since: None,
            began: None,
            last_batch: None,
            waiting: VecDeque::new(),
            singles: 0,
            batches: 0,
            expected: 0,
            expected_until: None,
            filling: None,
            pause: FIRST_PAUSE,
            paused_until: None,
        }
    }
}

impl<T> Gathering<T> {
    /// Lets a newcomer go alone, if that is best: gives the number of singles then in flight.
    pub(super) fn enter(&mut self, now: Instant) -> Option<usize> {
        if !self.gathers() && !self.is_paused(now) && self.pace.batch_pays(self.singles + 1, now) {
            self.gathers_since = Some(now);
        }
        if self.gathers() {
            return None;
        }
        Some(self.go_alone(1))
    }

    /// So many more are in flight: gives the number of singles once the first of them has gone.
    fn go_alone(&mut self, count: usize) -> usize {
        let first = self.singles + 1;
        self.singles += count;
        first
    }

    /// A newcomer of so many bytes waits.
    pub(super) fn wait(&mut self, one: T, bytes: usize) {
        self.waiting.push_back((one, bytes));
    }

    /// A single is no longer under way; `took`, when it was stored.
    pub(super) fn single_ended(&mut self, in_flight: usize, took: Option<Duration>, now: Instant) {
        self.singles = self.singles.saturating_sub(1);
        if let Some(took) = took {
            self.pace.single(took, in_flight, now);
        }
    }

    /// A batch of so many was stored.
    pub(super) fn batch_stored(&mut self, members: usize, now: Instant) {
        // Those that go together wait for each other first: that counts too. The first of them have waited for singles, which
        // is none of the batch's cost.
        let one_before =
            self.last_batch.filter(|last| self.gathers_since.is_some_and(|since| since <= *last));
        if self.batches == 1
            && let Some(since) = one_before.or(self.began)
        {
            self.pace.batch(now - since, now);
        }
        self.last_batch = Some(now);
        self.batch_ended();
        self.pause = FIRST_PAUSE;
        self.expected = members + self.waiting.len();
        self.expected_until = Some(now + self.pace.linger());
    }

    /// A batch was not stored: its members go alone. `refused`: nor would another one be.
    pub(super) fn batch_failed(&mut self, members: usize, refused: bool, now: Instant) -> usize {
        self.batch_ended();
        if refused {
            self.paused_until = Some(now + self.pause.mul_f64(rand::random_range(0.5..1.0)));
            self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        }
        self.go_alone(members)
    }

    fn batch_ended(&mut self) {
        self.batches = self.batches.saturating_sub(1);
    }

    /// Until when the rest of those who were just answered is awaited.
    pub(super) fn expected_until(&self) -> Option<Instant> {
        self.expected_until.filter(|_| self.gathers())
    }

    /// Who goes now; to be asked whenever something came or ended, until nobody does.
    pub(super) fn next(&mut self, now: Instant) -> Next<T> {
        if let Some(filling) = self.filling.take() {
            return self.fill(filling, now);
        }
        if self.waiting.is_empty() {
            return Next::Nobody;
        }
        if self.is_paused(now) {
            return self.all_alone();
        }
        let count = self.fitting(&Filling::default());
        let pays = self.pace.batch_pays(count, now);
        let full = count < self.waiting.len() || count >= FULL;
        if full && pays && self.batches > 0 && self.batches < OPEN {
            return self.begin(now);
        }
        if self.singles > 0 || self.batches > 0 {
            return Next::Nobody;
        }
        if self.waiting.len() < self.expected.min(FULL) && self.is_awaiting(now) {
            let will_pay = self.pace.batch_pays(self.expected.min(FULL), now);
            return if will_pay && !self.pace.singles_unknown(now) { self.begin(now) } else { Next::Nobody };
        }
        if !pays {
            return self.all_alone();
        }
        if self.pace.singles_unknown(now) {
            return self.alone(SAMPLE);
        }
        self.begin(now)
    }

    /// Whether those who were just answered may still come again.
    fn is_awaiting(&self, now: Instant) -> bool {
        self.expected_until.is_some_and(|until| now < until)
    }

    fn begin(&mut self, now: Instant) -> Next<T> {
        self.batches += 1;
        self.began = Some(now);
        self.fill(Filling::default(), now)
    }

    fn fill(&mut self, mut filling: Filling, now: Instant) -> Next<T> {
        let count = self.fitting(&filling);
        filling.members += count;
        filling.bytes += self.waiting.iter().take(count).map(|(_, weight)| weight).sum::<usize>();
        let members = self.take(count);
        let complete =
            !self.waiting.is_empty() || filling.members >= self.expected.min(FULL) || !self.is_awaiting(now);
        if !complete {
            self.filling = Some(filling);
            if members.is_empty() {
                return Next::Nobody;
            }
        }
        Next::Together { members, complete }
    }

    /// The batch that was being filled takes nobody any more.
    pub(super) fn stop_filling(&mut self) {
        self.filling = None;
    }

    fn gathers(&self) -> bool {
        self.gathers_since.is_some()
    }

    fn is_paused(&self, now: Instant) -> bool {
        self.paused_until.is_some_and(|until| now < until)
    }

    fn all_alone(&mut self) -> Next<T> {
        self.gathers_since = None;
        self.alone(self.waiting.len())
    }

    fn alone(&mut self, most: usize) -> Next<T> {
        let members = self.take(most);
        let first = self.go_alone(members.len());
        Next::Alone(members, first)
    }

    /// How many of those who wait fit into a batch, from the first on.
    fn fitting(&self, filling: &Filling) -> usize {
        let mut bytes = filling.bytes;
        let room = FULL.saturating_sub(filling.members);
        let fitting = self.waiting.iter().take(room).take_while(|(_, weight)| {
            bytes += weight;
            bytes <= FULL_BYTES
        });
        fitting.count()
    }

    fn take(&mut self, most: usize) -> Vec<T> {
        let count = most.min(self.waiting.len());
        self.waiting.drain(..count).map(|(one, _)| one).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLISECOND: Duration = Duration::from_millis(1);

    /// A broker that syncs each message: a single costs 0.2 ms, a batch 3.
    fn synced(now: Instant) -> Gathering<usize> {
        let mut gathering = Gathering::default();
        gathering.pace.batch(3 * MILLISECOND, now);
        for _ in 0..SAMPLE {
            gathering.pace.single(Duration::from_micros(200) * 64, 64, now);
        }
        gathering
    }

    /// So many come at once: how many went alone.
    fn arrive(gathering: &mut Gathering<usize>, count: usize, now: Instant) -> usize {
        (0..count)
            .filter(|number| {
                let alone = gathering.enter(now).is_some();
                if !alone {
                    gathering.wait(*number, 1000);
                }
                alone
            })
            .count()
    }

    fn together(next: Next<usize>) -> usize {
        match next {
            Next::Together { members, complete: true } => members.len(),
            other => panic!("{other:?}"),
        }
    }

    fn joining(next: Next<usize>) -> usize {
        match next {
            Next::Together { members, complete: false } => members.len(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn few_go_alone_and_many_wait_for_those_ahead_and_then_go_together() {
        let now = Instant::now();
        let mut gathering = synced(now);
        let alone = arrive(&mut gathering, 64, now);
        assert!((16..32).contains(&alone), "{alone}");
        assert_eq!(gathering.next(now), Next::Nobody);
        for in_flight in 1..=alone {
            gathering.single_ended(in_flight, None, now);
        }
        assert_eq!(together(gathering.next(now)), 64 - alone);
    }

    #[test]
    fn those_who_were_just_answered_are_awaited_a_little_by_a_batch_that_has_begun() {
        let now = Instant::now();
        let mut gathering = synced(now);
        gathering.gathers_since = Some(now);
        arrive(&mut gathering, 64, now);
        assert_eq!(together(gathering.next(now)), 64);
        gathering.batch_stored(64, now);
        assert_eq!(gathering.next(now), Next::Nobody);
        arrive(&mut gathering, 60, now);
        assert_eq!(joining(gathering.next(now)), 60);
        arrive(&mut gathering, 3, now);
        assert_eq!(joining(gathering.next(now)), 3);
        assert_eq!(gathering.next(now), Next::Nobody);
        arrive(&mut gathering, 1, now);
        assert_eq!(together(gathering.next(now)), 1);
        assert_eq!(gathering.next(now), Next::Nobody, "until it has ended");
        gathering.batch_stored(64, now);
        arrive(&mut gathering, 40, now);
        assert_eq!(joining(gathering.next(now)), 40);
        assert_eq!(together(gathering.next(now + 6 * MILLISECOND)), 0, "it goes with those that have come");
    }

    #[test]
    fn a_batch_that_has_begun_goes_when_it_is_full_or_as_large_as_may_be() {
        let now = Instant::now();
        for (count, bytes, first, last) in [(250, 1000, 250, 6), (30, FULL_BYTES / 40, 30, 10)] {
            let mut gathering = synced(now);
            gathering.gathers_since = Some(now);
            gathering.batches = 1;
            gathering.batch_stored(FULL * 2, now);
            (0..count).for_each(|number| gathering.wait(number, bytes));
            assert_eq!(joining(gathering.next(now)), first);
            (0..20).for_each(|number| gathering.wait(number, bytes));
            assert_eq!(together(gathering.next(now)), last);
            assert_eq!(gathering.next(now), Next::Nobody, "the rest waits for it");
        }
    }

    #[test]
    fn the_wait_for_singles_is_none_of_the_first_batchs_cost() {
        let now = Instant::now();
        let mut gathering = synced(now);
        gathering.pace = Pace::default();
        gathering.gathers_since = Some(now);
        for _ in 0..SAMPLE {
            gathering.pace.single(Duration::from_micros(200) * 64, 64, now);
        }
        arrive(&mut gathering, 64, now);
        let later = now + 60 * MILLISECOND;
        assert_eq!(together(gathering.next(later)), 64);
        gathering.batch_stored(64, later + 4 * MILLISECOND);
        assert!(gathering.pace.batch_pays(64, later), "it took 4 ms, and alone they take 13");
    }

    #[test]
    fn what_will_not_pay_is_not_begun() {
        let now = Instant::now();
        let mut gathering = synced(now);
        gathering.gathers_since = Some(now);
        gathering.batches = 1;
        let later = now + 3 * MILLISECOND;
        gathering.batch_stored(17, later);
        arrive(&mut gathering, 10, later);
        assert_eq!(gathering.next(later), Next::Nobody);
    }

    #[test]
    fn what_a_batch_costs_includes_the_wait_for_those_that_go_with_it() {
        let now = Instant::now();
        // Alone an event costs 60 µs; a batch takes 3 ms once it has gone, but the next comes together
        // only 3 ms after its answer.
        let mut gathering = Gathering::default();
        for _ in 0..SAMPLE {
            gathering.pace.single(Duration::from_micros(60) * 64, 64, now);
        }
        gathering.gathers_since = Some(now);
        let mut end = now;
        for _ in 0..8 {
            arrive(&mut gathering, 64, end + 3 * MILLISECOND);
            let Next::Together { members, .. } = gathering.next(end + 3 * MILLISECOND) else { break };
            end += 6 * MILLISECOND;
            gathering.batch_stored(members.len(), end);
        }
        assert!(!gathering.pace.batch_pays(64, end));
        let mut quick = Gathering::<usize>::default();
        for _ in 0..SAMPLE {
            quick.pace.single(Duration::from_micros(60) * 64, 64, now);
        }
        quick.pace.batch(3 * MILLISECOND, now);
        assert!(quick.pace.batch_pays(64, now), "had it been taken for as quick as it looks");
    }

    #[test]
    fn the_last_of_a_rush_goes_alone() {
        let now = Instant::now();
        let mut gathering = synced(now);
        gathering.gathers_since = Some(now);
        arrive(&mut gathering, 1, now);
        assert_eq!(gathering.next(now), Next::Alone(vec![0], 1));
        assert_eq!(gathering.enter(now), Some(2), "and who comes then does not wait");
    }

    #[test]
    fn only_full_batches_go_beside_another_and_only_so_many() {
        let now = Instant::now();
        let mut gathering = synced(now);
        gathering.gathers_since = Some(now);
        arrive(&mut gathering, 64, now);
        together(gathering.next(now));
        arrive(&mut gathering, 255, now);
        assert_eq!(gathering.next(now), Next::Nobody);
        arrive(&mut gathering, 1025, now);
        for _ in 0..3 {
            assert_eq!(together(gathering.next(now)), 256);
        }
        assert_eq!(gathering.next(now), Next::Nobody);
    }

    #[test]
    fn a_batch_is_bounded_in_bytes_and_so_large_events_go_alone() {
        let now = Instant::now();
        let mut gathering = synced(now);
        gathering.gathers_since = Some(now);
        for number in 0..64 {
            gathering.wait(number, FULL_BYTES / 40);
        }
        assert_eq!(together(gathering.next(now)), 40);
        let mut gathering = synced(now);
        gathering.gathers_since = Some(now);
        for number in 0..64 {
            gathering.wait(number, FULL_BYTES / 4);
        }
        assert!(matches!(gathering.next(now), Next::Alone(members, 1) if members.len() == 64));
    }

    #[test]
    fn after_a_refusal_all_go_alone_for_a_while() {
        let now = Instant::now();
        let mut gathering = synced(now);
        gathering.gathers_since = Some(now);
        arrive(&mut gathering, 64, now);
        together(gathering.next(now));
        arrive(&mut gathering, 10, now);
        assert_eq!(gathering.batch_failed(64, true, now), 1);
        assert!(matches!(gathering.next(now), Next::Alone(members, 65) if members.len() == 10));
        assert_eq!(arrive(&mut gathering, 100, now), 100);
        assert!(arrive(&mut gathering, 100, now + LONGEST_PAUSE) < 100);
    }

    #[test]
    fn singles_are_measured_now_and_then() {
        let now = Instant::now();
        let mut gathering = synced(now);
        gathering.gathers_since = Some(now);
        arrive(&mut gathering, 64, now);
        let later = now + Duration::from_secs(2);
        assert!(matches!(gathering.next(later), Next::Alone(members, 1) if members.len() == SAMPLE));
        assert_eq!(gathering.next(later), Next::Nobody);
        for in_flight in 1..=SAMPLE {
            gathering.single_ended(in_flight, Some(Duration::from_micros(200) * in_flight as u32), later);
        }
        assert_eq!(together(gathering.next(later)), 48);
    }
}
