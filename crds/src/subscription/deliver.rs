//! `spec.deliver`: events that are posted to the service.

// The derive of the rules copies each struct into a function, where `pub` reaches nobody.
#![allow(unreachable_pub)]

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::duration::GatewayDuration;

/// Where and how events are delivered.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Deliver {
    /// The path of the POST, which starts with /.
    #[schemars(length(min = 1, max = 1024), regex(pattern = r"^/[!-~]*$"))]
    pub path: String,
    /// The port of the POST; the service's port if left out. A port of its own is closed to other
    /// pods, so that nobody can forge a delivery.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    #[x_kube(validation = ("self != 3600 && self != 3601", "the ports 3600 and 3601 are the sidecar's: choose another"))]
    pub port: Option<i32>,
    /// How long one attempt may take, up to 1h. An attempt that takes longer is retried.
    #[serde(default = "thirty_seconds")]
    #[x_kube(validation = ("duration(self) > duration('0s') && duration(self) <= duration('1h')", "timeout must be more than 0s and at most 1h"))]
    pub timeout: GatewayDuration,
    /// How many events are with the service at once, per pod; with batch, how many batches.
    #[serde(default = "sixteen")]
    #[schemars(range(min = 1, max = 1024))]
    pub concurrency: i32,
    /// Several events in one POST, in CloudEvents' batch mode; one event each if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch: Option<Batch>,
    /// How many events a second the service receives at most, over all its pods; as many as it
    /// takes if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max_per_second: Option<i32>,
}

/// Deliveries of several events at once.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Batch {
    /// How many events at most.
    #[serde(default = "hundred")]
    #[schemars(range(min = 1, max = 500))]
    pub max_events: i32,
    /// How long an event waits for others, up to 10s.
    #[serde(default = "fifty_milliseconds")]
    #[x_kube(validation = ("duration(self) <= duration('10s')", "maxWait must be at most 10s"))]
    pub max_wait: GatewayDuration,
}

fn hundred() -> i32 {
    100
}

fn fifty_milliseconds() -> GatewayDuration {
    "50ms".into()
}

fn thirty_seconds() -> GatewayDuration {
    "30s".into()
}

fn sixteen() -> i32 {
    16
}
