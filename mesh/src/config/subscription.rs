//! A subscription: which events a service receives, in which order, and what becomes of them.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::milliseconds;
use super::projection::Projection;
use crate::durable::{DurableName, Shard};
use crate::name::SubscriptionName;

/// One subscription as the sidecar runs it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Subscription {
    /// Its name.
    pub name: SubscriptionName,
    /// In which order its events are delivered.
    pub ordering: Ordering,
    /// Where to.
    #[serde(flatten)]
    pub target: Target,
    /// What happens to an event that fails.
    pub retry: Retry,
    /// What happens to an event that used up its attempts or was rejected.
    pub dead_letter: DeadLetterPolicy,
    /// A CEL expression over `event`: what it is false for is passed over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<String>,
    /// Nothing is pulled, and what was pulled but not sent is given back.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub suspend: bool,
    /// The replay that it runs, once there has been one. Its durables are others
    /// than before it, so no late acknowledgement can count in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replay: Option<Replay>,
}

impl Subscription {
    /// The durables that it pulls from.
    pub fn durables(&self) -> impl Iterator<Item = (Shard, DurableName)> {
        let replay = self.replay.as_ref().map(|replay| replay.id.as_str());
        self.ordering.shards().map(move |shard| (shard, DurableName::new(&self.name, shard, replay)))
    }

    /// How its events reach the service, if they do.
    pub fn deliver(&self) -> Option<&Deliver> {
        match &self.target {
            Target::Deliver(deliver) => Some(deliver),
            Target::Projection(_) => None,
        }
    }

    /// The same, to be changed.
    pub fn deliver_mut(&mut self) -> Option<&mut Deliver> {
        match &mut self.target {
            Target::Deliver(deliver) => Some(deliver),
            Target::Projection(_) => None,
        }
    }

    /// The read model that they are applied to, if it is one.
    pub fn projection(&self) -> Option<&Projection> {
        match &self.target {
            Target::Deliver(_) => None,
            Target::Projection(projection) => Some(projection),
        }
    }
}

/// What becomes of a subscription's events.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Target {
    /// They are posted to the service.
    Deliver(Deliver),
    /// They are applied to the service's database.
    Projection(Projection),
}

/// A subscription that has started over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Replay {
    /// Its id: as the user gave it, or [`super::Projection::run`].
    pub id: String,
    /// The last sequence of the event store when it began: up to here events
    /// are deliveries of the replay (`murmur-replay`), after it they are live.
    pub boundary: u64,
}

/// In which order the events of a subscription are delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "policy", rename_all = "camelCase")]
pub enum Ordering {
    /// In order per key; the durables are pinned and cover a share each.
    Key {
        /// How many durables; divides the number of partitions.
        shards: u16,
    },
    /// None; one durable, pulled by all replicas.
    None,
    /// The order of the event store; one durable, of which one event is out at a time.
    Strict,
}

impl Ordering {
    /// The shards of a subscription with this ordering.
    pub fn shards(self) -> impl Iterator<Item = Shard> {
        let (numbers, all) = match self {
            Self::Key { shards } => (0..shards, None),
            Self::None | Self::Strict => (0..0, Some(Shard::All)),
        };
        numbers.map(Shard::Number).chain(all)
    }
}

/// Where and how events are delivered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Deliver {
    /// The service's port on loopback.
    pub port: u16,
    /// The path, which starts with `/`.
    pub path: String,
    /// How long one attempt may take.
    #[serde(with = "milliseconds")]
    pub timeout: Duration,
    /// How many events of this subscription are with the service at once, per pod;
    /// how many batches, if it takes batches.
    pub concurrency: u16,
    /// Several events in one POST.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch: Option<Batch>,
    /// How many events a second the service receives at most, over all its pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_per_second: Option<u32>,
}

/// Deliveries of several events at once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Batch {
    /// How many events at most.
    pub max_events: u16,
    /// How long an event waits for others.
    #[serde(with = "milliseconds")]
    pub max_wait: Duration,
}

/// What happens to an event that fails.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Retry {
    /// How often it is tried before it becomes a dead letter.
    pub max_attempts: u32,
    /// The wait after the first failure.
    #[serde(with = "milliseconds")]
    pub initial_delay: Duration,
    /// By how much the wait grows with each failure.
    pub factor: u32,
    /// The longest wait.
    #[serde(with = "milliseconds")]
    pub max_delay: Duration,
}

impl Retry {
    /// The wait after failure number `attempt` (from 1), before jitter.
    pub fn delay_after(&self, attempt: u32) -> Duration {
        let grown = self.factor.saturating_pow(attempt.saturating_sub(1));
        self.initial_delay.saturating_mul(grown).min(self.max_delay)
    }
}

/// What happens to an event that used up its attempts or was rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum DeadLetterPolicy {
    /// It is kept in the stream of dead letters.
    Keep,
    /// It is dropped.
    Discard,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_between_attempts_doubles_up_to_its_bound() {
        let retry = Retry {
            max_attempts: 8,
            initial_delay: Duration::from_secs(1),
            factor: 2,
            max_delay: Duration::from_secs(60),
        };
        let seconds: Vec<_> = (1..=8).map(|attempt| retry.delay_after(attempt).as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(retry.delay_after(u32::MAX), Duration::from_secs(60));
    }
}
