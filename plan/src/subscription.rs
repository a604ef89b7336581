//! An EventSubscription: its validated form, and the durables that it needs.

mod filters;

use std::collections::BTreeMap;
use std::time::Duration;

use murmur_crds::EventSubscription;
use murmur_crds::subscription as crd;
use murmur_mesh::config::{DeadLetterPolicy, Ordering, Retry};
use murmur_mesh::durable::{self, DurableName, Shard};
use murmur_mesh::name::{EventType, ServiceName, SubscriptionName};

use crate::invalid::{self, Invalid};

/// Shards of a subscription that does not say.
const DEFAULT_SHARDS: i32 = 4;
/// Events that are out with the sidecars at once, per durable: under `Key` the
/// barrier at a take-over must have room for all of them.
const MAX_ACK_PENDING_KEY: i64 = 512;
/// The same without an order.
const MAX_ACK_PENDING_NONE: i64 = 1024;

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
    /// The path of the POST.
    pub path: String,
    /// The port of the POST, if not the service's.
    pub port: Option<u16>,
    /// How long one attempt may take.
    pub timeout: Duration,
    /// How many events are with the service at once, per pod.
    pub concurrency: u16,
    /// What happens to an event that fails.
    pub retry: Retry,
    /// What happens to an event that used up its attempts.
    pub dead_letter: DeadLetterPolicy,
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
    /// Whose it is.
    pub metadata: BTreeMap<String, String>,
}

/// Reads an EventSubscription.
///
/// # Errors
/// The first thing that cannot be planned.
pub fn validate(resource: &EventSubscription) -> Result<ValidSubscription, Invalid> {
    let spec = &resource.spec;
    let metadata = &resource.metadata;
    let events = spec.events.iter().map(event).collect::<Result<_, _>>()?;
    Ok(ValidSubscription {
        name: invalid::name("metadata.name", metadata.name.as_deref().unwrap_or_default())?,
        uid: metadata.uid.clone().unwrap_or_default(),
        generation: metadata.generation.unwrap_or_default(),
        service: invalid::name("spec.microserviceRef.name", &spec.microservice_ref.name)?,
        events,
        start: start(&spec.start)?,
        ordering: ordering(&spec.ordering)?,
        path: path(&spec.deliver.path)?,
        port: spec.deliver.port.map(|port| invalid::port("spec.deliver.port", port)).transpose()?,
        timeout: duration("spec.deliver.timeout", &spec.deliver.timeout)?,
        concurrency: invalid::within(
            "spec.deliver.concurrency",
            spec.deliver.concurrency,
            1..=1024,
            "concurrency is a number from 1 to 1024",
        )?,
        retry: Retry {
            max_attempts: invalid::within(
                "spec.retry.maxAttempts",
                spec.retry.max_attempts,
                1..=1000,
                "maxAttempts is a number from 1 to 1000",
            )?,
            initial_delay: duration("spec.retry.initialDelay", &spec.retry.initial_delay)?,
            factor: invalid::within(
                "spec.retry.factor",
                spec.retry.factor,
                1..=10,
                "factor is a number from 1 to 10",
            )?,
            max_delay: duration("spec.retry.maxDelay", &spec.retry.max_delay)?,
        },
        dead_letter: match spec.dead_letter.policy {
            crd::DeadLetterPolicy::Keep => DeadLetterPolicy::Keep,
            crd::DeadLetterPolicy::Discard => DeadLetterPolicy::Discard,
        },
    })
}

fn event(selector: &crd::EventSelector) -> Result<EventSelector, Invalid> {
    let from = match selector.from.as_str() {
        "*" => None,
        name => Some(invalid::name("spec.events.from", name)?),
    };
    Ok(EventSelector { event_type: invalid::name("spec.events.type", &selector.event_type)?, from })
}

fn start(start: &crd::Start) -> Result<Start, Invalid> {
    match start.policy {
        crd::StartPolicy::All => Ok(Start::All),
        crd::StartPolicy::New => Ok(Start::New),
        crd::StartPolicy::Sequence => start
            .sequence
            .and_then(|sequence| u64::try_from(sequence).ok())
            .filter(|sequence| *sequence > 0)
            .map(Start::Sequence)
            .ok_or_else(|| Invalid::InvalidValue {
                field: "spec.start.sequence".to_owned(),
                value: start.sequence.map_or_else(|| "nothing".to_owned(), |sequence| sequence.to_string()),
                rule: "the policy Sequence needs a sequence from 1",
            }),
    }
}

fn ordering(ordering: &crd::Ordering) -> Result<Ordering, Invalid> {
    match ordering.policy {
        crd::OrderingPolicy::None => Ok(Ordering::None),
        crd::OrderingPolicy::Key => {
            let shards = ordering.shards.unwrap_or(DEFAULT_SHARDS);
            let rule = "shards are 1, 2, 4, 8, 16, 32 or 64";
            let number: u16 = invalid::within("spec.ordering.shards", shards, 1..=64, rule)?;
            if !number.is_power_of_two() {
                return Err(Invalid::InvalidValue {
                    field: "spec.ordering.shards".to_owned(),
                    value: shards.to_string(),
                    rule,
                });
            }
            Ok(Ordering::Key { shards: number })
        }
    }
}

fn path(path: &str) -> Result<String, Invalid> {
    if path.starts_with('/') && path.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Ok(path.to_owned());
    }
    Err(Invalid::InvalidValue {
        field: "spec.deliver.path".to_owned(),
        value: format!("{path:?}"),
        rule: "a path starts with / and has no spaces; percent-encode what is not ASCII",
    })
}

fn duration(field: &str, text: &murmur_crds::GatewayDuration) -> Result<Duration, Invalid> {
    text.parse().map_err(|error| Invalid::InvalidDuration { field: field.to_owned(), error })
}

/// The durables of a subscription: one per shard.
pub fn durables(subscription: &ValidSubscription) -> Vec<Durable> {
    let pinned = matches!(subscription.ordering, Ordering::Key { .. });
    let metadata = BTreeMap::from([
        (durable::OWNER_UID.to_owned(), subscription.uid.clone()),
        (durable::OWNER_NAME.to_owned(), subscription.name.to_string()),
        (durable::OWNER_SERVICE.to_owned(), subscription.service.to_string()),
    ]);
    subscription
        .ordering
        .shards()
        .map(|shard| Durable {
            name: DurableName::new(&subscription.name, shard, None),
            shard,
            filter_subjects: filters::of(&subscription.events, subscription.ordering, shard),
            start: subscription.start,
            pinned,
            max_ack_pending: if pinned { MAX_ACK_PENDING_KEY } else { MAX_ACK_PENDING_NONE },
            ack_wait: durable::ACK_WAIT,
            pin_timeout: durable::PIN_TIMEOUT,
            metadata: metadata.clone(),
        })
        .collect()
}

#[cfg(test)]
mod tests;
