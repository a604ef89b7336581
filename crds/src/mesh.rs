//! The kind Mesh: settings of a namespace's event bus.

// The derive of the rules copies each struct into a function, where `pub` reaches nobody.
#![allow(unreachable_pub)]

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::duration::GatewayDuration;
use crate::embedded;
use crate::quantity::StorageQuantity;

/// The name that a namespace's Mesh must have.
pub const NAME: &str = "default";

/// Settings of a namespace's event bus.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[kube(
    group = "murmur.dev",
    version = "v1alpha1",
    kind = "Mesh",
    plural = "meshes",
    namespaced,
    category = "murmur",
    status = "MeshStatus",
    derive = "PartialEq",
    doc = "Settings of the event bus that a namespace is. Optional, and named default: without it the operator's defaults hold.",
    printcolumn(name = "Ready", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].status"#),
    printcolumn(name = "Reason", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].reason"#),
    printcolumn(name = "Replicas", type_ = "integer", json_path = ".spec.eventStore.replicas"),
    printcolumn(name = "Max-Bytes", type_ = "string", json_path = ".spec.eventStore.maxBytes"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("self.metadata.name == 'default'")
        .message("a namespace has one mesh, which must be named default")
)]
#[serde(rename_all = "camelCase")]
pub struct MeshSpec {
    /// How the mesh stores its events. What is left out keeps the operator's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event_store: Option<EventStore>,
}

/// How a mesh stores its events.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = (
    "!has(self.retention) || !has(self.retention.maxAge) || !has(self.duplicateWindow) || duration(self.duplicateWindow) <= duration(self.retention.maxAge)",
    "duplicateWindow must not be longer than retention.maxAge"
))]
pub struct EventStore {
    /// On how many NATS servers each event is stored: 1, 3 or 5. There must be as many servers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = ("self in [1, 3, 5]", "replicas must be 1, 3 or 5"))]
    pub replicas: Option<i32>,
    /// How many bytes of events are stored at most, such as 50Gi. A full store refuses new events
    /// (507); it never forgets old ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_bytes: Option<StorageQuantity>,
    /// How long events are kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention: Option<Retention>,
    /// For how long a repeated publish of the same event is recognised, from 1s to 24h. The bus
    /// remembers every event of that time in memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = ("duration(self) >= duration('1s') && duration(self) <= duration('24h')", "duplicateWindow must be from 1s to 24h"))]
    pub duplicate_window: Option<GatewayDuration>,
    /// Backups of events, dead letters and positions on a schedule, into the volume of the claim
    /// murmur-backup. The claim outlives the Mesh.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup: Option<Backup>,
}

/// Backups on a schedule.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Backup {
    /// When, as cron writes it, such as 0 3 * * * for every night at three.
    #[schemars(length(min = 6, max = 100))]
    pub schedule: String,
    /// How many backups are kept; the oldest is deleted after a newer one is whole.
    #[serde(default = "seven")]
    #[schemars(range(min = 1, max = 1000))]
    pub keep: i32,
    /// The volume: room for one backup more than are kept.
    pub storage: BackupStorage,
}

fn seven() -> i32 {
    7
}

/// The volume of backups.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    // They do not run when `backup` comes or goes, so there is no `has` to ask on either side.
    validation = ("quantity(self.size).compareTo(quantity(oldSelf.size)) >= 0", "storage cannot shrink"),
    validation = (
        "(has(self.storageClassName) ? self.storageClassName : '') == (has(oldSelf.storageClassName) ? oldSelf.storageClassName : '')",
        "the storage class cannot change"
    )
)]
pub struct BackupStorage {
    /// The size, such as 10Gi. It may grow where the storage class allows it; it does not shrink.
    pub size: StorageQuantity,
    /// The storage class; the cluster's default if left out. It does not change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub storage_class_name: Option<String>,
}

/// How long events are kept.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("has(self.maxAge) == (self.policy == 'MaxAge')", "maxAge must be set with the policy MaxAge and only then"))]
pub struct Retention {
    /// Forever: for ever. MaxAge: for as long as maxAge says, then they are deleted.
    #[serde(default)]
    pub policy: RetentionPolicy,
    /// How long, at least 1m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = ("duration(self) >= duration('1m')", "maxAge must be at least 1m"))]
    pub max_age: Option<GatewayDuration>,
}

/// How long events are kept.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RetentionPolicy {
    /// For ever.
    #[default]
    Forever,
    /// For a given time.
    MaxAge,
}

/// What the operator has observed of a Mesh.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct MeshStatus {
    /// The metadata.generation that this status was computed from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The event store as it was seen last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event_store: Option<EventStoreStatus>,
    /// Ready: the event store is there and as it should be. HasRoom: it uses less than 80 % of its
    /// maxBytes. EventStoreReplaced: it is another one than before, and the events before are gone;
    /// until spec is changed next, or a backup is restored.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "embedded::conditions")]
    pub conditions: Vec<Condition>,
}

/// What the operator has observed of an event store.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct EventStoreStatus {
    /// When it was made, which tells it from one that takes its place. That of one restored from a
    /// backup may be another one than before, too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub created: Option<String>,
}
