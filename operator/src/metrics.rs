//! What the operator counts, each number where it happens, in Prometheus' text format.

mod event_store;

use std::fmt::Write;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use self::event_store::EventStores;

/// A kind of object.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Kind {
    /// `Microservice`, `EventSubscription` or `Mesh`.
    pub kind: &'static str,
}

/// Why a reconcile failed.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Failure {
    /// The kind of the object.
    pub kind: &'static str,
    /// The error's reason, as in the object's conditions and events.
    pub reason: &'static str,
}

/// A write to the API server.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ApiWrite {
    /// The kind of the object that was written.
    pub kind: String,
    /// `create`, `apply`, `patch`, `status` or `delete`.
    pub verb: &'static str,
}

/// All metrics; a clone counts on the same counters.
#[derive(Debug, Clone)]
pub struct Metrics {
    /// Reconciles that ended, by kind.
    pub reconciles: Family<Kind, Counter>,
    /// Reconciles that failed, by kind and reason.
    pub failures: Family<Failure, Counter>,
    /// How long a reconcile took, in seconds.
    pub duration: Family<Kind, Histogram>,
    /// Writes to the API server.
    pub writes: Family<ApiWrite, Counter>,
    /// Durables that were made or put right.
    pub durables: Counter,
    /// Configurations that were published to services.
    pub configurations: Counter,
    /// 1 while this replica acts.
    pub leader: Gauge,
    /// Meshes that are served.
    pub meshes: Gauge,
    /// Their event stores.
    pub event_store: EventStores,
}

impl Metrics {
    /// Metrics and the registry that they are in.
    pub fn new() -> (Self, Registry) {
        let metrics = Self {
            reconciles: Family::default(),
            failures: Family::default(),
            duration: Family::new_with_constructor(|| Histogram::new(exponential_buckets(0.001, 4.0, 8))),
            writes: Family::default(),
            durables: Counter::default(),
            configurations: Counter::default(),
            leader: Gauge::default(),
            meshes: Gauge::default(),
            event_store: EventStores::default(),
        };
        let mut registry = Registry::with_prefix("murmur_operator");
        let m = metrics.clone();
        registry.register("reconciles", "Reconciles that ended", m.reconciles);
        registry.register("reconcile_failures", "Reconciles that failed, by reason", m.failures);
        registry.register("reconcile_duration_seconds", "How long a reconcile took", m.duration);
        registry.register("kubernetes_writes", "Writes to the API server", m.writes);
        registry.register("durables_written", "Durables that were made or put right", m.durables);
        registry.register(
            "configurations_published",
            "Configurations published to services",
            m.configurations,
        );
        registry.register("leader", "1 while this replica acts, 0 while it stands by", m.leader);
        registry.register("meshes", "Meshes that are served", m.meshes);
        metrics.event_store.register(&mut registry);
        (metrics, registry)
    }

    /// Counts a write to the API server.
    pub fn wrote(&self, kind: &str, verb: &'static str) {
        self.writes.get_or_create(&ApiWrite { kind: kind.to_owned(), verb }).inc();
    }
}

/// The registry's metrics as text.
pub fn text(registry: &Registry) -> String {
    let mut text = String::new();
    if let Err(error) = prometheus_client::encoding::text::encode(&mut text, registry) {
        text.clear();
        let _ = write!(text, "# the metrics could not be written: {error}");
    }
    text
}
