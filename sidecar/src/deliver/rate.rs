//! How many events a second may be sent. Pure.

use std::time::Duration;

use tokio::time::Instant;

/// What may be sent at once after a silence, as a share of a second.
const BURST: f64 = 0.1;

/// Tokens that come at a steady rate; each event takes one.
#[derive(Debug)]
pub(super) struct Rate {
    tokens: f64,
    at: Instant,
}

impl Rate {
    /// Full from the start.
    pub(super) fn new(now: Instant) -> Self {
        Self { tokens: f64::MAX, at: now }
    }

    /// How many events may be sent now, at so many a second; at least one, or when there will be one.
    pub(super) fn may_send(&mut self, per_second: f64, now: Instant) -> Result<usize, Instant> {
        let most = (per_second * BURST).max(1.0);
        let gained = now.duration_since(self.at).as_secs_f64() * per_second;
        self.tokens = (self.tokens + gained).min(most);
        self.at = now;
        if self.tokens >= 1.0 {
            // Not negative, and no more than a tenth of a u32.
            return Ok(self.tokens as usize);
        }
        let missing = (1.0 - self.tokens) / per_second.max(f64::MIN_POSITIVE);
        Err(now + Duration::try_from_secs_f64(missing).unwrap_or(Duration::MAX).min(LONGEST))
    }

    /// So many were sent.
    pub(super) fn sent(&mut self, events: usize) {
        self.tokens -= events as f64;
    }
}

/// The longest wait before it is looked again: the rate may have changed.
const LONGEST: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    /// How many events go out in this time when there are always some.
    fn sent(per_second: f64, time: Duration) -> usize {
        let start = Instant::now();
        let (mut rate, mut now, mut sent) = (Rate::new(start), start, 0);
        while now < start + time {
            match rate.may_send(per_second, now) {
                Ok(_) => {
                    rate.sent(1);
                    sent += 1;
                }
                Err(next) => now = next.max(now + Duration::from_micros(1)),
            }
        }
        sent
    }

    #[test]
    fn as_many_go_out_as_the_rate_allows_and_a_little_at_once_in_the_beginning() {
        for (per_second, expected) in [(200.0, 2000), (1.0, 10), (0.5, 5)] {
            let sent = sent(per_second, Duration::from_secs(10));
            let burst = (per_second * BURST).max(1.0) as usize;
            assert!((expected..=expected + burst + 1).contains(&sent), "{per_second}: {sent}");
        }
    }

    #[test]
    fn after_a_silence_no_more_than_a_tenth_of_a_second_goes_out_at_once() {
        let start = Instant::now();
        let mut rate = Rate::new(start);
        rate.sent(0);
        assert_eq!(rate.may_send(200.0, start + Duration::from_secs(3600)), Ok(20));
    }

    #[test]
    fn a_rate_of_nothing_waits_but_not_for_ever() {
        let start = Instant::now();
        let mut rate = Rate::new(start);
        assert_eq!(rate.may_send(0.0, start), Ok(1));
        rate.sent(1);
        assert_eq!(rate.may_send(0.0, start), Err(start + LONGEST));
    }
}
