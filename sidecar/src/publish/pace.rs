//! What storing costs at present, as measured: so events go together where
//! that is quicker, and only there.
//!
//! One by one, many in flight, an event costs what the broker takes for each: on
//! one server some 0.2 ms when every message is synced to disk, some 0.02 ms when
//! not. A batch costs some 3 ms whatever its size (jetstream-facts, section 4).
//! Disks and clusters differ, so both are measured where the sidecar runs.

use std::time::Duration;

use tokio::time::Instant;

/// What a batch is taken to cost until one has been measured.
const USUAL_BATCH: Duration = Duration::from_millis(3);
/// A batch must be clearly quicker.
const MARGIN: f64 = 1.2;
/// One is tried even where it would take so many times as long as singles, if that has not been measured of late.
const TRIAL: f64 = 2.0;
/// The fewest events that are worth a batch.
const FEWEST: usize = 16;
/// With fewer in flight the time is that of a round trip, not what one more costs.
const ENOUGH_IN_FLIGHT: usize = 8;
/// So many singles make one measurement, which takes so long at least: while a broker that is quick stands still for some
/// milliseconds (a flush, its garbage, another process on its core) they pile up too, but then they are gone at once.
const SAMPLE: usize = 256;
const SAMPLE_TIME: Duration = Duration::from_millis(20);
/// After so long fewer will do: they are that slow.
const LONGEST_SAMPLE_TIME: Duration = Duration::from_millis(250);
/// So long fewer may be in flight in between: answers come many at once, and then as many come again.
const LONGEST_DIP: Duration = Duration::from_millis(2);
/// The fewest: then, and of those that had been made to wait.
const SMALL_SAMPLE: usize = 8;
/// How much a measurement counts beside those before.
const WEIGHT: f64 = 0.25;
/// Bounds of the wait for those that were just answered.
const SHORTEST_LINGER: Duration = Duration::from_millis(1);
const LONGEST_LINGER: Duration = Duration::from_millis(10);
/// For so long measurements of singles count.
const SINGLES_HOLD: Duration = Duration::from_secs(1);
/// For so long measurements of batches count.
const BATCHES_HOLD: Duration = Duration::from_secs(15);

/// The costs, each the average of late.
#[derive(Debug)]
pub(super) struct Pace {
    single: Average,
    batch: Average,
    rush: Option<Rush>,
}

/// A time in which enough singles were in flight, from its first moment on: what is stored in it took all of it.
#[derive(Debug)]
struct Rush {
    began: Instant,
    stored: usize,
    /// Since then fewer are.
    dips_since: Option<Instant>,
    /// They are in flight because they had been made to wait, and not because they piled up.
    let_go: bool,
}

impl Rush {
    fn new(let_go: bool, now: Instant) -> Self {
        Self { began: now, stored: 0, dips_since: None, let_go }
    }

    /// Fewer have been in flight for long.
    fn is_over(&self, now: Instant) -> bool {
        self.dips_since.is_some_and(|since| now - since > LONGEST_DIP)
    }

    /// What a single cost in it, seconds: `None` while it cannot be told.
    fn cost(&self, now: Instant) -> Option<f64> {
        let took = now - self.began;
        let all_back = self.let_go && self.dips_since.is_some();
        let enough = self.stored >= SAMPLE && took >= SAMPLE_TIME
            || self.stored >= SMALL_SAMPLE && (took >= LONGEST_SAMPLE_TIME || all_back);
        enough.then(|| took.as_secs_f64() / self.stored as f64)
    }
}

impl Default for Pace {
    fn default() -> Self {
        Self { single: Average::kept_for(SINGLES_HOLD), batch: Average::kept_for(BATCHES_HOLD), rush: None }
    }
}

impl Pace {
    /// A single was sent, and so many are in flight now. `let_go`: because they had been made to wait.
    pub(super) fn single_sent(&mut self, in_flight: usize, let_go: bool, now: Instant) {
        if in_flight < ENOUGH_IN_FLIGHT {
            return;
        }
        match &mut self.rush {
            Some(rush) if !rush.is_over(now) => rush.dips_since = None,
            rush => *rush = Some(Rush::new(let_go, now)),
        }
    }

