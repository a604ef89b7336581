//! The metrics of queries: asked, and answered.

use std::fmt::{self, Write};

use murmur_mesh::name::EventType;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use super::{label_values, seconds};

/// How a query that this service asked ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Asked {
    /// Everybody answered.
    Complete,
    /// Somebody did, not everybody.
    Partial,
    /// Nobody did.
    Nobody,
    /// The bus was away.
    BusAway,
    /// Too many were under way.
    TooMany,
    /// The sidecar refused it: not in `asks`, or malformed.
    Refused,
}

/// What became of a query of another service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Answered {
    /// The service answered 2xx.
    Done,
    /// It answered something else.
    Failed,
    /// It does not listen.
    Away,
    /// Too many queries waited for it.
    TooMany,
    /// It took too long.
    TimedOut,
    /// Its answer broke off, was too large or no HTTP.
    Broken,
    /// The query wants its answer where none may go.
    Refused,
}

label_values!(Asked {
    Complete => "complete",
    Partial => "partial",
    Nobody => "nobody",
    BusAway => "bus_away",
    TooMany => "too_many",
    Refused => "refused",
});
label_values!(Answered {
    Done => "done",
    Failed => "failed",
    Away => "away",
    TooMany => "too_many",
    TimedOut => "timed_out",
    Broken => "broken",
    Refused => "refused",
});

/// A query by its type; empty for one that must not be asked.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AskLabels {
    query: String,
    outcome: Asked,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AnswerLabels {
    query: String,
    outcome: Answered,
}

/// The metrics of queries; clones share them.
#[derive(Debug, Clone)]
pub(crate) struct QueryMetrics {
    asked: Family<AskLabels, Counter>,
    answered: Family<AnswerLabels, Counter>,
    pub(crate) ask_seconds: Histogram,
    pub(crate) answer_seconds: Histogram,
    /// Queries that this service asks, under way.
    pub(crate) asking: Gauge,
    /// Queries of others that wait for this service or are with it.
    pub(crate) answering: Gauge,
}

impl QueryMetrics {
    pub(super) fn new() -> Self {
        Self {
            asked: Family::default(),
            answered: Family::default(),
            ask_seconds: seconds(),
            answer_seconds: seconds(),
            asking: Gauge::default(),
            answering: Gauge::default(),
        }
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "queries",
            "Queries that the service asked, by type and outcome",
            self.asked.clone(),
        );
        registry.register_with_unit(
            "query_duration",
            "From a query to its result",
            Unit::Seconds,
            self.ask_seconds.clone(),
        );
        registry.register("queries_in_flight", "Queries that the service asks", self.asking.clone());
        registry.register("answers", "Queries of other services, by type and outcome", self.answered.clone());
        registry.register_with_unit(
            "answer_duration",
            "From a query of another service to the answer",
            Unit::Seconds,
            self.answer_seconds.clone(),
        );
        registry.register(
            "answers_in_flight",
            "Queries of other services that wait for the service or are with it",
            self.answering.clone(),
        );
    }

    /// A query that this service asked ended so.
    pub(crate) fn asked(&self, query: Option<&EventType>, outcome: Asked) {
        let query = query.map_or_else(String::new, ToString::to_string);
        self.asked.get_or_create_owned(&AskLabels { query, outcome }).inc();
    }

    /// A query of another service ended so.
    pub(crate) fn answered(&self, query: &EventType, outcome: Answered) {
        self.answered.get_or_create_owned(&AnswerLabels { query: query.to_string(), outcome }).inc();
    }
}
