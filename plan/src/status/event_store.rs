//! What is said when an event store was replaced by another one.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::conditions::{EVENT_STORE_REPLACED, Finding};

/// An event store that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventStore {
    /// When it was made: its identity.
    pub created: String,
    /// Whether it was restored from a backup: then it holds the events and
    /// positions of that, whatever its identity is.
    pub restored: bool,
}

impl EventStore {
    /// Whether it has taken the place of the one made at `before`, all of whose events are gone.
    pub fn replaces(&self, before: Option<&str>) -> bool {
        !self.restored && before.is_some_and(|before| before != self.created)
    }
}

/// The finding that the event store is another one than before, if it is. It
/// stays until the object's spec is changed next, so that somebody sees it, or
/// until a backup is restored.
pub fn replaced(
    existing: &[Condition],
    before: Option<&str>,
    now: Option<&EventStore>,
    generation: i64,
) -> Option<Finding> {
    if let Some((before, now)) = before.zip(now)
        && before != now.created
    {
        let created = &now.created;
        let message = format!(
            "the event store made at {before} is gone with all its events; one made at {created} has taken its \
             place, and its events are delivered from the first"
        );
        let finding = Finding::new(EVENT_STORE_REPLACED, true, "EventStoreReplaced", message);
        return now.replaces(Some(before)).then_some(finding);
    }
    let said = existing.iter().find(|condition| {
        condition.type_ == EVENT_STORE_REPLACED && condition.observed_generation == Some(generation)
    })?;
    Some(Finding::new(EVENT_STORE_REPLACED, true, said.reason.clone(), said.message.clone()))
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::status::merge;

    fn store(created: &str) -> EventStore {
        EventStore { created: created.into(), restored: false }
    }

    #[test]
    fn a_replaced_store_is_said_until_the_spec_changes() {
        assert_eq!(replaced(&[], None, Some(&store("1")), 1), None);
        assert_eq!(replaced(&[], Some("1"), Some(&store("1")), 1), None);
        assert_eq!(replaced(&[], Some("1"), None, 1), None, "the bus is away");
        let found = replaced(&[], Some("1"), Some(&store("2")), 1).unwrap();
        assert!(found.message.contains("made at 1") && found.message.contains("made at 2"));
        let conditions = merge(&[], [found.clone()], 1, Timestamp::UNIX_EPOCH);
        assert_eq!(replaced(&conditions, Some("2"), Some(&store("2")), 1), Some(found.clone()));
        assert_eq!(replaced(&conditions, Some("2"), None, 1), Some(found));
        assert_eq!(replaced(&conditions, Some("2"), Some(&store("2")), 2), None);
        assert!(
            replaced(&conditions, Some("2"), Some(&store("3")), 1).unwrap().message.contains("made at 3")
        );
    }

    #[test]
    fn a_restored_store_replaces_none_and_ends_what_was_said_of_a_loss() {
        let restored = EventStore { restored: true, ..store("3") };
        assert!(store("3").replaces(Some("2")) && !store("3").replaces(None));
        assert!(!restored.replaces(Some("2")));
        assert_eq!(replaced(&[], Some("2"), Some(&restored), 1), None);
        let lost = merge(&[], replaced(&[], Some("1"), Some(&store("2")), 1), 1, Timestamp::UNIX_EPOCH);
        assert_eq!(replaced(&lost, Some("2"), Some(&restored), 1), None);
        // One that takes its place later has none of its events.
        assert!(replaced(&[], Some("3"), Some(&store("4")), 1).is_some());
    }
}
