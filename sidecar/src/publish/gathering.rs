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
/// So many go alone when it has been long since singles were measured: of fewer, most of the time is that of the round trip.
const SAMPLE: usize = 64;
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
    /// These, each alone.
    Alone(Vec<T>),
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
    /// Lets a newcomer go alone, if that is best: else it is to wait.
    pub(super) fn enter(&mut self, now: Instant) -> bool {
        if !self.gathers() && !self.is_paused(now) && self.pace.batch_pays(self.singles + 1, now) {
            self.gathers_since = Some(now);
        }
        let alone = !self.gathers();
        if alone {
            self.go_alone(1, now);
        }
        alone
    }

    /// So many more are in flight.
    fn go_alone(&mut self, count: usize, now: Instant) {
        self.singles += count;
        self.pace.single_sent(self.singles, self.gathers(), now);
    }

    /// A newcomer of so many bytes waits.
    pub(super) fn wait(&mut self, one: T, bytes: usize) {
        self.waiting.push_back((one, bytes));
    }

    /// A single is no longer under way.
    pub(super) fn single_ended(&mut self, stored: bool, now: Instant) {
        self.singles = self.singles.saturating_sub(1);
        self.pace.single_ended(self.singles, stored, now);
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
    pub(super) fn batch_failed(&mut self, members: usize, refused: bool, now: Instant) {
        self.batch_ended();
        if refused {
            self.paused_until = Some(now + self.pause.mul_f64(rand::random_range(0.5..1.0)));
            self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        }
        self.go_alone(members, now);
    }

    fn batch_ended(&mut self) {
        self.batches = self.batches.saturating_sub(1);
    }

    /// Until when the rest of those who were just answered is awaited: [`Self::next`] is to be asked then.
    pub(super) fn expected_until(&self) -> Option<Instant> {
        self.expected_until
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
            return self.all_alone(now);
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
            return self.all_alone(now);
        }
        if self.pace.singles_unknown(now) {
            return self.alone(SAMPLE, now);
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

    fn all_alone(&mut self, now: Instant) -> Next<T> {
        self.gathers_since = None;
        self.alone(self.waiting.len(), now)
    }

    fn alone(&mut self, most: usize, now: Instant) -> Next<T> {
        let members = self.take(most);
        self.go_alone(members.len(), now);
        Next::Alone(members)
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
mod tests;
