//! Conditions: one finding about one aspect each.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// All is as it should be.
pub const READY: &str = "Ready";
/// The service's database is there.
pub const DATABASE_READY: &str = "DatabaseReady";
/// What the service commits to its outbox is published.
pub const OUTBOX_READY: &str = "OutboxReady";
/// The service's place on the bus is there.
pub const BUS_READY: &str = "BusReady";
/// Pods are being rolled out.
pub const PROGRESSING: &str = "Progressing";
/// A mesh's event store has room.
pub const HAS_ROOM: &str = "HasRoom";
/// A subscription has no event waiting.
pub const CAUGHT_UP: &str = "CaughtUp";
/// A subscription's events reach the service.
pub const DELIVERING: &str = "Delivering";

/// The events before are gone: the event store is another one.
pub const EVENT_STORE_REPLACED: &str = "EventStoreReplaced";

/// The longest message, in bytes; the schema allows 32 KiB.
const LONGEST_MESSAGE: usize = 4096;

/// Whether something holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It does.
    True,
    /// It does not.
    False,
    /// Nobody has seen it.
    Unknown,
}

impl State {
    /// As the API writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

impl From<bool> for State {
    fn from(holds: bool) -> Self {
        if holds { Self::True } else { Self::False }
    }
}

/// What was found about one aspect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The condition's type, such as [`READY`].
    pub kind: &'static str,
    /// Whether it holds.
    pub state: State,
    /// The cause as one CamelCase word.
    pub reason: String,
    /// The cause and what to do about it.
    pub message: String,
}

impl Finding {
    /// A finding.
    pub fn new(
        kind: &'static str,
        state: impl Into<State>,
        reason: impl Into<String>,
        message: impl Into<String>,
    ) -> Self {
        Self { kind, state: state.into(), reason: reason.into(), message: message.into() }
    }
}

/// Why something is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The cause as one CamelCase word.
    pub reason: String,
    /// The cause and what to do about it.
    pub message: String,
}

impl Problem {
    /// A problem.
    pub fn new(reason: impl Into<String>, message: impl Into<String>) -> Self {
        Self { reason: reason.into(), message: message.into() }
    }
}

impl From<&crate::Invalid> for Problem {
    fn from(invalid: &crate::Invalid) -> Self {
        Self::new(invalid.reason(), invalid.to_string())
    }
}

/// The conditions that say what was found. The time of the last change is kept
/// where the state is what it was; conditions that nothing was found about go.
pub fn merge(
    existing: &[Condition],
    findings: impl IntoIterator<Item = Finding>,
    generation: i64,
    now: Timestamp,
) -> Vec<Condition> {
    findings
        .into_iter()
        .map(|finding| {
            let status = finding.state.as_str();
            let unchanged = existing
                .iter()
                .find(|condition| condition.type_ == finding.kind && condition.status == status);
            Condition {
                type_: finding.kind.to_owned(),
                status: status.to_owned(),
                reason: finding.reason,
                message: cut(finding.message),
                observed_generation: Some(generation),
                last_transition_time: unchanged.map_or_else(
                    || Time(whole_second(now)),
                    |condition| condition.last_transition_time.clone(),
                ),
            }
        })
        .collect()
}

/// The API keeps whole seconds: a fraction would look like a change at each comparison.
fn whole_second(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

fn cut(mut message: String) -> String {
    if message.len() > LONGEST_MESSAGE {
        let end = (0..=LONGEST_MESSAGE - 3).rev().find(|at| message.is_char_boundary(*at)).unwrap_or(0);
        message.truncate(end);
        message.push('…');
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::new(second, 5).unwrap()
    }

    fn ready(state: State, message: &str) -> Finding {
        Finding::new(READY, state, "Because", message)
    }

    #[test]
    fn the_time_of_the_last_change_stays_while_the_state_does() {
        let first = merge(&[], [ready(State::False, "a")], 1, at(10));
        let second = merge(&first, [ready(State::False, "b")], 2, at(20));
        assert_eq!(second[0].last_transition_time, first[0].last_transition_time);
        assert_eq!((second[0].message.as_str(), second[0].observed_generation), ("b", Some(2)));
        let third = merge(&second, [ready(State::True, "b")], 2, at(30));
        assert_eq!(third[0].last_transition_time, Time(Timestamp::from_second(30).unwrap()));
    }

    #[test]
    fn a_condition_that_nothing_was_found_about_goes() {
        let first =
            merge(&[], [ready(State::True, ""), Finding::new(DATABASE_READY, true, "Bound", "")], 1, at(1));
        assert_eq!(merge(&first, [ready(State::True, "")], 1, at(2)).len(), 1);
    }

    #[test]
    fn a_long_message_is_cut_between_characters() {
        let merged = merge(&[], [ready(State::True, &"ä".repeat(5000))], 1, at(1));
        assert!(merged[0].message.len() <= LONGEST_MESSAGE && merged[0].message.ends_with('…'));
    }
}
