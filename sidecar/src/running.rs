//! A sidecar that runs: its tasks, and the order in which they end.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::bus::Bus;
use crate::drain::Drain;
use crate::http::admin::Admin;
use crate::http::local::Local;
use crate::http::server::Server;
use crate::limits::Limits;
use crate::listeners::Listeners;
use crate::report::Reporter;
use crate::trace::Exporter;

/// Connections to the admin listener: the kubelet's and Prometheus'.
const ADMIN_CONNECTIONS: usize = 32;

/// A sidecar that runs.
pub(crate) struct Running {
    limits: Limits,
    bus: Bus,
    reporter: Reporter,
    drain: Drain,
    connections: TaskTracker,
    accepting: CancellationToken,
    background: CancellationToken,
    /// The service has ended.
    ending: CancellationToken,
    /// The relay of the outbox, which goes on until it has nothing left to publish.
    relaying: TaskTracker,
    /// The export of spans, which goes on until all else has ended.
    exporting: TaskTracker,
}

impl Running {
    /// One without any task yet. `ending` is cancelled once the service has ended.
    pub(crate) fn new(
        limits: Limits,
        bus: Bus,
        reporter: Reporter,
        drain: Drain,
        ending: CancellationToken,
    ) -> Self {
        Self {
            limits,
            bus,
            reporter,
            drain,
            connections: TaskTracker::new(),
            accepting: CancellationToken::new(),
            background: CancellationToken::new(),
            ending,
            relaying: TaskTracker::new(),
            exporting: TaskTracker::new(),
        }
    }

    /// Serves what comes in.
    pub(crate) fn serve(&self, listeners: Listeners, local: Local, admin: Admin) {
        let server = |connections| Server {
            connections,
            head_timeout: self.limits.head_timeout,
            stop: self.accepting.clone(),
            tracker: self.connections.clone(),
        };
        let local = Arc::new(local);
        for listener in listeners.local {
            tokio::spawn(server(self.limits.connections).serve(listener, local.clone()));
        }
        // Probes go on until the very end.
        let admin_server = Server {
            stop: self.background.clone(),
            tracker: TaskTracker::new(),
            ..server(ADMIN_CONNECTIONS)
        };
        tokio::spawn(admin_server.serve(listeners.admin, Arc::new(admin)));
    }

    /// Runs a task until the very end.
    pub(crate) fn in_background(&self, task: impl Future<Output = ()> + Send + 'static) {
        let ended = self.background.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = task => {}
                () = ended.cancelled() => {}
            }
        });
    }

    /// Runs the outbox's relay, until it has nothing left to publish.
    pub(crate) fn relay(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.relaying.spawn(task);
    }

    /// Exports spans, until all else has ended.
    pub(crate) fn export(&self, exporter: Exporter) {
        self.exporting.spawn(exporter.run(self.background.clone()));
    }

    /// Deliveries and publishes in flight end, within bounds; then the process may.
    pub(crate) async fn end(self) {
        tracing::info!("ending: what is in flight is finished first");
        self.drain.start();
        self.accepting.cancel();
        self.connections.close();
        self.ending.cancel();
        self.relaying.close();
        let all = async {
            tokio::join!(self.drain.finished(), self.connections.wait(), self.relaying.wait());
        };
        if tokio::time::timeout(self.limits.shutdown, all).await.is_err() {
            tracing::warn!("ended before all that was in flight was finished; the bus will deliver it again");
        }
        if self.bus.link().connected {
            let last = async {
                self.reporter.end().await;
                self.bus.client().flush().await
            };
            let _ = tokio::time::timeout(self.limits.shutdown, last).await;
        }
        self.background.cancel();
        self.exporting.close();
        self.exporting.wait().await;
    }
}
