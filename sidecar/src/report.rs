//! What the operator and the other pods hear from this sidecar: at least every
//! interval, and at once when something changed.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use murmur_mesh::config::SidecarConfig;
use murmur_mesh::report::{INTERVAL, Report};
use murmur_mesh::subject;
use tokio::sync::watch;
use tokio::time::sleep;

use crate::board::Board;
use crate::bus::Bus;
use crate::drain::Drain;

/// At most so many subscriptions are reported.
const MOST_SUBSCRIPTIONS: usize = 64;
/// At least so long between two reports: a flapping service must not flood the operator.
const LEAST_INTERVAL: Duration = Duration::from_millis(250);

/// What reports are made of, and where they go.
#[derive(Clone)]
pub(crate) struct Reporter {
    pub(crate) bus: Bus,
    pub(crate) board: Arc<Board>,
    pub(crate) configuration: watch::Receiver<Arc<SidecarConfig>>,
    pub(crate) pod: String,
    pub(crate) drain: Drain,
}

impl Reporter {
    /// Reports for as long as it is polled.
    pub(crate) async fn run(mut self) {
        let mut link = self.bus.watch();
        loop {
            let leaving = self.drain.is_started();
            self.report(leaving).await;
            sleep(LEAST_INTERVAL).await;
            tokio::select! {
                () = self.board.changed.notified() => {}
                () = self.drain.started(), if !leaving => {}
                changed = link.changed() => if changed.is_err() { return },
                changed = self.configuration.changed() => if changed.is_err() { return },
                () = sleep(INTERVAL) => {}
            }
        }
    }

    /// The last word, once nothing is received any more. Without it the next holder of what was given back would not
    /// know that it was, and wait for the ack wait.
    pub(crate) async fn end(&self) {
        self.report(true).await;
    }

    async fn report(&self, leaving: bool) {
        if !self.bus.link().connected {
            return;
        }
        let report = report(&self.board, &self.configuration, &self.pod, leaving);
        let subject = subject::report(&self.configuration.borrow().service, &self.pod);
        if let Ok(json) = serde_json::to_vec(&report)
            && let Err(error) = self.bus.send(subject, Bytes::from(json)).await
        {
            tracing::debug!(%error, "cannot report to the operator");
        }
    }
}

fn report(
    board: &Board,
    configuration: &watch::Receiver<Arc<SidecarConfig>>,
    pod: &str,
    leaving: bool,
) -> Report {
    Report {
        pod: pod.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        generation: configuration.borrow().generation,
        subscriptions: board.reports(MOST_SUBSCRIPTIONS),
        leaving,
        released: board.released(),
        outbox: board.outbox(),
    }
}
