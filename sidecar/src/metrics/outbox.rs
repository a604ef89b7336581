//! The metrics of the outbox.

use std::fmt::{self, Write};

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::label_values;

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

label_values!(OutboxRow {
    Stored => "stored",
    Duplicate => "duplicate",
    Found => "found",
    Refused => "refused",
});

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutboxLabels {
    outcome: OutboxRow,
}

/// The metrics of the outbox.
#[derive(Debug)]
pub(crate) struct OutboxMetrics {
    rows: Family<OutboxLabels, Counter>,
    pub(crate) read_backs: Counter,
    pub(crate) held: Gauge,
}

impl OutboxMetrics {
    pub(super) fn new() -> Self {
        Self { rows: Family::default(), read_backs: Counter::default(), held: Gauge::default() }
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register("outbox_rows", "Rows that left the outbox, by outcome", self.rows.clone());
        registry.register(
            "outbox_read_backs",
            "Times that the outbox was compared with the event store, after a crash or a lost answer",
            self.read_backs.clone(),
        );
        registry.register(
            "outbox_holds",
            "1 while rows of the outbox wait for the bus or the database",
            self.held.clone(),
        );
    }

    /// A row ended so.
    pub(crate) fn count(&self, outcome: OutboxRow) {
        self.rows.get_or_create(&OutboxLabels { outcome }).inc();
    }
}
