//! A batch that its publisher wants stored at once or not at all.

use std::time::Duration;

use async_nats::HeaderMap;
use bytes::Bytes;
use futures::stream::{self, StreamExt, TryStreamExt};
use murmur_mesh::wire::MESSAGE_ID_HEADER;
use rand::Rng;
use tokio::time::{Instant, sleep, timeout_at};
use uuid::Uuid;

use super::answer::{PublishError, Stored};
use super::{Outgoing, Publisher};

/// The broker stores a message only if the last one has this id. It looks for
/// duplicates first (and for a wrong last sequence before that): so, with an id
/// that no message has, it says where a duplicate is, and never stores anything.
const EXPECTED_LAST_MESSAGE_ID: &str = "Nats-Expected-Last-Msg-Id";
/// So many are asked for at once.
const QUESTIONS: usize = 64;
/// When too many batches are open, the first wait for one to end; doubled each time.
const FIRST_PAUSE: Duration = Duration::from_millis(25);

/// What became of a batch.
#[derive(Debug)]
pub(crate) enum Whole {
    /// All of it is stored: each event's place.
    Stored(Vec<Stored>),
    /// Some of its events were stored before, so the rest was not.
    Partly(Vec<Option<Stored>>),
}

impl Publisher {
    /// Stores all of `events`, at most [`LARGEST_BATCH`](super::LARGEST_BATCH), or none.
    pub(super) async fn publish_all(&self, events: &[Outgoing]) -> Result<Whole, PublishError> {
        let deadline = self.deadline();
        let mut perhaps_stored = false;
        let result = timeout_at(deadline, self.until_whole(events, deadline, &mut perhaps_stored)).await;
        match result {
            Ok(Ok(whole)) => Ok(whole),
            Ok(Err(_)) | Err(_) if perhaps_stored => Err(PublishError::Lost),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(PublishError::TimedOut),
        }
    }

    async fn until_whole(
        &self,
        events: &[Outgoing],
        deadline: Instant,
        perhaps_stored: &mut bool,
    ) -> Result<Whole, PublishError> {
        let mut pause = FIRST_PAUSE;
        loop {
            if !self.bus.link().connected {
                self.wait_for_connection(*perhaps_stored).await?;
            }
            match self.publish_batch(events.iter(), deadline).await {
                Ok(committed) => {
                    let places = committed.members(events.len()).ok_or_else(|| {
                        PublishError::Unreadable("the number of events in a batch is another".to_owned())
                    })?;
                    return Ok(Whole::Stored(places.collect()));
                }
                Err(error) if error.is_duplicate_in_batch() => {
                    // One of them at least.
                    *perhaps_stored = true;
                    let places = self.places(events, deadline).await?;
                    if let Some(all) = places.iter().copied().collect() {
                        return Ok(Whole::Stored(all));
                    }
                    if places.iter().any(Option::is_some) {
                        return Ok(Whole::Partly(places));
                    }
                    // None is there yet: a copy is being stored, or was just forgotten.
                }
                Err(PublishError::Lost) => {
                    *perhaps_stored = true;
                    continue;
                }
                Err(PublishError::Away) => continue,
                Err(error) if error.is_too_many_batches() && Instant::now() + pause < deadline => {}
                Err(error) => return Err(error),
            }
            let jittered = pause.mul_f64(rand::rng().random_range(0.5..1.0));
            sleep(jittered).await;
            pause *= 2;
        }
    }

    /// Where those events are that are stored already.
    async fn places(
        &self,
        events: &[Outgoing],
        deadline: Instant,
    ) -> Result<Vec<Option<Stored>>, PublishError> {
        let nobodys = Uuid::new_v4().to_string();
        stream::iter(0..events.len())
            .map(|index| self.place(&events[index], &nobodys, deadline))
            .buffered(QUESTIONS)
            .try_collect()
            .await
    }

    async fn place(
        &self,
        event: &Outgoing,
        nobodys: &str,
        deadline: Instant,
    ) -> Result<Option<Stored>, PublishError> {
        let headers = || {
            let mut headers = HeaderMap::new();
            headers.insert(MESSAGE_ID_HEADER, event.message_id());
            headers.insert(EXPECTED_LAST_MESSAGE_ID, nobodys);
            headers
        };
        match self.publish_before(deadline, false, event.subject(), headers, &Bytes::new()).await {
            Ok(stored) if stored.duplicate => Ok(Some(stored)),
            Ok(_) => Err(PublishError::Unreadable("a question was stored".to_owned())),
            Err(error) if error.is_wrong_last_message() => Ok(None),
            Err(error) => Err(error),
        }
    }
}
