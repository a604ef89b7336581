//! When the pod is ready: `startup.waitFor: CaughtUp` keeps it from requests until
//! its subscriptions have what was there when it started.
//!
//! The bus says how much that is, so while it is away the pod is not ready. Once
//! reached it stays so. A subscription that is suspended does not count, and a dead
//! letter counts as passed. Deliveries do not wait for the pod to be ready.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_nats::StatusCode;
use bytes::Bytes;
use murmur_mesh::config::SidecarConfig;
use murmur_mesh::subject;
use serde::Deserialize;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::bus::{Bus, leader};
use crate::settings::parse_config;

/// Between two looks.
const INTERVAL: Duration = Duration::from_millis(500);
/// How long an answer of the broker may take.
const ANSWER: Duration = Duration::from_secs(5);

/// What the pod's readiness waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
#[clap(rename_all = "PascalCase")]
pub enum WaitFor {
    /// Nothing but its own start.
    #[default]
    Started,
    /// The events that there were when the pod started.
    CaughtUp,
}

/// Whether the pod is ready; clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Readiness(Arc<AtomicBool>);

impl Readiness {
    /// As it is at the start.
    pub(crate) fn new(wait_for: WaitFor) -> Self {
        Self(Arc::new(AtomicBool::new(wait_for == WaitFor::Started)))
    }

    /// Whether requests may come.
    pub(crate) fn is_ready(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// The part of CONSUMER.INFO that matters here.
#[derive(Debug, Clone, Copy, Deserialize)]
struct Info {
    delivered: Place,
    ack_floor: Place,
    num_ack_pending: u64,
    num_pending: u64,
}

#[derive(Debug, Clone, Copy, Deserialize)]
struct Place {
    consumer_seq: u64,
}

/// How far a durable must come, as it counts itself.
#[derive(Debug, Clone, Copy)]
struct Goal {
    reached: u64,
    /// How many it had handed out when it was looked at last.
    handed_out: u64,
}

impl Goal {
    fn of(info: &Info) -> Self {
        let handed_out = info.delivered.consumer_seq;
        Self { reached: handed_out.saturating_add(info.num_pending), handed_out }
    }

    /// Whether it is reached. A durable that was set back counts anew.
    fn is_met(&mut self, info: &Info) -> bool {
        if info.delivered.consumer_seq < self.handed_out {
            *self = Self::of(info);
        }
        self.handed_out = info.delivered.consumer_seq;
        info.num_ack_pending == 0 && info.num_pending == 0 || info.ack_floor.consumer_seq >= self.reached
    }
}

/// Waits until all is there, and says so.
pub(crate) async fn run(bus: Bus, configuration: watch::Receiver<Arc<SidecarConfig>>, readiness: Readiness) {
    let mut goals: BTreeMap<String, Goal> = BTreeMap::new();
    while !readiness.is_ready() {
        let config = configuration.borrow().clone();
        let connected = bus.link().connected;
        if connected && is_last(&bus, &config).await && caught_up(&bus, &config, &mut goals).await {
            tracing::info!("has caught up with the events that there were at its start");
            readiness.0.store(true, Ordering::Relaxed);
        }
        sleep(INTERVAL).await;
    }
}

/// Whether this is the configuration that was published last: the one that the pod started with may be of a time when
/// the service had fewer subscriptions.
async fn is_last(bus: &Bus, config: &SidecarConfig) -> bool {
    let asking = bus.client().request(subject::config_request(&config.service), Bytes::new());
    match timeout(ANSWER, asking).await {
        // None has been published yet.
        Ok(Ok(answer)) if answer.status == Some(StatusCode::NOT_FOUND) => true,
        // One that cannot be used never takes the place of the one that there is.
        Ok(Ok(answer)) => {
            parse_config(&answer.payload).map_or(true, |last| last.generation <= config.generation)
        }
        Ok(Err(_)) | Err(_) => false,
    }
}

async fn caught_up(bus: &Bus, config: &SidecarConfig, goals: &mut BTreeMap<String, Goal>) -> bool {
    let mut all = true;
    for subscription in config.subscriptions.iter().filter(|subscription| !subscription.suspend) {
        for (_, durable) in subscription.durables() {
            let asking = bus.client().request(subject::info_request(&durable), Bytes::new());
            let answer = timeout(ANSWER, asking).await.ok().and_then(Result::ok);
            let answer = answer.filter(|answer| leader::speaks(bus.client(), &answer.payload));
            let info = answer.map(|answer| serde_json::from_slice(&answer.payload));
            // One that is not there yet has all before it.
            let Some(Ok(info)) = info else { return false };
            let goal = goals.entry(durable.to_string()).or_insert_with(|| Goal::of(&info));
            all &= goal.is_met(&info);
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(delivered: u64, floor: u64, out: u64, pending: u64) -> Info {
        let place = |consumer_seq| Place { consumer_seq };
        Info {
            delivered: place(delivered),
            ack_floor: place(floor),
            num_ack_pending: out,
            num_pending: pending,
        }
    }

    #[test]
    fn what_comes_after_the_start_does_not_count() {
        let mut goal = Goal::of(&info(10, 8, 2, 90));
        assert!(!goal.is_met(&info(60, 50, 10, 90)));
        assert!(!goal.is_met(&info(110, 99, 11, 500)));
        assert!(goal.is_met(&info(110, 100, 10, 500)));
    }

    #[test]
    fn nothing_left_is_caught_up_and_a_durable_that_is_set_back_starts_over() {
        let mut goal = Goal::of(&info(0, 0, 0, 0));
        assert!(goal.is_met(&info(0, 0, 0, 0)));
        let mut goal = Goal::of(&info(100, 100, 0, 5));
        assert!(!goal.is_met(&info(0, 0, 0, 105)));
        assert!(!goal.is_met(&info(50, 50, 0, 55)));
        assert!(goal.is_met(&info(105, 105, 0, 0)));
    }
}
