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
    /// When the last batch ended.
    last_batch: Option<Instant>,
    waiting: VecDeque<(T, usize)>,
    singles: usize,
    batches: usize,
    /// So many are likely to wait soon: those that were just answered come again...
    expected: usize,
    /// ...until then.
    expected_until: Option<Instant>,
    pause: Duration,
    paused_until: Option<Instant>,
}

/// Who goes now.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next<T> {
    /// Nobody yet.
    Nobody,
    /// These, each alone; with the number in flight once the first has gone.
    Alone(Vec<T>, usize),
    /// These, together.
    Together(Vec<T>),
}

impl<T> Default for Gathering<T> {
    fn default() -> Self {
        Self {
            pace: Pace::default(),
            gathers_since: None,
            last_batch: None,
            waiting: VecDeque::new(),
            singles: 0,
            batches: 0,
            expected: 0,
            expected_until: None,
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
        // Those that go together wait for each other first, while singles are under way: that counts too.
        if self.batches == 1
            && let Some(since) = self.gathers_since.max(self.last_batch)
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
        if self.waiting.is_empty() {
            return Next::Nobody;
        }
        if self.is_paused(now) {
            return self.all_alone();
        }
        let count = self.of_a_batch();
        let pays = self.pace.batch_pays(count, now);
        let full = count < self.waiting.len() || count >= FULL;
        if full && pays && self.batches > 0 && self.batches < OPEN {
            return self.together(count);
        }
        if self.singles > 0 || self.batches > 0 {
            return Next::Nobody;
        }
        if self.waiting.len() < self.expected.min(FULL)
            && self.expected_until.is_some_and(|until| now < until)
        {
            return Next::Nobody;
        }
        if !pays {
            return self.all_alone();
        }
        if self.pace.singles_unknown(now) {
            return self.alone(SAMPLE);
        }
        self.together(count)
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

    fn together(&mut self, count: usize) -> Next<T> {
        self.batches += 1;
        Next::Together(self.take(count))
    }

    /// How many of those who wait fit into a batch, from the first on.
    fn of_a_batch(&self) -> usize {
        let mut bytes = 0;
        let fitting = self.waiting.iter().take(FULL).take_while(|(_, weight)| {
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
            Next::Together(members) => members.len(),
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
    fn those_who_were_just_answered_are_awaited_a_little() {
        let now = Instant::now();
        let mut gathering = synced(now);
        gathering.gathers_since = Some(now);
        arrive(&mut gathering, 64, now);
        assert_eq!(together(gathering.next(now)), 64);
        gathering.batch_stored(64, now);
        arrive(&mut gathering, 63, now);
        assert_eq!(gathering.next(now), Next::Nobody);
        arrive(&mut gathering, 1, now);
        assert_eq!(together(gathering.next(now)), 64);
        gathering.batch_stored(64, now);
        arrive(&mut gathering, 40, now);
        assert_eq!(gathering.next(now), Next::Nobody);
        assert_eq!(together(gathering.next(now + 6 * MILLISECOND)), 40);
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
            let Next::Together(members) = gathering.next(end + 3 * MILLISECOND) else { break };
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
