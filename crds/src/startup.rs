//! When the pods of a Microservice are ready.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::duration::GatewayDuration;

/// When a pod of the service is ready for requests, beside its own readiness probe.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Startup {
    /// Started: at once. CaughtUp: once the service has received the events that there were when the
    /// pod started, those that became dead letters included; subscriptions that are suspended do not
    /// count. While the bus is away at its start, such a pod is not ready.
    #[serde(default)]
    pub wait_for: WaitFor,
    /// After how long a pod that has not caught up is told in the condition Ready, with the reason
    /// CatchUpTimeout; up to 24h. It goes on, and is ready when it has.
    #[serde(default = "thirty_minutes")]
    #[x_kube(validation = ("duration(self) > duration('0s') && duration(self) <= duration('24h')", "timeout must be more than 0s and at most 24h"))]
    pub timeout: GatewayDuration,
}

/// What a pod's readiness waits for.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WaitFor {
    /// Nothing but its start.
    #[default]
    Started,
    /// The events that there were at its start.
    CaughtUp,
}

fn thirty_minutes() -> GatewayDuration {
    "30m".into()
}
