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
/// A batch pays only where it is clearly quicker.
const MARGIN: f64 = 1.5;
/// The fewest events that are worth a batch.
const FEWEST: usize = 16;
/// With fewer in flight the time is that of a round trip, not what one more costs.
const ENOUGH_IN_FLIGHT: usize = 8;
/// So many singles make one measurement.
const SAMPLE: usize = 8;
/// For so long a measurement of singles counts, at most twice that.
const SINGLES_HOLD: Duration = Duration::from_secs(1);
/// For so long a measurement of batches counts, at most twice that.
const BATCHES_HOLD: Duration = Duration::from_secs(15);

/// The costs, each the best of late: a machine that was busy with other things
/// for a moment says nothing of what is quicker.
#[derive(Debug)]
pub(super) struct Pace {
    single: Best,
    batch: Best,
    /// The measurement of singles that is being made: seconds, events in flight, singles.
    sample: (f64, usize, usize),
}

impl Default for Pace {
    fn default() -> Self {
        Self { single: Best::of(SINGLES_HOLD), batch: Best::of(BATCHES_HOLD), sample: (0.0, 0, 0) }
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

    /// Whether so many events are stored sooner as one batch than one by one.
    pub(super) fn batch_pays(&self, events: usize, now: Instant) -> bool {
        let Some(single) = self.single.seconds else { return false };
        events >= FEWEST && single * events as f64 > self.batch_seconds(now) * MARGIN
    }

    /// Whether it has been long since singles were measured.
    pub(super) fn singles_unknown(&self, now: Instant) -> bool {
        self.single.is_old(now)
    }

    /// How long those that a batch has just answered may take to come again.
    pub(super) fn linger(&self, now: Instant) -> Duration {
        Duration::from_secs_f64(self.batch_seconds(now) / 2.0)
            .clamp(Duration::from_millis(1), Duration::from_millis(5))
    }

    fn batch_seconds(&self, now: Instant) -> f64 {
        let known = self.batch.seconds.filter(|_| !self.batch.is_old(now));
        known.unwrap_or(USUAL_BATCH.as_secs_f64())
    }
}

/// The least of the measurements of late.
#[derive(Debug)]
struct Best {
    hold: Duration,
    /// Of this span and the one before it.
    seconds: Option<f64>,
    /// Of this span alone.
    of_span: f64,
    span: Option<Instant>,
    last: Option<Instant>,
}

impl Best {
    fn of(hold: Duration) -> Self {
        Self { hold, seconds: None, of_span: f64::INFINITY, span: None, last: None }
    }

    fn note(&mut self, seconds: f64, now: Instant) {
        let mut before = self.seconds.unwrap_or(f64::INFINITY);
        if self.is_old(now) {
            (before, self.of_span, self.span) = (f64::INFINITY, f64::INFINITY, Some(now));
        } else if self.span.is_none_or(|span| now - span > self.hold) {
            (before, self.of_span, self.span) = (self.of_span, f64::INFINITY, Some(now));
        }
        self.of_span = self.of_span.min(seconds);
        self.seconds = Some(before.min(seconds));
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
    fn a_stall_does_not_make_singles_look_slow_but_a_slower_disk_does() {
        let now = Instant::now();
        let mut pace = pace(Duration::from_micros(15), None, now);
        singles(&mut pace, Duration::from_millis(5), now + SINGLES_HOLD / 2);
        assert!(!pace.batch_pays(256, now + SINGLES_HOLD / 2));
        for tenths in 10..40 {
            singles(&mut pace, Duration::from_millis(5), now + SINGLES_HOLD * tenths / 10);
        }
        assert!(pace.batch_pays(256, now + SINGLES_HOLD * 4));
    }

    #[test]
    fn a_batch_pays_where_each_single_is_synced_and_many_wait() {
        let now = Instant::now();
        let synced = pace(Duration::from_micros(200), None, now);
        assert!(synced.batch_pays(64, now));
        assert!(!synced.batch_pays(20, now));
    }

    #[test]
    fn a_batch_does_not_pay_where_singles_are_quick() {
        let now = Instant::now();
        let quick = pace(Duration::from_micros(15), None, now);
        assert!(!quick.batch_pays(256, now));
    }

    #[test]
    fn what_is_measured_outweighs_what_is_usual() {
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
