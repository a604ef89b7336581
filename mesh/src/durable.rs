//! Durable consumers: the operator makes them, sidecars pull from them.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use crate::name::{ServiceName, SubscriptionName};

/// The one priority group of a pinned durable.
pub const PIN_GROUP: &str = "g";
/// How long the broker waits for an acknowledgement, or a progress mark, before
/// it delivers an event again.
pub const ACK_WAIT: Duration = Duration::from_secs(10);
/// How long a pin outlives the last pull of its holder. More than [`ACK_WAIT`]
/// and two seconds: what a dead holder had then comes before newer events.
pub const PIN_TIMEOUT: Duration = Duration::from_secs(13);
/// How long one pull waits: at most a quarter of [`PIN_TIMEOUT`], as a pull is
/// what renews the pin.
pub const PULL_EXPIRES: Duration = Duration::from_secs(3);
/// Metadata key: the uid of the EventSubscription that a durable belongs to.
pub const OWNER_UID: &str = "murmur.dev/owner-uid";
/// Metadata key: the name of that EventSubscription.
pub const OWNER_NAME: &str = "murmur.dev/subscription";
/// Metadata key, in place of [`OWNER_NAME`]: the Microservice that a durable belongs to.
pub const OWNER_MICROSERVICE: &str = "murmur.dev/microservice";
/// Metadata key: the service that receives.
pub const OWNER_SERVICE: &str = "murmur.dev/service";

/// Which part of a subscription's events a durable covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Shard {
    /// All of them, without an order (`ordering: None`) or in one (`ordering: Strict`).
    All,
    /// The partitions of this shard, in order per key (`ordering: Key`).
    Number(u16),
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::Number(number) => write!(f, "{number}"),
        }
    }
}

/// Metadata key: the id of the replay that a durable was made for, or, on the
/// first ones of a subscription, the id that was there when they were made.
pub const REPLAY_ID: &str = "murmur.dev/replay";
/// Metadata key: the last sequence of the event store when a replay began.
pub const REPLAY_BOUNDARY: &str = "murmur.dev/replay-boundary";
/// Metadata key: what a durable has delivered from its start on, as subjects
/// with a space between two; what its filters have beyond that was added later.
pub const FIRST_EVENTS: &str = "murmur.dev/first-events";

/// The name of a durable: `<subscription>-<shard>`, and in a replay
/// `<subscription>-<shard>_<hash of the replay's id>`.
///
/// A shard's text holds no `-`, so two subscriptions never share a name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DurableName(String);

impl DurableName {
    /// The durable of one shard of a subscription, in the replay of this id if there was one.
    pub fn new(subscription: &SubscriptionName, shard: Shard, replay: Option<&str>) -> Self {
        Self(match replay {
            None => format!("{subscription}-{shard}"),
            Some(id) => format!("{subscription}-{shard}_{:016x}", xxh3_64(id.as_bytes())),
        })
    }

    /// The durable by which a service reads back what came out of its own outbox: no
    /// subscription's has anything but a shard before the `_`.
    pub fn outbox(service: &ServiceName) -> Self {
        Self(format!("outbox_{service}"))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for DurableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_subscriptions_never_share_a_durable() {
        let plain: SubscriptionName = "a".parse().unwrap();
        let tricky: SubscriptionName = "a-0".parse().unwrap();
        let names = [
            (&plain, Shard::Number(0)),
            (&plain, Shard::All),
            (&tricky, Shard::Number(0)),
            (&tricky, Shard::All),
        ]
        .map(|(name, shard)| DurableName::new(name, shard, None).to_string());
        assert_eq!(names, ["a-0", "a-all", "a-0-0", "a-0-all"]);
    }

    #[test]
    fn each_replay_has_durables_of_its_own() {
        let name: SubscriptionName = "a".parse().unwrap();
        let of = |id| DurableName::new(&name, Shard::Number(0), id).to_string();
        assert_eq!(of(Some("2026-11-21")), "a-0_2d71778e14f2d85c");
        assert_ne!(of(Some("1")), of(Some("2")));
    }

    #[test]
    fn an_outboxs_durable_is_no_subscriptions() {
        let outbox = DurableName::outbox(&"all".parse().unwrap());
        assert_eq!(outbox.as_str(), "outbox_all");
        let of_replay = DurableName::new(&"outbox".parse().unwrap(), Shard::All, Some("all"));
        assert!(of_replay.as_str().starts_with("outbox-all_"));
    }

    #[test]
    fn a_pin_outlives_the_ack_wait_and_is_renewed_four_times() {
        assert!(PIN_TIMEOUT > ACK_WAIT + Duration::from_secs(2));
        assert!(PULL_EXPIRES * 4 <= PIN_TIMEOUT);
    }
}
