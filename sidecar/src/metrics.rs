//! Metrics, in Prometheus' conventions. Each is counted where the thing happens.

mod calls;
mod queries;

use std::fmt::{self, Write};

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

pub(crate) use calls::{CallMetrics, Called};
pub(crate) use queries::{Answered, Asked, QueryMetrics};

/// From a quarter of a millisecond, a good round trip to the bus, to the half
/// minute that a slow service may take.
const SECONDS: [f64; 16] =
    [0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

/// How a publish ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Published {
    /// It is in the store.
    Stored,
    /// It was in the store before.
    Duplicate,
    /// It is no valid event.
    Malformed,
    /// Its type is not among those that the service publishes.
    Forbidden,
    /// Its data does not meet the type's schema.
    Schema,
    /// It is larger than the bus takes.
    TooLarge,
    /// Too much was in flight already.
    TooMuch,
    /// The bus was away.
    BusAway,
    /// No answer came in time, or the connection was lost before it came.
    Unknown,
    /// It is of a batch of which a part was in the store before.
    Partly,
    /// The event store is full.
    StoreFull,
    /// The bus refused it.
    Refused,
}

/// How a batch of events that waited together ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Grouped {
    /// All of it is stored.
    Stored,
    /// One of its events was there before: they went one by one.
    Duplicate,
    /// It was refused, or its answer was lost: they went one by one.
    Failed,
}

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

/// What became of a row of the outbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum OutboxRow {
    /// Its event is in the store.
    Stored,
    /// An event of the same id and source was in the store before.
    Duplicate,
    /// Its event was found in the store, after a crash or a lost answer.
    Found,
    /// It is no event that the service may publish.
    Refused,
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

/// The values of a label, as Prometheus' users write them.
macro_rules! label_values {
    ($type:ident { $($variant:ident => $text:literal),* $(,)? }) => {
        impl $type {
            pub(crate) fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),* }
            }
        }

        impl EncodeLabelValue for $type {
            fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), fmt::Error> {
                encoder.write_str(self.as_str())
            }
        }
    };
}

use label_values;

