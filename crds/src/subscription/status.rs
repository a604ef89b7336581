//! What the operator says about a subscription.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::embedded;

/// What the operator has observed of an EventSubscription.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct EventSubscriptionStatus {
    /// The metadata.generation that this status was computed from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// How many events wait to be delivered, those in delivery included. Events that are delivered
    /// as they come do not wait.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pending: Option<i64>,
    /// How many dead letters are stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dead_letters: Option<i64>,
    /// The sequence number in the event store up to which every event has been delivered or has
    /// become a dead letter. Written when delivery comes to rest or events wait; the sidecar's
    /// metrics have the number that moves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_delivered_sequence: Option<i64>,
    /// Which event store those numbers belong to: the time at which it was made. When an empty one
    /// takes its place, events are delivered from its first; one restored from a backup goes on
    /// where that left off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub event_store: Option<String>,
    /// The replay that the subscription is in, or was in last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replay: Option<ReplayStatus>,
    /// Ready, CaughtUp and Delivering; EventStoreReplaced after the event store was lost and an empty
    /// one has taken its place, until spec is changed next or a backup is restored.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "embedded::conditions")]
    pub conditions: Vec<Condition>,
}

/// How far a replay is.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ReplayStatus {
    /// Its id.
    #[schemars(length(max = 64))]
    pub id: String,
    /// The last sequence number in the event store when it began: it ends there. Absent for an id
    /// that counted as done from the beginning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boundary_sequence: Option<i64>,
    /// Running, or Done when every event up to boundarySequence has been delivered or has become a
    /// dead letter.
    pub phase: ReplayPhase,
}

/// How far a replay is.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplayPhase {
    /// Events up to its boundary are still being delivered.
    Running,
    /// All of them have been.
    Done,
}
