//! The metrics of what the service receives, or what is applied to its database.

use std::fmt::{self, Write};

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use super::{label_values, seconds};

/// How an attempt to deliver ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Attempted {
    /// 2xx.
    Done,
    /// The service rejected the event.
    Rejected,
    /// The service was not there.
    Unavailable,
    /// Anything else: it will be tried again.
    Failed,
}

/// Why an event became a dead letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum DeadReason {
    /// The service rejected it.
    Rejected,
    /// It used up its attempts.
    Exhausted,
    /// It is no CloudEvent.
    Malformed,
}

/// Why an event was passed over, and its service never saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum PassedOver {
    /// The filter is false for it.
    Filtered,
    /// The filter could not be computed for it, say for a field that is missing.
    FilterFailed,
    /// A redriven dead letter in a replay, which brings the original.
    Redriven,
    /// It came again and had its effect before.
    Applied,
}

label_values!(Attempted {
    Done => "done",
    Rejected => "rejected",
    Unavailable => "unavailable",
    Failed => "failed",
});
label_values!(PassedOver {
    Filtered => "filtered",
    FilterFailed => "filter_failed",
    Redriven => "redriven",
    Applied => "already_applied",
});
label_values!(DeadReason {
    Rejected => "rejected",
    Exhausted => "exhausted",
    Malformed => "malformed",
});

/// One subscription.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SubscriptionLabels {
    subscription: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AttemptLabels {
    subscription: String,
    outcome: Attempted,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DeadLabels {
    subscription: String,
    reason: DeadReason,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PassedOverLabels {
    subscription: String,
    reason: PassedOver,
}

/// The metrics of one subscription.
#[derive(Debug)]
pub(crate) struct SubscriptionMetrics {
    pub(crate) in_flight: Gauge,
    pub(crate) buffered: Gauge,
    pub(crate) pending: Gauge,
    pub(crate) held: Gauge,
    pub(crate) seconds: Histogram,
    pub(crate) done: Counter,
    pub(crate) rejected: Counter,
    pub(crate) unavailable: Counter,
    pub(crate) failed: Counter,
    filtered: Counter,
    filter_failed: Counter,
    redriven: Counter,
    applied: Counter,
}

impl SubscriptionMetrics {
    /// How many events were passed over for this reason.
    pub(crate) fn passed_over(&self, reason: PassedOver) -> &Counter {
        match reason {
            PassedOver::Filtered => &self.filtered,
            PassedOver::FilterFailed => &self.filter_failed,
            PassedOver::Redriven => &self.redriven,
            PassedOver::Applied => &self.applied,
        }
    }
}

type Histograms = Family<SubscriptionLabels, Histogram, fn() -> Histogram>;

/// The metrics of all subscriptions.
#[derive(Debug)]
pub(crate) struct DeliveryMetrics {
    attempts: Family<AttemptLabels, Counter>,
    seconds: Histograms,
    passed_over: Family<PassedOverLabels, Counter>,
    in_flight: Family<SubscriptionLabels, Gauge>,
    buffered: Family<SubscriptionLabels, Gauge>,
    pending: Family<SubscriptionLabels, Gauge>,
    held: Family<SubscriptionLabels, Gauge>,
    dead_letters: Family<DeadLabels, Counter>,
}

impl DeliveryMetrics {
    pub(super) fn new() -> Self {
        Self {
            attempts: Family::default(),
            seconds: Family::new_with_constructor(seconds),
            passed_over: Family::default(),
            in_flight: Family::default(),
            buffered: Family::default(),
            pending: Family::default(),
            held: Family::default(),
            dead_letters: Family::default(),
        }
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "delivery_attempts",
            "Attempts to deliver an event, by outcome",
            self.attempts.clone(),
        );
        registry.register_with_unit(
            "delivery_duration",
            "How long the service took for an attempt",
            Unit::Seconds,
            self.seconds.clone(),
        );
        registry.register(
            "events_passed_over",
            "Events that were not for the service, by reason",
            self.passed_over.clone(),
        );
        registry.register("deliveries_in_flight", "Events that are with the service", self.in_flight.clone());
        registry.register(
            "events_held",
            "Events that were taken from the bus and are not done yet",
            self.buffered.clone(),
        );
        registry.register(
            "events_pending",
            "Events that this pod has still to take from the bus, as of the last that it took",
            self.pending.clone(),
        );
        registry.register(
            "subscription_holds",
            "1 while the service, or its database for a projection, is away and events wait",
            self.held.clone(),
        );
        registry.register(
            "dead_letters",
            "Events given up, by reason; with deadLetter Discard they were dropped",
            self.dead_letters.clone(),
        );
    }

    /// The metrics of one subscription, looked up once.
    pub(crate) fn subscription(&self, subscription: &str) -> SubscriptionMetrics {
        let labels = SubscriptionLabels { subscription: subscription.to_owned() };
        let attempts = |outcome| {
            let labels = AttemptLabels { subscription: subscription.to_owned(), outcome };
            self.attempts.get_or_create_owned(&labels)
        };
        let passed_over = |reason| {
            let labels = PassedOverLabels { subscription: subscription.to_owned(), reason };
            self.passed_over.get_or_create_owned(&labels)
        };
        SubscriptionMetrics {
            in_flight: self.in_flight.get_or_create_owned(&labels),
            buffered: self.buffered.get_or_create_owned(&labels),
            pending: self.pending.get_or_create_owned(&labels),
            held: self.held.get_or_create_owned(&labels),
            seconds: self.seconds.get_or_create_owned(&labels),
            done: attempts(Attempted::Done),
            rejected: attempts(Attempted::Rejected),
            unavailable: attempts(Attempted::Unavailable),
            failed: attempts(Attempted::Failed),
            filtered: passed_over(PassedOver::Filtered),
            filter_failed: passed_over(PassedOver::FilterFailed),
            redriven: passed_over(PassedOver::Redriven),
            applied: passed_over(PassedOver::Applied),
        }
    }

    /// An event of a subscription became a dead letter.
    pub(crate) fn dead_letter(&self, subscription: &str, reason: DeadReason) {
        let labels = DeadLabels { subscription: subscription.to_owned(), reason };
        self.dead_letters.get_or_create(&labels).inc();
    }

    /// Forgets the gauges of a subscription that is gone; its counters stay.
    pub(crate) fn forget(&self, subscription: &str) {
        let labels = SubscriptionLabels { subscription: subscription.to_owned() };
        self.in_flight.remove(&labels);
        self.buffered.remove(&labels);
        self.pending.remove(&labels);
        self.held.remove(&labels);
    }
}
