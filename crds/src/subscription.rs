//! The kind EventSubscription: which events a service receives, and how.

// The derive of the rules copies each struct into a function, where `pub` reaches nobody.
#![allow(unreachable_pub)]

mod deliver;
mod projection;
mod retry;
mod status;

use kube::{CustomResource, KubeSchema};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

pub use self::deliver::{Batch, Deliver};
pub use self::projection::{OnChange, OnEvent, Projection};
pub use self::retry::{DeadLetter, DeadLetterPolicy, Retry};
pub use self::status::{EventSubscriptionStatus, ReplayPhase, ReplayStatus};
use crate::embedded;

/// Events that a Microservice receives, each by an HTTP POST.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "murmur.dev",
    version = "v1alpha1",
    kind = "EventSubscription",
    namespaced,
    shortname = "esub",
    category = "murmur",
    status = "EventSubscriptionStatus",
    derive = "PartialEq",
    doc = "Events that a Microservice receives: each by an HTTP POST, at least once and in order per key, or applied to its database, with its effect exactly once.",
    printcolumn(name = "Service", type_ = "string", json_path = ".spec.microserviceRef.name"),
    printcolumn(name = "Ready", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].status"#),
    printcolumn(name = "Delivering", type_ = "string", json_path = r#".status.conditions[?(@.type=="Delivering")].status"#),
    printcolumn(name = "Caught-Up", type_ = "string", json_path = r#".status.conditions[?(@.type=="CaughtUp")].status"#),
    printcolumn(name = "Pending", type_ = "integer", json_path = ".status.pending"),
    printcolumn(name = "Dead", type_ = "integer", json_path = ".status.deadLetters"),
    printcolumn(name = "Reason", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].reason"#, priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("self.metadata.name.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')")
        .message("the name must be a DNS label: lower-case letters, digits and '-'"),
    validation = Rule::new("self.metadata.name.size() <= 52")
        .message("the name must be at most 52 characters long")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.deliver) || !has(self.deliver.batch) || self.ordering.policy != 'Strict'")
        .message("with the ordering Strict one event at a time is delivered: leave batch out")
        .field_path(".deliver.batch"),
    validation = ("has(self.deliver) != has(self.projection)", "exactly one of deliver and projection must be set"),
    validation = ("has(self.projection) == has(oldSelf.projection)", "deliver cannot become projection, nor the other way round: make a new EventSubscription"),
    validation = ("!has(self.projection) || (self.ordering.policy == 'Key' && !has(self.ordering.shards))", "a projection applies events in the order of the event store: leave ordering out"),
    validation = ("!has(self.projection) || self.start.policy != 'New' || self.projection.onChange == 'Keep'", "a projection that starts with New has no history to be rebuilt from: set projection.onChange to Keep"),
    validation = ("!has(self.projection) || self.projection.statements.all(statement, self.events.exists(event, event.type == statement.type))", "each type in projection.statements must be one of events")
)]
pub struct EventSubscriptionSpec {
    /// The Microservice, in the same namespace, that receives the events. It cannot change.
    #[x_kube(validation = ("self == oldSelf", "microserviceRef cannot change: make a new EventSubscription"))]
    pub microservice_ref: MicroserviceReference,
    /// The events: 1 to 32 types, each from one service or from any. A type that is added later is
    /// delivered from then on.
    #[schemars(length(min = 1, max = 32))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into(), "from".into()]))]
    pub events: Vec<EventSelector>,
    /// Which of those events are delivered; all of them if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<Filter>,
    /// Where in the history of events the subscription starts. It is read once and cannot change.
    #[serde(default)]
    #[x_kube(validation = ("self == oldSelf", "start cannot change: make a new EventSubscription"))]
    pub start: Start,
    /// In which order events are delivered. It cannot change, as each shard has a position of its
    /// own in the history that another division could not take over.
    #[serde(default)]
    #[x_kube(validation = (
        "self.policy == oldSelf.policy && (has(self.shards) ? self.shards : 4) == (has(oldSelf.shards) ? oldSelf.shards : 4)",
        "ordering cannot change: make a new EventSubscription"
    ))]
    pub ordering: Ordering,
    /// Where and how events are delivered. Either this or projection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deliver: Option<Deliver>,
    /// The tables in the service's own SQLite or Postgres database that the events keep up to date,
    /// with no code in the service. Either this or deliver.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub projection: Option<Projection>,
    /// What happens to an event that the service fails to handle.
    #[serde(default)]
    pub retry: Retry,
    /// What happens to an event that was rejected or used up its attempts.
    #[serde(default)]
    pub dead_letter: DeadLetter,
    /// Starts the subscription over, once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replay: Option<Replay>,
    /// Whether delivery rests. Events wait meanwhile, and none is lost.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub suspend: bool,
}

