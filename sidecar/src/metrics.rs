//! Metrics, in Prometheus' conventions. Each is counted where the thing happens.

mod calls;
mod deliveries;
mod outbox;
mod publishes;
mod queries;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

pub(crate) use calls::{CallMetrics, Called};
pub(crate) use deliveries::{DeadReason, DeliveryMetrics, PassedOver, SubscriptionMetrics};
pub(crate) use outbox::{OutboxMetrics, OutboxRow};
pub(crate) use publishes::{Grouped, PublishMetrics, Published};
pub(crate) use queries::{Answered, Asked, QueryMetrics};

/// From a quarter of a millisecond, a good round trip to the bus, to the half
/// minute that a slow service may take.
const SECONDS: [f64; 16] =
    [0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

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

/// All metrics of a sidecar.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    pub(crate) bus_connected: Gauge,
    pub(crate) bus_connects: Counter,
    pub(crate) bus_errors: Counter,
    pub(crate) generation: Gauge,
    pub(crate) publishes: PublishMetrics,
    pub(crate) outbox: OutboxMetrics,
    pub(crate) deliveries: DeliveryMetrics,
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
            publishes: PublishMetrics::new(),
            outbox: OutboxMetrics::new(),
            deliveries: DeliveryMetrics::new(),
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
        self.publishes.register(registry);
        self.outbox.register(registry);
        self.deliveries.register(registry);
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
}