    /// A single is no longer under way, and so many still are.
    pub(super) fn single_ended(&mut self, in_flight: usize, stored: bool, now: Instant) {
        let Some(rush) = self.rush.as_mut().filter(|rush| !rush.is_over(now)) else { return };
        rush.stored += usize::from(stored);
        if in_flight < ENOUGH_IN_FLIGHT {
            rush.dips_since.get_or_insert(now);
        }
        if let Some(cost) = rush.cost(now) {
            self.single.note(cost, now);
            self.rush = (in_flight >= ENOUGH_IN_FLIGHT).then(|| Rush::new(false, now));
        }
    }

    /// A batch was stored while no other was open.
    pub(super) fn batch(&mut self, took: Duration, now: Instant) {
        self.batch.note(took.as_secs_f64(), now);
    }

    /// Whether so many events are stored sooner as one batch than one by one, or
    /// that is to be found out.
    pub(super) fn batch_pays(&self, events: usize, now: Instant) -> bool {
        let Some(single) = self.single.seconds else { return false };
        let singles = single * events as f64;
        events >= FEWEST
            && match self.batch.seconds.filter(|_| !self.batch.is_old(now)) {
                Some(batch) => singles > batch * MARGIN,
                None => singles * TRIAL > USUAL_BATCH.as_secs_f64(),
            }
    }

    /// Whether it has been long since singles were measured.
    pub(super) fn singles_unknown(&self, now: Instant) -> bool {
        self.single.is_old(now)
    }

    /// How long those that a batch has just answered may take to come again: as long as a batch takes, which is what it costs
    /// all when some are left out, who then need one of their own.
    pub(super) fn linger(&self) -> Duration {
        let batch = self.batch.seconds.unwrap_or(USUAL_BATCH.as_secs_f64());
        Duration::from_secs_f64(batch).clamp(SHORTEST_LINGER, LONGEST_LINGER)
    }
}

/// The average of the measurements of late.
#[derive(Debug)]
struct Average {
    hold: Duration,
    seconds: Option<f64>,
    last: Option<Instant>,
}

impl Average {
    fn kept_for(hold: Duration) -> Self {
        Self { hold, seconds: None, last: None }
    }

    fn note(&mut self, seconds: f64, now: Instant) {
        let before = self.seconds.filter(|_| !self.is_old(now));
        self.seconds = Some(before.map_or(seconds, |before| before + (seconds - before) * WEIGHT));
        self.last = Some(now);
    }

