//! The metrics of what the service publishes.

use std::fmt::{self, Write};

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use super::{label_values, seconds};

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

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PublishLabels {
    outcome: Published,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct GroupLabels {
    outcome: Grouped,
}

/// The metrics of publishes.
#[derive(Debug)]
pub(crate) struct PublishMetrics {
    events: Family<PublishLabels, Counter>,
    batches: Family<GroupLabels, Counter>,
    pub(crate) seconds: Histogram,
    pub(crate) in_flight: Gauge,
}

impl PublishMetrics {
    pub(super) fn new() -> Self {
        Self {
            events: Family::default(),
            batches: Family::default(),
            seconds: seconds(),
            in_flight: Gauge::default(),
        }
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register("publishes", "Events that the service posted, by outcome", self.events.clone());
        registry.register(
            "publish_batches",
            "Batches in which events that waited were stored together, by outcome",
            self.batches.clone(),
        );
        registry.register_with_unit(
            "publish_duration",
            "From the whole body of an event to the bus' answer",
            Unit::Seconds,
            self.seconds.clone(),
        );
        registry.register(
            "publishes_in_flight",
            "Events that wait for the bus' answer",
            self.in_flight.clone(),
        );
    }

    /// So many events ended so.
    pub(crate) fn count(&self, outcome: Published, events: u64) {
        self.events.get_or_create(&PublishLabels { outcome }).inc_by(events);
    }

    /// A batch of events that waited together ended so.
    pub(crate) fn count_batch(&self, outcome: Grouped) {
        self.batches.get_or_create(&GroupLabels { outcome }).inc();
    }
}
