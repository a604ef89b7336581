//! What a sidecar tells the operator and the other pods of its service about
//! itself: core NATS, not stored, sent when something changes and at least every
//! [`INTERVAL`].

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::name::SubscriptionName;

/// The longest time between two reports of a live sidecar.
pub const INTERVAL: Duration = Duration::from_secs(3);
/// Without a report for this long, a pod no longer counts among those that share
/// the shards. Three reports may be lost; less than a pin takes to time out.
pub const PEER_STALE_AFTER: Duration = Duration::from_secs(10);
/// Without a report for this long, a pod's last one no longer counts.
pub const STALE_AFTER: Duration = Duration::from_secs(30);

/// One pod's report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// The pod.
    pub pod: String,
    /// The sidecar's version.
    pub version: String,
    /// The generation of the configuration that it runs with.
    pub generation: u64,
    /// Its subscriptions; at most 64 are reported.
    pub subscriptions: Vec<SubscriptionReport>,
    /// It receives no events any more, as its pod is about to end.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub leaving: bool,
    /// Pinned durables that it let go of a moment ago.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub released: Vec<Released>,
    /// The outbox of the service, from the pod that publishes what is in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outbox: Option<OutboxReport>,
}

/// How the outbox of a service stands.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OutboxReport {
    /// Why nothing is being published, as a sentence; `None` while it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<String>,
    /// How many rows were refused and stand in `murmur_outbox_refused`; counted up to 1,000.
    #[serde(default)]
    pub refused: u64,
    /// Why the last of them was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
}

/// A pinned durable that a pod let go of, with all that was out given back or
/// done: whoever receives it next need not wait for anything of this pod's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Released {
    /// The durable.
    pub durable: String,
    /// The last event, by its sequence in the event store, that the pod had been given.
    pub up_to: u64,
}

/// One subscription as one pod sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SubscriptionReport {
    /// Its name.
    pub name: SubscriptionName,
    /// Why nothing is being delivered, as a sentence; `None` while it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<String>,
    /// What kind of reason that is: one of [`held`], unless the sidecar is newer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Why a subscription holds, as conditions name it.
pub mod held {
    /// The service is not there, or fails.
    pub const SERVICE_UNAVAILABLE: &str = "ServiceUnavailable";
    /// The filter does not compile.
    pub const INVALID_FILTER: &str = "InvalidFilter";
    /// The database of a projection is not there.
    pub const DATABASE_UNAVAILABLE: &str = "DatabaseUnavailable";
    /// A projection's schema or a statement of it does not fit the database.
    pub const INVALID_PROJECTION: &str = "InvalidProjection";
    /// A projection waits for what the operator is about to make.
    pub const REBUILD_PENDING: &str = "RebuildPending";
    /// All of them.
    pub const ALL: [&str; 5] =
        [SERVICE_UNAVAILABLE, INVALID_FILTER, DATABASE_UNAVAILABLE, INVALID_PROJECTION, REBUILD_PENDING];
}
