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
/// So many singles make one measurement.
const SAMPLE: usize = 8;
/// How much a measurement counts beside those before.
const WEIGHT: f64 = 0.25;
/// For so long measurements of singles count.
const SINGLES_HOLD: Duration = Duration::from_secs(1);
/// For so long measurements of batches count.
const BATCHES_HOLD: Duration = Duration::from_secs(15);

/// The costs, each the average of late.
#[derive(Debug)]
pub(super) struct Pace {
    single: Average,
    batch: Average,
    /// The measurement of singles that is being made: seconds, events in flight, singles.
    sample: (f64, usize, usize),
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            single: Average::kept_for(SINGLES_HOLD),
            batch: Average::kept_for(BATCHES_HOLD),
            sample: (0.0, 0, 0),
        }
    }
}

impl Pace {
    /// A single was stored; so many were in flight, itself among them, when it was sent.
    pub(super) fn single(&mut self, took: Duration, in_flight: usize, now: Instant) {
        if in_flight < ENOUGH_IN_FLIGHT {
            return;
        }
        let (seconds, events, singles) = &mut self.sample;
        *seconds += took.as_secs_f64();
        *events += in_flight;
        *singles += 1;
        if *singles == SAMPLE {
            self.single.note(*seconds / *events as f64, now);
            self.sample = (0.0, 0, 0);
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

    /// How long those that a batch has just answered may take to come again.
    pub(super) fn linger(&self) -> Duration {
        let batch = self.batch.seconds.unwrap_or(USUAL_BATCH.as_secs_f64());
        Duration::from_secs_f64(batch / 2.0).clamp(Duration::from_millis(1), Duration::from_millis(5))
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
        for _ in 0..SAMPLE {
            pace.single(cost * 64, 64, now);
        }
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

    #[test]
    fn a_round_trip_alone_says_nothing_of_what_one_more_costs() {
        let now = Instant::now();
        let mut pace = Pace::default();
        for _ in 0..100 {
            pace.single(Duration::from_millis(100), 1, now);
        }
        assert!(!pace.batch_pays(256, now));
        assert!(pace.singles_unknown(now));
    }
}