label_values!(Published {
    Stored => "stored",
    Duplicate => "duplicate",
    Malformed => "malformed",
    Forbidden => "forbidden",
    Schema => "schema",
    TooLarge => "too_large",
    TooMuch => "too_much",
    BusAway => "bus_away",
    Unknown => "unknown",
    Partly => "partly",
    StoreFull => "store_full",
    Refused => "refused",
});
label_values!(Grouped {
    Stored => "stored",
    Duplicate => "duplicate",
    Failed => "failed",
});
label_values!(Attempted {
    Done => "done",
    Rejected => "rejected",
    Unavailable => "unavailable",
    Failed => "failed",
});
label_values!(OutboxRow {
    Stored => "stored",
    Duplicate => "duplicate",
    Found => "found",
    Refused => "refused",
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

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct PublishLabels {
    pub(crate) outcome: Published,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct GroupLabels {
    pub(crate) outcome: Grouped,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct OutboxLabels {
    pub(crate) outcome: OutboxRow,
}

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
pub(crate) struct DeadLabels {
    pub(crate) subscription: String,
    pub(crate) reason: DeadReason,
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

/// All metrics of a sidecar.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    pub(crate) bus_connected: Gauge,
    pub(crate) bus_connects: Counter,
    pub(crate) bus_errors: Counter,
    pub(crate) generation: Gauge,
    pub(crate) published: Family<PublishLabels, Counter>,
    pub(crate) publish_batches: Family<GroupLabels, Counter>,
    pub(crate) publish_seconds: Histogram,
    pub(crate) publishes_in_flight: Gauge,
    pub(crate) outbox_rows: Family<OutboxLabels, Counter>,
    pub(crate) outbox_read_backs: Counter,
    pub(crate) outbox_held: Gauge,
    attempts: Family<AttemptLabels, Counter>,
    attempt_seconds: Histograms,
    passed_over: Family<PassedOverLabels, Counter>,
    deliveries_in_flight: Family<SubscriptionLabels, Gauge>,
    buffered: Family<SubscriptionLabels, Gauge>,
    pending: Family<SubscriptionLabels, Gauge>,
    held: Family<SubscriptionLabels, Gauge>,
    pub(crate) dead_letters: Family<DeadLabels, Counter>,
    pub(crate) calls: CallMetrics,
    pub(crate) queries: QueryMetrics,
    pub(crate) spans_exported: Counter,
    pub(crate) spans_dropped: Counter,
}

fn seconds() -> Histogram {
    Histogram::new(SECONDS)
}

impl Metrics {
    /// All at zero.
    pub(crate) fn new() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("murmur_sidecar"),
            bus_connected: Gauge::default(),
            bus_connects: Counter::default(),
            bus_errors: Counter::default(),
            generation: Gauge::default(),
            published: Family::default(),
            publish_batches: Family::default(),
            publish_seconds: seconds(),
            publishes_in_flight: Gauge::default(),
            outbox_rows: Family::default(),
            outbox_read_backs: Counter::default(),
            outbox_held: Gauge::default(),
            attempts: Family::default(),
            attempt_seconds: Family::new_with_constructor(seconds),
            passed_over: Family::default(),
            deliveries_in_flight: Family::default(),
            buffered: Family::default(),
            pending: Family::default(),
            held: Family::default(),
            dead_letters: Family::default(),
            calls: CallMetrics::new(),
            queries: QueryMetrics::new(),
            spans_exported: Counter::default(),
            spans_dropped: Counter::default(),
        };
        metrics.register();
        metrics
    }

    fn register(&mut self) {
        let registry = &mut self.registry;
        let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "The sidecar's version", build);
        registry.register("bus_connected", "1 while connected to the bus", self.bus_connected.clone());
        registry.register("bus_connects", "Connections made to the bus", self.bus_connects.clone());
        registry.register(
            "bus_errors",
            "Errors that the bus reported, refused permissions among them",
            self.bus_errors.clone(),
        );
        registry.register(
            "config_generation",
            "The generation of the configuration in use",
            self.generation.clone(),
        );
        registry.register("publishes", "Events that the service posted, by outcome", self.published.clone());
        registry.register(
            "publish_batches",
            "Batches in which events that waited were stored together, by outcome",
            self.publish_batches.clone(),
        );
        registry.register_with_unit(
            "publish_duration",
            "From the whole body of an event to the bus' answer",
            Unit::Seconds,
            self.publish_seconds.clone(),
        );
        registry.register(
            "publishes_in_flight",
            "Events that wait for the bus' answer",
            self.publishes_in_flight.clone(),
        );
        registry.register("outbox_rows", "Rows that left the outbox, by outcome", self.outbox_rows.clone());
        registry.register(
            "outbox_read_backs",
            "Times that the outbox was compared with the event store, after a crash or a lost answer",
            self.outbox_read_backs.clone(),
        );
        registry.register(
            "outbox_holds",
            "1 while rows of the outbox wait for the bus or the database",
            self.outbox_held.clone(),
        );
        registry.register(
            "delivery_attempts",
            "Attempts to deliver an event, by outcome",
            self.attempts.clone(),
        );
        registry.register_with_unit(
            "delivery_duration",
            "How long the service took for an attempt",
            Unit::Seconds,
            self.attempt_seconds.clone(),
        );
        registry.register(
            "events_passed_over",
            "Events that were not for the service, by reason",
            self.passed_over.clone(),
        );
        registry.register(
            "deliveries_in_flight",
            "Events that are with the service",
            self.deliveries_in_flight.clone(),
        );
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
            "1 while a subscription delivers nothing because the service is unavailable",
            self.held.clone(),
        );
        registry.register(
            "dead_letters",
            "Events given up, by reason; with deadLetter Discard they were dropped",
            self.dead_letters.clone(),
        );
        self.calls.register(registry);
        self.queries.register(registry);
        registry.register("spans_exported", "Spans that the collector took", self.spans_exported.clone());
        registry.register(
            "spans_dropped",
            "Spans that found no room, or that the collector did not take",
            self.spans_dropped.clone(),
        );
    }

    /// The text that Prometheus reads.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = prometheus_client::encoding::text::encode(&mut text, &self.registry);
        text
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
            in_flight: self.deliveries_in_flight.get_or_create_owned(&labels),
            buffered: self.buffered.get_or_create_owned(&labels),
            pending: self.pending.get_or_create_owned(&labels),
            held: self.held.get_or_create_owned(&labels),
            seconds: self.attempt_seconds.get_or_create_owned(&labels),
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

    /// Forgets the gauges of a subscription that is gone; its counters stay.
    pub(crate) fn forget(&self, subscription: &str) {
        let labels = SubscriptionLabels { subscription: subscription.to_owned() };
        self.deliveries_in_flight.remove(&labels);
        self.buffered.remove(&labels);
        self.pending.remove(&labels);
        self.held.remove(&labels);
    }
}