/// A Microservice in the same namespace.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq)]
pub struct MicroserviceReference {
    /// The name of the Microservice. It may be made later than the subscription.
    #[schemars(length(min = 1, max = 40), regex(pattern = "^[a-z]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
}

/// Events of one type.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq)]
pub struct EventSelector {
    /// The CloudEvents type, such as ProductCreated.
    #[serde(rename = "type")]
    #[schemars(schema_with = "event_type")]
    pub event_type: String,
    /// The Microservice that publishes it, or * for any.
    #[serde(default = "any")]
    #[schemars(length(min = 1, max = 40), regex(pattern = r"^(\*|[a-z]([-a-z0-9]*[a-z0-9])?)$"))]
    pub from: String,
}

fn any() -> String {
    "*".to_owned()
}

/// The schema of a CloudEvents type that can become the end of a subject.
pub(crate) fn event_type(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "string",
        "minLength": 1,
        "maxLength": 255,
        "pattern": r"^[^.\p{Cc}]+(\.[^.\p{Cc}]+)*$",
        "x-kubernetes-validations": [{
            "rule": "size(bytes(self)) <= 255",
            "message": "must be at most 255 bytes long",
        }],
    })
}

/// Which events are delivered. What it is false for is passed over.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    /// An expression in CEL, the language of Kubernetes' own rules, over the event, such as
    /// event.data.price > 10.0. The event has its CloudEvents attributes, as in event.type, and
    /// event.data when its data is JSON. Whole numbers are int, others double. A field that an event
    /// lacks makes it false.
    #[schemars(length(min = 1, max = 2048))]
    pub cel: String,
}

/// Where a subscription starts.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[x_kube(
    validation = ("has(self.sequence) == (self.policy == 'Sequence')", "sequence must be set with the policy Sequence and only then"),
    validation = ("has(self.time) == (self.policy == 'Time')", "time must be set with the policy Time and only then")
)]
pub struct Start {
    /// All: with the first event that is stored. New: with the first event that is published after
    /// the subscription was made. Sequence: with the event at `sequence`. Time: with the first event
    /// that was stored at `time` or later.
    #[serde(default)]
    pub policy: StartPolicy,
    /// The first sequence number in the event store, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub sequence: Option<i64>,
    /// A time such as 2026-11-21T10:00:00Z (RFC 3339). One that is still to come is as good as now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "embedded::date_time")]
    pub time: Option<String>,
}

/// Where a subscription starts.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StartPolicy {
    /// With the first event that is stored.
    #[default]
    All,
    /// With the first event after the subscription was made.
    New,
    /// With a given sequence number.
    Sequence,
    /// With a given time.
    Time,
}

/// In which order events are delivered.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[x_kube(validation = ("!has(self.shards) || self.policy == 'Key'", "shards go with the policy Key only"))]
pub struct Ordering {
    /// Key: events of one key (partitionkey, else id) one after another, in the order in which they
    /// were stored. None: in no order, each event on its own. Strict: all events in the order in
    /// which they were stored, one after another; one that fails holds up all that follow until it is
    /// done or a dead letter.
    #[serde(default)]
    pub policy: OrderingPolicy,
    /// Among how many shards the keys are divided, and so how many pods at most share the events:
    /// 1, 2, 4, 8, 16, 32 or 64; 4 if left out. More shards cost more on the bus. Only with the
    /// policy Key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 64))]
    #[x_kube(validation = ("64 % self == 0", "shards must divide 64: 1, 2, 4, 8, 16, 32 or 64"))]
    pub shards: Option<i32>,
}

/// In which order events are delivered.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OrderingPolicy {
    /// In order per key.
    #[default]
    Key,
    /// In no order.
    None,
    /// In the order of the event store.
    Strict,
}

/// A subscription that starts over: its events are delivered again, those up to the time of the
/// replay with the header murmur-replay, and it goes on with new ones.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq)]
pub struct Replay {
    /// Any name for the replay, such as the date. When it is another one than before, the
    /// subscription starts over from `start`, once. One that is there when the subscription is made
    /// counts as done.
    #[schemars(length(min = 1, max = 64), regex(pattern = "^[!-~]+$"))]
    pub id: String,
    /// Where in the history of events the replay starts.
    #[serde(default)]
    pub start: Start,
}
