//! The metrics of calls to other services.

use std::fmt::{self, Write};
use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use super::{label_values, seconds};

/// How a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Called {
    /// The target answered, other than 5xx.
    Answered,
    /// The target answered 5xx.
    Failed,
    /// The sidecar refused it: not in `calls`, an upgrade, a bad timeout.
    Refused,
    /// Too many were under way.
    TooMany,
    /// The target has no replica.
    NoReplicas,
    /// No replica could be reached.
    Unreachable,
    /// The connection broke before an answer.
    Broken,
    /// No answer came in time.
    TimedOut,
}

label_values!(Called {
    Answered => "answered",
    Failed => "failed",
    Refused => "refused",
    TooMany => "too_many",
    NoReplicas => "no_replicas",
    Unreachable => "unreachable",
    Broken => "broken",
    TimedOut => "timed_out",
});

/// A service that is called; empty for one that must not be.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TargetLabels {
    target: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CallLabels {
    target: String,
    outcome: Called,
}

/// The metrics of calls; clones share them.
#[derive(Debug, Clone)]
pub(crate) struct CallMetrics {
    calls: Family<CallLabels, Counter>,
    seconds: Family<TargetLabels, Histogram, fn() -> Histogram>,
}

impl CallMetrics {
    pub(super) fn new() -> Self {
        Self { calls: Family::default(), seconds: Family::new_with_constructor(seconds) }
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register("calls", "Calls to other services, by target and outcome", self.calls.clone());
        registry.register_with_unit(
            "call_duration",
            "From a call to the head of its answer",
            Unit::Seconds,
            self.seconds.clone(),
        );
    }

    /// A call of this target ended so.
    pub(crate) fn count(&self, target: &str, outcome: Called) {
        self.calls.get_or_create_owned(&CallLabels { target: target.to_owned(), outcome }).inc();
    }

    /// It took so long.
    pub(crate) fn observe(&self, target: &str, took: Duration) {
        let labels = TargetLabels { target: target.to_owned() };
        self.seconds.get_or_create_owned(&labels).observe(took.as_secs_f64());
    }
}
