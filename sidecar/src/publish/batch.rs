//! Several events as one atomic batch: all of them are stored, or none.

use async_nats::Subject;
use futures::FutureExt;
use murmur_mesh::wire::batch;
use tokio::time::{Instant, timeout_at};
use uuid::Uuid;

use super::answer::{self, Committed, PublishError};
use super::publisher::not_sent;
use super::{Outgoing, Publisher};

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
        let id = Uuid::now_v7().simple().to_string();
        let count = events.len();
        // Only the first message's answer tells why a batch is not taken up: the
        // last one's says no more than that there is none.
        let (mut first, mut last) = (self.bus.replies().wait(), self.bus.replies().wait());
        for (number, event) in (1..).zip(events) {
            let mut headers = event.headers();
            headers.insert(batch::ID, id.as_str());
            headers.insert(batch::SEQUENCE, number.to_string());
            let (subject, payload) = (Subject::from(event.subject()), event.payload().clone());
            let sent = if number == count {
                headers.insert(batch::COMMIT, "1");
                self.bus.ask(subject, last.subject(), headers, payload).await
            } else if number == 1 {
                self.bus.ask(subject, first.subject(), headers, payload).await
            } else {
                self.bus.client().publish_with_headers(subject, headers, payload).await
            };
            sent.map_err(|error| not_sent(&error))?;
        }
        let answer = last.answer().await.ok_or(PublishError::Lost)?;
        answer::read_commit(&answer).map_err(|error| {
            let cause = first.answer().now_or_never().flatten();
            // The first message of a batch that was taken up is answered with nothing.
            let refused = cause.filter(|cause| !cause.payload.is_empty());
            refused.and_then(|cause| answer::read(&cause).err()).unwrap_or(error)
        })
    }
}
