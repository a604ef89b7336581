//! New terms for a subscription that runs, and its end.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use futures::StreamExt;
use tokio::time::Instant;

use super::{END, Subscription, target};
use crate::deliver::client::Client;

impl Subscription {
    pub(super) fn new_terms(&mut self) {
        self.terms = self.runner.terms.borrow_and_update().clone();
        let port = self.terms.port();
        if self.client.address().port() != port {
            self.client = Arc::new(Client::new(port));
        }
        self.entry.set_timeout(self.terms.timeout());
        self.target = Arc::new(target(&self.terms, &self.client, &self.runner.authorization));
        self.compile();
        self.assign(Instant::now());
    }

    /// Whether something is under way that is worth waiting for.
    pub(super) fn is_busy(&self, now: Instant) -> bool {
        let burials = self.lanes.out() > 0 && self.runner.bus.link().connected;
        let parting = self.pulls.iter().any(|pull| pull.parts_by.is_some());
        self.entry.in_flight.load(Relaxed) > 0
            || parting
            || burials && self.stopping.is_some_and(|end| now < end)
    }

    /// Gives back what still came.
    pub(super) async fn release(mut self) {
        let end = Instant::now() + END;
        let _ = tokio::time::timeout_at(end, self.inboxes.drain()).await;
        while let Ok(Some(message)) = tokio::time::timeout_at(end, self.inboxes.next()).await {
            self.arrived(message);
        }
        let now = Instant::now();
        self.let_go(now);
        self.let_go(now);
        // Words that had to wait for room.
        let rest = async { while self.work.next().await.is_some() {} };
        let _ = tokio::time::timeout(END, rest).await;
        self.show();
    }
}
