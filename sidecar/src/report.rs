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

/// Reports for as long as it is polled.
pub(crate) async fn run(
    bus: Bus,
    board: Arc<Board>,
    mut configuration: watch::Receiver<Arc<SidecarConfig>>,
    pod: String,
    drain: Drain,
) {
    let mut link = bus.watch();
    loop {
        let leaving = drain.is_started();
        if bus.link().connected {
            let report = report(&board, &configuration, &pod, leaving);
            let subject = subject::report(&configuration.borrow().service, &pod);
            if let Ok(json) = serde_json::to_vec(&report)
                && let Err(error) = bus.send(subject, Bytes::from(json)).await
            {
                tracing::debug!(%error, "cannot report to the operator");
            }
        }
        sleep(LEAST_INTERVAL).await;
        tokio::select! {
            () = board.changed.notified() => {}
            () = drain.started(), if !leaving => {}
            changed = link.changed() => if changed.is_err() { return },
            changed = configuration.changed() => if changed.is_err() { return },
            () = sleep(INTERVAL) => {}
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
