//! An EventSubscription: its validated form, and the durables that it needs.

mod filters;
mod runs;
mod validate;

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use murmur_mesh::config::{Batch, DeadLetterPolicy, Ordering, Projection, Retry};
use murmur_mesh::durable::{self, DurableName, Shard};
use murmur_mesh::name::{EventType, ServiceName, SubscriptionName};

pub use runs::{Found, Place, Run, Runs, WantedRun};
pub use validate::validate;

/// Events that are out with the sidecars at once, per durable: under `Key` the
/// barrier at a take-over must have room for all of them.
const MAX_ACK_PENDING_KEY: i64 = 512;
/// The same without an order.
const MAX_ACK_PENDING_NONE: i64 = 1024;
/// The same in the order of the event store: the next event goes out when the
/// one before it is done.
const MAX_ACK_PENDING_STRICT: i64 = 1;

/// A subscription that can be planned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValidSubscription {
    /// Its name.
    pub name: SubscriptionName,
    /// Its uid, which its durables bear.
    pub uid: String,
    /// The generation that this was read from.
    pub generation: i64,
    /// The service that receives.
    pub service: ServiceName,
    /// What it receives.
    pub events: Vec<EventSelector>,
    /// Where it starts.
    pub start: Start,
    /// In which order.
    pub ordering: Ordering,
    /// What becomes of its events.
    pub target: ValidTarget,
    /// What happens to an event that fails.
    pub retry: Retry,
    /// What happens to an event that used up its attempts.
    pub dead_letter: DeadLetterPolicy,
    /// A CEL expression: which events are delivered.
    pub filter: Option<String>,
    /// Whether delivery rests.
    pub suspend: bool,
    /// The replay that is asked for.
    pub replay: Option<AskedReplay>,
    /// Which durables its sidecars use: the first ones, unless the bus is seen
    /// to hold those of a replay.
    pub place: Place,
}

/// What becomes of a subscription's events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ValidTarget {
    /// They are posted to the service.
    Deliver(ValidDeliver),
    /// They are applied to its database.
    Projection(Projection),
}

/// Where and how events are posted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValidDeliver {
    /// The path of the POST.
    pub path: String,
    /// The port of the POST, if not the service's.
    pub port: Option<u16>,
    /// How long one attempt may take.
    pub timeout: Duration,
    /// How many events are with the service at once, per pod.
    pub concurrency: u16,
    /// Several events in one POST.
    pub batch: Option<Batch>,
    /// How many events a second at most, over all pods.
    pub max_per_second: Option<u32>,
}

impl ValidSubscription {
    /// How its events reach the service, if they do.
    pub fn deliver(&self) -> Option<&ValidDeliver> {
        match &self.target {
            ValidTarget::Deliver(deliver) => Some(deliver),
            ValidTarget::Projection(_) => None,
        }
    }

    /// The read model that they are applied to, if it is one.
    pub fn projection(&self) -> Option<&Projection> {
        match &self.target {
            ValidTarget::Deliver(_) => None,
            ValidTarget::Projection(projection) => Some(projection),
        }
    }
}

/// A replay that a user asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AskedReplay {
    /// Its id: the subscription starts over when it is another one than before.
    pub id: String,
    /// Where it starts.
    pub start: Start,
}

/// Events of one type.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EventSelector {
    /// The type.
    pub event_type: EventType,
    /// The service that publishes it; `None` for any.
    pub from: Option<ServiceName>,
}

/// Where a subscription starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// With the first event that is stored.
    All,
    /// With the first event after the stream's last sequence as it is when the
    /// durable is made; never the broker's own policy `new`, which cannot be reset.
    New,
    /// With this sequence number.
    Sequence(u64),
    /// With the first event that was stored then or later.
    Time(Timestamp),
}

/// A durable consumer of the stream of events, as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Durable {
    /// Its name.
    pub name: DurableName,
    /// Which part of the events it covers.
    pub shard: Shard,
    /// Its filters: sorted, none covered by another.
    pub filter_subjects: Vec<String>,
    /// Where it starts; only for its making, the broker refuses to change it.
    pub start: Start,
    /// Whether one client at a time holds it ([`durable::PIN_GROUP`]).
    pub pinned: bool,
    /// How many events are out at once.
    pub max_ack_pending: i64,
    /// How long the broker waits for an acknowledgement.
    pub ack_wait: Duration,
    /// How long a pin outlives the last pull; only when pinned.
    pub pin_timeout: Duration,
    /// Whether it hands nothing out for now.
    pub paused: bool,
    /// Whose it is.
    pub metadata: BTreeMap<String, String>,
}

/// The durables of a run of a subscription: one per shard.
pub fn durables(subscription: &ValidSubscription, run: &WantedRun) -> Vec<Durable> {
    let pinned = matches!(subscription.ordering, Ordering::Key { .. });
    let mut metadata = BTreeMap::from([
        (durable::OWNER_UID.to_owned(), subscription.uid.clone()),
        (durable::OWNER_NAME.to_owned(), subscription.name.to_string()),
        (durable::OWNER_SERVICE.to_owned(), subscription.service.to_string()),
    ]);
    metadata.extend(run.metadata());
    let replay = run.replay.as_ref().map(|replay| replay.id.as_str());
    subscription
        .ordering
        .shards()
        .map(|shard| Durable {
            name: DurableName::new(&subscription.name, shard, replay),
            shard,
            filter_subjects: filters::of(subscription, shard),
            start: run.start,
            pinned,
            max_ack_pending: match subscription.ordering {
                Ordering::Key { .. } => MAX_ACK_PENDING_KEY,
                Ordering::None => MAX_ACK_PENDING_NONE,
                Ordering::Strict => MAX_ACK_PENDING_STRICT,
            },
            ack_wait: durable::ACK_WAIT,
            pin_timeout: durable::PIN_TIMEOUT,
            paused: subscription.suspend,
            metadata: metadata.clone(),
        })
        .collect()
}

#[cfg(test)]
mod tests;
