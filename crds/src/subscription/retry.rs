//! `spec.retry` and `spec.deadLetter`: what becomes of an event that fails.

// The derive of the rules copies each struct into a function, where `pub` reaches nobody.
#![allow(unreachable_pub)]

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::duration::GatewayDuration;

/// What happens to an event that the service fails to handle. A service that is merely away costs
/// no attempt.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("duration(self.initialDelay) <= duration(self.maxDelay)", "initialDelay must not be longer than maxDelay"))]
pub struct Retry {
    /// How often an event is tried before it becomes a dead letter.
    #[serde(default = "eight")]
    #[schemars(range(min = 1, max = 1000))]
    pub max_attempts: i32,
    /// The wait after the first failure.
    #[serde(default = "one_second")]
    #[x_kube(validation = ("duration(self) > duration('0s')", "initialDelay must be more than 0s"))]
    pub initial_delay: GatewayDuration,
    /// By how much the wait grows with each failure.
    #[serde(default = "two")]
    #[schemars(range(min = 1, max = 10))]
    pub factor: i32,
    /// The longest wait, up to 1h.
    #[serde(default = "one_minute")]
    #[x_kube(validation = ("duration(self) <= duration('1h')", "maxDelay must be at most 1h"))]
    pub max_delay: GatewayDuration,
}

impl Default for Retry {
    fn default() -> Self {
        Self { max_attempts: eight(), initial_delay: one_second(), factor: two(), max_delay: one_minute() }
    }
}

fn eight() -> i32 {
    8
}

fn one_second() -> GatewayDuration {
    "1s".into()
}

fn two() -> i32 {
    2
}

fn one_minute() -> GatewayDuration {
    "1m".into()
}

/// What happens to an event that was rejected or used up its attempts.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq, Eq)]
pub struct DeadLetter {
    /// Keep: it is stored as a dead letter with its cause. Discard: it is dropped.
    #[serde(default)]
    pub policy: DeadLetterPolicy,
}

/// What happens to an event that was rejected or used up its attempts.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeadLetterPolicy {
    /// It is stored as a dead letter.
    #[default]
    Keep,
    /// It is dropped.
    Discard,
}
