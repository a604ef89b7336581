//! Connections that nobody uses at the moment: kept for a moment, newest first.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// How long an idle connection is kept: less than any server's own idle time.
const IDLE: Duration = Duration::from_secs(3);

/// What can be used again.
pub(crate) trait Reusable {
    /// Whether it still can.
    fn is_good(&self) -> bool;
}

/// The idle connections to one server.
#[derive(Debug)]
pub(crate) struct Idle<C> {
    kept: VecDeque<(C, Instant)>,
    most: usize,
}

impl<C: Reusable> Idle<C> {
    /// For so many at most.
    pub(crate) fn new(most: usize) -> Self {
        Self { kept: VecDeque::new(), most }
    }

    /// The one that was used last, if any is still good.
    pub(crate) fn take(&mut self, now: Instant) -> Option<C> {
        while let Some((connection, since)) = self.kept.pop_back() {
            if now < since + IDLE && connection.is_good() {
                return Some(connection);
            }
        }
        None
    }

    /// Keeps one whose answer was read to its end, instead of the oldest if there are too many.
    pub(crate) fn keep(&mut self, connection: C, now: Instant) {
        if self.kept.len() >= self.most {
            self.kept.pop_front();
        }
        self.kept.push_back((connection, now));
    }

    /// Closes what has been idle too long; says when to look again, if anything is left.
    pub(crate) fn prune(&mut self, now: Instant) -> Option<Instant> {
        while self.kept.front().is_some_and(|(_, since)| *since + IDLE <= now) {
            self.kept.pop_front();
        }
        self.kept.front().map(|(_, since)| *since + IDLE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Numbered(u32, bool);

    impl Reusable for Numbered {
        fn is_good(&self) -> bool {
            self.1
        }
    }

    #[test]
    fn the_newest_good_one_is_used_and_the_oldest_makes_way() {
        let now = Instant::now();
        let mut idle = Idle::new(2);
        for (number, is_good) in [(1, true), (2, true), (3, false)] {
            idle.keep(Numbered(number, is_good), now);
        }
        assert_eq!(idle.take(now).map(|one| one.0), Some(2));
        assert!(idle.take(now).is_none(), "the first made way for the third");
    }

    #[test]
    fn none_is_used_or_kept_after_its_time() {
        let now = Instant::now();
        let mut idle = Idle::new(2);
        idle.keep(Numbered(1, true), now);
        assert_eq!(idle.prune(now), Some(now + IDLE));
        assert!(idle.take(now + IDLE).is_none());
        idle.keep(Numbered(2, true), now);
        assert_eq!(idle.prune(now + IDLE), None);
    }
}
