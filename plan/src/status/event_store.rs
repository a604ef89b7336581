//! What is said when an event store was replaced by another one.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::conditions::{EVENT_STORE_REPLACED, Finding};

/// The finding that the event store is another one than before, if it is. It
/// stays until the object's spec is changed next, so that somebody sees it.
pub fn replaced(
    existing: &[Condition],
    before: Option<&str>,
    now: Option<&str>,
    generation: i64,
) -> Option<Finding> {
    if let Some((before, now)) = before.zip(now)
        && before != now
    {
        let message = format!(
            "the event store made at {before} is gone with all its events; one made at {now} has taken its \
             place, and its events are delivered from the first"
        );
        return Some(Finding::new(EVENT_STORE_REPLACED, true, "EventStoreReplaced", message));
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

    #[test]
    fn a_replaced_store_is_said_until_the_spec_changes() {
        assert_eq!(replaced(&[], None, Some("1"), 1), None);
        assert_eq!(replaced(&[], Some("1"), Some("1"), 1), None);
        assert_eq!(replaced(&[], Some("1"), None, 1), None, "the bus is away");
        let found = replaced(&[], Some("1"), Some("2"), 1).unwrap();
        assert!(found.message.contains("made at 1") && found.message.contains("made at 2"));
        let conditions = merge(&[], [found.clone()], 1, Timestamp::UNIX_EPOCH);
        assert_eq!(replaced(&conditions, Some("2"), Some("2"), 1), Some(found.clone()));
        assert_eq!(replaced(&conditions, Some("2"), None, 1), Some(found));
        assert_eq!(replaced(&conditions, Some("2"), Some("2"), 2), None);
        assert!(replaced(&conditions, Some("2"), Some("3"), 1).unwrap().message.contains("made at 3"));
    }
}
