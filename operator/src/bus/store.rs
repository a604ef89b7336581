//! The figures of a mesh's event store: read, counted, and told when it fills up.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use async_nats::Client;
use jiff::Timestamp;
use murmur_mesh::stream;
use murmur_plan::status::room::{EVENT_STORE_NEARLY_FULL, Figures, nearly_full};
use serde_json::Value;

use super::error::BusError;
use super::request::jetstream;
use crate::cluster::Events;
use crate::metrics::Metrics;

/// Growth is that of about this time.
const GROWTH_OVER: Duration = Duration::from_secs(300);
/// The time between two points that growth is measured between.
const APART: Duration = Duration::from_secs(30);

/// Watches one mesh's event store; its figures go with it.
pub(super) struct StoreWatch {
    mesh: String,
    metrics: Metrics,
    events: Events,
    /// Bytes at past moments, the oldest first; at most [`GROWTH_OVER`] / [`APART`] + 1.
    past: VecDeque<(Instant, u64)>,
    nearly_full: bool,
}

impl StoreWatch {
    pub(super) fn new(mesh: String, metrics: Metrics, events: Events) -> Self {
        Self { mesh, metrics, events, past: VecDeque::new(), nearly_full: false }
    }

    /// Reads the figures; also whether the store is nearly full.
    pub(super) async fn look(&mut self, client: &Client) -> Result<(Figures, bool), BusError> {
        let info = jetstream(client, &format!("STREAM.INFO.{}", stream::EVENTS), &Value::Null).await?;
        let figures = read(&info);
        let growth = self.growth(figures.bytes, Instant::now());
        let now = Timestamp::now().as_second();
        let age = figures.first_second.map_or(0, |first| now.saturating_sub(first));
        self.metrics.event_store.set(&self.mesh, &figures, growth, age);
        let was = self.nearly_full;
        self.nearly_full = figures.is_nearly_full(was);
        if self.nearly_full && !was {
            tracing::warn!(mesh = self.mesh, percent = figures.percent(), "the event store is nearly full");
            self.events.of_mesh(&self.mesh, EVENT_STORE_NEARLY_FULL, &nearly_full(&figures)).await;
        }
        Ok((figures, self.nearly_full))
    }

    /// Bytes a second since about [`GROWTH_OVER`] ago; 0 until there is something to compare.
    fn growth(&mut self, bytes: u64, now: Instant) -> f64 {
        if self.past.back().is_none_or(|(last, _)| now.duration_since(*last) >= APART) {
            self.past.push_back((now, bytes));
        }
        while self.past.len() > 2
            && self.past.front().is_some_and(|(then, _)| now.duration_since(*then) > GROWTH_OVER)
        {
            self.past.pop_front();
        }
        match self.past.front() {
            Some((then, before)) if now > *then => {
                (bytes as f64 - *before as f64) / now.duration_since(*then).as_secs_f64()
            }
            _ => 0.0,
        }
    }
}

impl Drop for StoreWatch {
    fn drop(&mut self) {
        // A mesh that is served no more has no figures, rather than old ones.
        self.metrics.event_store.forget(&self.mesh);
    }
}

fn read(info: &Value) -> Figures {
    let state = &info["state"];
    let number = |field: &str| state[field].as_u64().unwrap_or_default();
    let messages = number("messages");
    let first = state["first_ts"].as_str().and_then(|text| text.parse::<Timestamp>().ok());
    Figures {
        bytes: number("bytes"),
        // No limit is -1.
        max_bytes: info["config"]["max_bytes"].as_u64(),
        messages,
        first_sequence: number("first_seq"),
        last_sequence: number("last_seq"),
        first_second: first.filter(|_| messages > 0).map(Timestamp::as_second),
    }
}
