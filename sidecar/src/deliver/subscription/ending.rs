//! New terms for a subscription that runs, and its end.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use async_nats::Subscriber;
use bytes::Bytes;
use futures::StreamExt;
use murmur_mesh::config::Ordering;
use murmur_mesh::durable::PIN_GROUP;
use murmur_mesh::subject;
use tokio::time::{Instant, sleep_until};

use super::{END, Ended, RETRY, Subscription, target};
use crate::bus::delivered::GIVE_BACK;
use crate::deliver::client::Client;

impl Subscription {
    pub(super) fn new_terms(&mut self) {
        self.terms = self.runner.terms.borrow_and_update().clone();
        let deliver = &self.terms.subscription.deliver;
        if self.client.address().port() != deliver.port {
            self.client = Arc::new(Client::new(deliver.port));
        }
        self.entry.set_timeout(deliver.timeout);
        self.target = Arc::new(target(&self.terms, &self.client, &self.runner.authorization));
    }

    /// Whether something is under way that is worth waiting for.
    pub(super) fn is_busy(&self, now: Instant) -> bool {
        let burials = self.lanes.out() > 0 && self.runner.bus.link().connected;
        self.entry.in_flight.load(Relaxed) > 0 || burials && self.stopping.is_some_and(|end| now < end)
    }

    /// Without an order, what was not sent can go to others while the rest is finished.
    pub(super) fn may_release_early(&self) -> bool {
        self.terms.subscription.ordering == Ordering::None
    }

    /// Gives back all that was not delivered, and the pins, so that another
    /// replica goes on at once.
    pub(super) async fn release(mut self, mut arrivals: Subscriber) {
        let end = Instant::now() + END;
        let _ = tokio::time::timeout_at(end, arrivals.drain()).await;
        while let Ok(Some(message)) = tokio::time::timeout_at(end, arrivals.next()).await {
            self.arrived(message);
        }
        self.give_back();
        // Only without an order is anything still out; the service's own time bounds it.
        while self.is_busy(Instant::now()) {
            let wake = self.next_marks.max(Instant::now() + RETRY);
            tokio::select! {
                Some(ended) = self.work.next() => {
                    self.ended(ended);
                    self.give_back();
                }
                () = sleep_until(wake) => self.mark(Instant::now()),
            }
        }
        self.unpin();
        // Words that had to wait for room.
        let rest = async { while self.work.next().await.is_some() {} };
        let _ = tokio::time::timeout(END, rest).await;
        self.show();
    }

    pub(super) fn give_back(&mut self) {
        for held in self.lanes.release(|_| true) {
            self.say(held.reply, GIVE_BACK);
        }
    }

    /// Without it another replica would wait for the pin's time to run out.
    pub(super) fn unpin(&self) {
        for pull in self.pulls.iter().filter(|pull| pull.is_pinned() && pull.has_pin()) {
            let request = Bytes::from(format!(r#"{{"group":"{PIN_GROUP}"}}"#));
            let reply = format!("{}.0.0", self.inbox);
            let client = self.runner.bus.client().clone();
            let subject = subject::unpin_request(&pull.durable);
            self.work.push(Box::pin(async move {
                let _ = client.publish_with_reply(subject, reply, request).await;
                Ended::Sent
            }));
        }
    }
}
