//! The event that says that a key's events were erased.
//!
//! It is stored before the first of them goes, under the service whose events
//! they were and in their partition: a subscriber gets it after everything of
//! that key that it may still get.

use serde::{Deserialize, Serialize};

use crate::name::ServiceName;
use crate::partition::Partition;

/// Its type.
pub const TYPE: &str = "murmur.erased";

/// Its data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Erased {
    /// The key: the events' `partitionkey`, else their `id`.
    pub key: String,
    /// The service that published them.
    pub service: ServiceName,
    /// How many there were when it was stored.
    pub events: u64,
}

/// Where it is stored: as an event of that service, in the partition of the key.
pub fn subject(service: &ServiceName, key: &str) -> String {
    format!("events.{service}.{}.{TYPE}", Partition::of(key).number())
}

/// What an administrator must be allowed to publish to.
pub fn permission() -> String {
    format!("events.*.*.{TYPE}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_stored_where_a_subscription_to_its_type_finds_it_beside_the_events_of_its_key() {
        let (users, event_type) = ("users".parse().unwrap(), TYPE.parse().unwrap());
        let as_event = crate::subject::event(&users, Partition::of("user-1"), &event_type);
        assert_eq!(subject(&users, "user-1"), as_event);
    }
}
