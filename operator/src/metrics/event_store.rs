//! The figures of event stores, by mesh.

use std::sync::atomic::AtomicU64;

use murmur_plan::status::room::Figures;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// A mesh.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfMesh {
    mesh: String,
}

type Whole = Family<OfMesh, Gauge>;
type Broken = Family<OfMesh, Gauge<f64, AtomicU64>>;

/// The figures of all event stores; a clone sets the same ones.
#[derive(Debug, Clone, Default)]
pub struct EventStores {
    bytes: Whole,
    max_bytes: Whole,
    used: Broken,
    events: Whole,
    first_sequence: Whole,
    last_sequence: Whole,
    growth: Broken,
    oldest: Whole,
}

impl EventStores {
    /// Puts them into a registry.
    pub(super) fn register(&self, registry: &mut Registry) {
        let m = self.clone();
        registry.register("event_store_bytes", "Bytes in the event store", m.bytes);
        registry.register("event_store_max_bytes", "Bytes that the event store may hold", m.max_bytes);
        registry.register("event_store_used_ratio", "Bytes in the event store by those it may hold", m.used);
        registry.register("event_store_events", "Events in the event store", m.events);
        registry.register("event_store_first_sequence", "Sequence of the oldest event", m.first_sequence);
        registry.register("event_store_last_sequence", "Sequence of the newest event", m.last_sequence);
        registry.register(
            "event_store_growth_bytes_per_second",
            "How fast the event store has grown in the last five minutes",
            m.growth,
        );
        registry.register(
            "event_store_oldest_event_age_seconds",
            "How long ago the oldest event was stored; 0 when there is none",
            m.oldest,
        );
    }

    /// Sets those of a mesh; `growth` in bytes a second, `age` of the oldest event in seconds.
    pub fn set(&self, mesh: &str, figures: &Figures, growth: f64, age: i64) {
        let of = OfMesh { mesh: mesh.to_owned() };
        let whole = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        self.bytes.get_or_create(&of).set(whole(figures.bytes));
        self.events.get_or_create(&of).set(whole(figures.messages));
        self.first_sequence.get_or_create(&of).set(whole(figures.first_sequence));
        self.last_sequence.get_or_create(&of).set(whole(figures.last_sequence));
        self.growth.get_or_create(&of).set(growth);
        self.oldest.get_or_create(&of).set(age);
        match figures.max_bytes.filter(|most| *most > 0) {
            Some(most) => {
                self.max_bytes.get_or_create(&of).set(whole(most));
                self.used.get_or_create(&of).set(figures.bytes as f64 / most as f64);
            }
            None => {
                self.max_bytes.remove(&of);
                self.used.remove(&of);
            }
        }
    }

    /// Removes those of a mesh.
    pub fn forget(&self, mesh: &str) {
        let of = OfMesh { mesh: mesh.to_owned() };
        for family in [
            &self.bytes,
            &self.max_bytes,
            &self.events,
            &self.first_sequence,
            &self.last_sequence,
            &self.oldest,
        ] {
            family.remove(&of);
        }
        self.used.remove(&of);
        self.growth.remove(&of);
    }
}
