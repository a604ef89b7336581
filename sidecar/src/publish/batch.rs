//! Several events as one atomic batch: all of them are stored, or none.

use async_nats::{HeaderMap, Subject};
use futures::FutureExt;
use murmur_mesh::wire::batch;
use tokio::time::{Instant, timeout_at};
use uuid::Uuid;

use super::answer::{self, Committed, PublishError};
use super::publisher::not_sent;
use super::{Outgoing, Publisher};
use crate::bus::Bus;
use crate::bus::replies::Ticket;

/// The most messages of a batch that the broker takes.
pub(crate) const LARGEST_BATCH: usize = 1000;

impl Publisher {
    /// Stores `events` as one batch, in their order, at once or not at all. It is
    /// sent once: an answer that is lost leaves the outcome open.
    pub(crate) async fn publish_batch<'a>(
        &self,
        events: impl ExactSizeIterator<Item = &'a Outgoing>,
        deadline: Instant,
    ) -> Result<Committed, PublishError> {
        if !self.bus.link().connected {
            return Err(PublishError::Away);
        }
        match timeout_at(deadline, self.send_batch(events)).await {
            Ok(result) => result,
            Err(_) => Err(PublishError::TimedOut),
        }
    }

    async fn send_batch<'a>(
        &self,
        events: impl ExactSizeIterator<Item = &'a Outgoing>,
    ) -> Result<Committed, PublishError> {
        let (count, mut batch) = (events.len(), self.begin_batch());
        for (number, event) in (1..).zip(events) {
            if number == count {
                return batch.commit(event).await;
            }
            batch.send(event).await?;
        }
        Err(PublishError::Unreadable("a batch of no events has no answer".to_owned()))
    }

    /// A batch whose events are sent one by one, as they come. The broker gives it up 10 s after its last message.
    pub(super) fn begin_batch(&self) -> OpenBatch<'_> {
        let id = Uuid::now_v7().simple().to_string();
        OpenBatch { bus: &self.bus, id, first: self.bus.replies().wait(), sent: 0 }
    }
}

/// A batch that is being sent.
pub(super) struct OpenBatch<'a> {
    bus: &'a Bus,
    id: String,
    /// Only the first message's answer tells why a batch is not taken up: the last one's says no more than that there is
    /// none.
    first: Ticket<'a>,
    sent: usize,
}

impl OpenBatch<'_> {
    /// Sends one that is not the last.
    pub(super) async fn send(&mut self, event: &Outgoing) -> Result<(), PublishError> {
        let headers = self.headers(event);
        let (subject, payload) = (Subject::from(event.subject()), event.payload().clone());
        let sent = if self.sent == 1 {
            self.bus.ask(subject, self.first.subject(), headers, payload).await
        } else {
            self.bus.client().publish_with_headers(subject, headers, payload).await
        };
        sent.map_err(|error| not_sent(&error))
    }

    /// Sends the last one, and waits until all are stored, or none.
    pub(super) async fn commit(mut self, event: &Outgoing) -> Result<Committed, PublishError> {
        let mut last = self.bus.replies().wait();
        let mut headers = self.headers(event);
        headers.insert(batch::COMMIT, "1");
        let (subject, payload) = (Subject::from(event.subject()), event.payload().clone());
        let sent = self.bus.ask(subject, last.subject(), headers, payload).await;
        sent.map_err(|error| not_sent(&error))?;
        let answer = last.answer().await.ok_or(PublishError::Lost)?;
        answer::read_commit(&answer).map_err(|error| {
            let cause = self.first.answer().now_or_never().flatten();
            // The first message of a batch that was taken up is answered with nothing.
            let refused = cause.filter(|cause| !cause.payload.is_empty());
            refused.and_then(|cause| answer::read(&cause).err()).unwrap_or(error)
        })
    }

    /// Those of the next message.
    fn headers(&mut self, event: &Outgoing) -> HeaderMap {
        self.sent += 1;
        let mut headers = event.headers();
        headers.insert(batch::ID, self.id.as_str());
        headers.insert(batch::SEQUENCE, self.sent.to_string());
        headers
    }
}
