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
/// The weight of a new measurement.
const WEIGHT: f64 = 0.125;
/// For so long a measurement of singles holds while only batches are sent.
const SINGLES_HOLD: Duration = Duration::from_secs(1);
/// For so long a measurement of batches holds while only singles are sent.
const BATCHES_HOLD: Duration = Duration::from_secs(30);

/// The costs, as moving averages.
#[derive(Debug, Default)]
pub(super) struct Pace {
    single: Option<Measured>,
    batch: Option<Measured>,
}

#[derive(Debug, Clone, Copy)]
struct Measured {
    seconds: f64,
    at: Instant,
}

impl Pace {
    /// A single was stored; so many were in flight, itself among them, when it was sent.
    pub(super) fn single(&mut self, took: Duration, in_flight: usize, now: Instant) {
        if in_flight >= ENOUGH_IN_FLIGHT {
            average(&mut self.single, took.as_secs_f64() / in_flight as f64, now);
        }
    }

    /// A batch was stored while no other was open.
    pub(super) fn batch(&mut self, took: Duration, now: Instant) {
        average(&mut self.batch, took.as_secs_f64(), now);
    }

    /// Whether so many events are stored sooner as one batch than one by one.
    pub(super) fn batch_pays(&self, events: usize, now: Instant) -> bool {
        let Some(single) = self.single else { return false };
        events >= FEWEST && single.seconds * events as f64 > self.batch_seconds(now) * MARGIN
    }

    /// Whether it has been long since singles were measured.
    pub(super) fn singles_unknown(&self, now: Instant) -> bool {
        self.single.is_none_or(|single| now - single.at > SINGLES_HOLD)
    }

    /// How long those that a batch has just answered may take to come again.
    pub(super) fn linger(&self, now: Instant) -> Duration {
        Duration::from_secs_f64(self.batch_seconds(now) / 2.0)
            .clamp(Duration::from_millis(1), Duration::from_millis(5))
    }

    fn batch_seconds(&self, now: Instant) -> f64 {
        match self.batch {
            Some(batch) if now - batch.at <= BATCHES_HOLD => batch.seconds,
            _ => USUAL_BATCH.as_secs_f64(),
        }
    }
}

fn average(measured: &mut Option<Measured>, seconds: f64, now: Instant) {
    let seconds = match measured {
        Some(before) => before.seconds + (seconds - before.seconds) * WEIGHT,
        None => seconds,
    };
    *measured = Some(Measured { seconds, at: now });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pace(single: Duration, batch: Option<Duration>, now: Instant) -> Pace {
        let mut pace = Pace::default();
        pace.single(single * 64, 64, now);
        if let Some(batch) = batch {
            pace.batch(batch, now);
        }
        pace
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
        pace.single(Duration::from_millis(100), 1, now);
        assert!(!pace.batch_pays(256, now));
        assert!(pace.singles_unknown(now));
    }
}