    fn is_old(&self, now: Instant) -> bool {
        self.last.is_none_or(|last| now - last > self.hold)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn singles(pace: &mut Pace, cost: Duration, now: Instant) {
        pace.single.note(cost.as_secs_f64(), now);
    }

    fn pace(single: Duration, batch: Option<Duration>, now: Instant) -> Pace {
        let mut pace = Pace::default();
        singles(&mut pace, single, now);
        if let Some(batch) = batch {
            pace.batch(batch, now);
        }
        pace
    }

    #[test]
    fn a_single_stall_does_not_make_singles_look_slow_for_long_but_a_slower_disk_does() {
        let now = Instant::now();
        let mut pace = pace(Duration::from_micros(5), Some(Duration::from_millis(3)), now);
        singles(&mut pace, Duration::from_micros(100), now);
        for _ in 0..10 {
            singles(&mut pace, Duration::from_micros(5), now);
        }
        assert!(!pace.batch_pays(256, now));
        for _ in 0..10 {
            singles(&mut pace, Duration::from_micros(200), now);
        }
        assert!(pace.batch_pays(256, now));
    }

    #[test]
    fn a_batch_pays_where_each_single_is_synced_and_many_wait() {
        let now = Instant::now();
        let synced = pace(Duration::from_micros(200), Some(Duration::from_millis(4)), now);
        assert!(synced.batch_pays(64, now));
        assert!(!synced.batch_pays(20, now));
    }

    #[test]
    fn a_batch_does_not_pay_where_singles_are_quick() {
        let now = Instant::now();
        let quick = pace(Duration::from_micros(15), Some(Duration::from_millis(4)), now);
        assert!(!quick.batch_pays(256, now));
        assert!(!pace(Duration::from_micros(5), None, now).batch_pays(256, now), "not worth a trial either");
    }

    #[test]
    fn a_batch_is_tried_where_nothing_is_known_of_batches() {
        let now = Instant::now();
        let unknown = pace(Duration::from_micros(40), None, now);
        assert!(unknown.batch_pays(64, now));
        let known = pace(Duration::from_micros(40), Some(Duration::from_millis(3)), now);
        assert!(!known.batch_pays(64, now));
    }

    #[test]
    fn what_was_measured_counts_for_a_while() {
        let now = Instant::now();
        let slow_batches = pace(Duration::from_micros(200), Some(Duration::from_millis(50)), now);
        assert!(!slow_batches.batch_pays(64, now));
        assert!(slow_batches.batch_pays(64, now + BATCHES_HOLD * 2), "tried again after a while");
    }

    /// So many clients, each with its next event once the last one is stored, for so long: one is stored each `cost`.
    fn run(pace: &mut Pace, clients: usize, cost: Duration, time: Duration, began: Instant) -> Instant {
        let mut now = began;
        (1..=clients).for_each(|in_flight| pace.single_sent(in_flight, false, now));
        while now < began + time {
            now += cost;
            pace.single_ended(clients - 1, true, now);
            pace.single_sent(clients, false, now);
        }
        now
    }

    #[test]
    fn a_round_trip_alone_says_nothing_of_what_one_more_costs() {
        let mut pace = Pace::default();
        let now = run(&mut pace, 1, Duration::from_millis(100), Duration::from_secs(10), Instant::now());
        assert!(!pace.batch_pays(256, now));
        assert!(pace.singles_unknown(now));
    }

    #[test]
    fn what_one_more_costs_is_the_time_between_two_while_many_are_in_flight() {
        for cost in [Duration::from_micros(20), Duration::from_micros(200)] {
            let mut pace = Pace::default();
            run(&mut pace, 64, cost, Duration::from_millis(100), Instant::now());
            let measured = pace.single.seconds.unwrap();
            assert!((measured / cost.as_secs_f64() - 1.0).abs() < 0.05, "{measured}");
        }
    }

    #[test]
    fn answers_that_come_many_at_once_are_measured_too() {
        let mut now = Instant::now();
        let mut pace = Pace::default();
        for _ in 0..10 {
            (1..=64).for_each(|in_flight| pace.single_sent(in_flight, false, now));
            now += Duration::from_millis(12);
            (0..64).rev().for_each(|in_flight| pace.single_ended(in_flight, true, now));
            now += Duration::from_millis(1);
        }
        assert!(pace.batch_pays(64, now));
    }

    #[test]
    fn what_piles_up_while_the_broker_stands_still_is_no_measurement() {
        let mut now = Instant::now();
        let mut pace = Pace::default();
        for _ in 0..100 {
            (1..=40).for_each(|in_flight| pace.single_sent(in_flight, false, now));
            now += Duration::from_millis(8);
            (0..40).rev().for_each(|in_flight| pace.single_ended(in_flight, true, now));
            now += Duration::from_millis(100);
        }
        assert!(!pace.batch_pays(256, now));
    }

    #[test]
    fn what_comes_one_by_one_after_a_standstill_is_no_measurement_either() {
        let mut now = Instant::now();
        let mut pace = Pace::default();
        (1..=40).for_each(|in_flight| pace.single_sent(in_flight, false, now));
        now += Duration::from_millis(8);
        (0..40).rev().for_each(|in_flight| pace.single_ended(in_flight, true, now));
        for _ in 0..100 {
            now += Duration::from_millis(100);
            pace.single_sent(1, false, now);
            pace.single_ended(0, true, now);
        }
        assert!(!pace.batch_pays(256, now));
    }

    #[test]
    fn those_that_fail_are_not_taken_for_stored_ones() {
        let mut now = Instant::now();
        let mut pace = Pace::default();
        (1..=64).for_each(|in_flight| pace.single_sent(in_flight, true, now));
        for in_flight in (0..64).rev() {
            now += Duration::from_millis(1);
            pace.single_ended(in_flight, false, now);
        }
        assert!(pace.singles_unknown(now));
    }
}
