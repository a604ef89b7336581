//! How full an event store is, and when people should hear of it.

use super::conditions::{Finding, HAS_ROOM, State};

/// From this share of its bytes on, in percent, a store is nearly full.
const NEARLY_FULL: u64 = 80;
/// Below this share it no longer is: between the two nothing changes.
const ROOM_AGAIN: u64 = 75;

/// The reason of the condition and of the Kubernetes event.
pub const EVENT_STORE_NEARLY_FULL: &str = "EventStoreNearlyFull";

/// What was read of an event store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Figures {
    /// Bytes that it holds.
    pub bytes: u64,
    /// Bytes that it may hold; `None` without a limit.
    pub max_bytes: Option<u64>,
    /// Events, redriven ones among them.
    pub messages: u64,
    /// The sequence of the oldest event.
    pub first_sequence: u64,
    /// The sequence of the newest event.
    pub last_sequence: u64,
    /// When the oldest event was stored, in seconds since 1970; `None` when there is none.
    pub first_second: Option<i64>,
}

impl Figures {
    /// How much of what it may hold it holds, in percent; `None` without a limit.
    pub fn percent(&self) -> Option<u64> {
        let most = self.max_bytes.filter(|most| *most > 0)?;
        Some(self.bytes.saturating_mul(100) / most)
    }

    /// Whether it is nearly full, given whether it was.
    pub fn is_nearly_full(&self, was: bool) -> bool {
        self.percent().is_some_and(|percent| percent >= if was { ROOM_AGAIN } else { NEARLY_FULL })
    }
}

/// What is wrong with a store that is nearly full, and what to do.
pub fn nearly_full(figures: &Figures) -> String {
    format!(
        "the event store uses {} % of its {} bytes; when it is full, publishing is refused (507): raise \
         eventStore.maxBytes of the Mesh, or let events age by its retention",
        figures.percent().unwrap_or_default(),
        figures.max_bytes.unwrap_or_default()
    )
}

/// The condition: `None` in `figures` while nobody has looked.
pub fn finding(figures: Option<&Figures>, is_nearly_full: bool) -> Finding {
    match figures {
        None => {
            Finding::new(HAS_ROOM, State::Unknown, "NotSeen", "the event store has not been looked at yet")
        }
        Some(figures) if is_nearly_full => {
            Finding::new(HAS_ROOM, false, EVENT_STORE_NEARLY_FULL, nearly_full(figures))
        }
        Some(_) => Finding::new(HAS_ROOM, true, "Room", "the event store has room"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn used(bytes: u64) -> Figures {
        Figures { bytes, max_bytes: Some(1000), ..Figures::default() }
    }

    #[test]
    fn a_store_is_nearly_full_at_80_percent_and_until_it_is_below_75() {
        assert!(!used(799).is_nearly_full(false));
        assert!(used(800).is_nearly_full(false));
        assert!(used(750).is_nearly_full(true));
        assert!(!used(749).is_nearly_full(true));
    }

    #[test]
    fn a_store_without_a_limit_is_never_full() {
        let figures = Figures { bytes: u64::MAX, max_bytes: None, ..Figures::default() };
        assert_eq!((figures.percent(), figures.is_nearly_full(true)), (None, false));
    }

    #[test]
    fn the_condition_says_how_full_it_is_and_what_to_do() {
        let found = finding(Some(&used(830)), true);
        assert_eq!((found.state, found.reason.as_str()), (State::False, "EventStoreNearlyFull"));
        assert!(found.message.contains("83 %") && found.message.contains("maxBytes"), "{}", found.message);
        assert_eq!(finding(None, false).state, State::Unknown);
    }
}
