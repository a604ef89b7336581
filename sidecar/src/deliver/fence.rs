//! Is what is held here still ours? Only as long as the broker was heard within
//! its ack wait; after that it may have given everything to another.
//!
//! Measured on a clock that runs through a stop of the process or the machine.

use std::time::Duration;

use murmur_mesh::durable::ACK_WAIT;
use rustix::time::{ClockId, clock_gettime};

/// A moment on that clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment(Duration);

impl Moment {
    /// Now.
    pub(crate) fn now() -> Self {
        let now = clock_gettime(ClockId::Boottime);
        // Never negative on this clock, and nanoseconds are below a second.
        Self(Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap_or(0)))
    }

    /// How long ago it was.
    pub(crate) fn elapsed(self) -> Duration {
        Self::now().0.saturating_sub(self.0)
    }
}

/// When the broker was last heard about one durable.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fence {
    heard: Moment,
}

impl Fence {
    /// Heard at this moment.
    pub(super) fn new(now: Moment) -> Self {
        Self { heard: now }
    }

    /// Whether what is held is still ours.
    pub(super) fn holds(self, now: Moment) -> bool {
        now.0.saturating_sub(self.heard.0) < ACK_WAIT
    }

    /// The broker was heard.
    pub(super) fn heard(&mut self, now: Moment) {
        self.heard = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_is_ours_only_within_the_ack_wait_of_the_brokers_last_word() {
        let start = Moment(Duration::from_secs(100));
        let later = |by: Duration| Moment(start.0 + by);
        let mut fence = Fence::new(start);
        assert!(fence.holds(later(ACK_WAIT - Duration::from_millis(1))));
        assert!(!fence.holds(later(ACK_WAIT)));
        fence.heard(later(ACK_WAIT));
        assert!(fence.holds(later(ACK_WAIT)));
    }

    #[test]
    fn the_clock_runs() {
        let before = Moment::now();
        std::thread::sleep(Duration::from_millis(2));
        assert!(Moment::now() > before);
    }
}
