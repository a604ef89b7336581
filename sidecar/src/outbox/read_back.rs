//! Reads back what the service has stored: which rows of the outbox are among it
//! is known from their messages alone, however long ago they were sent.
//!
//! The operator makes a durable for it, of the service's own events, without
//! their data. It is set to a place in the event store and pulled from there to
//! the end. Nobody else pulls from it, and if somebody does, it is noticed: the
//! durable counts what it hands out.

use std::time::Duration;

use async_nats::{Message, Subject, Subscriber};
use bytes::Bytes;
use futures::StreamExt;
use murmur_mesh::durable::DurableName;
use murmur_mesh::subject;
use murmur_mesh::wire::{MESSAGE_ID_HEADER, OUTBOX_POSITION};
use serde::Deserialize;
use serde_json::json;
use tokio::time::timeout;

use crate::bus::Bus;
use crate::bus::delivered::Delivered;

/// So many messages are asked for at once.
const BATCH: usize = 256;
/// How long the bus may take for an answer.
const ANSWER: Duration = Duration::from_secs(5);

/// Why it could not be read back.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unread {
    /// No answer to the request that sets the durable to its place.
    #[error("the bus does not answer for the durable {0}, which the operator makes")]
    NoDurable(DurableName),
    /// The bus does not do it.
    #[error("the bus refused to read back from the durable {0}: {1}")]
    Refused(DurableName, String),
    /// The messages end too early.
    #[error("the bus stopped while it was read back from the durable {0}")]
    Broken(DurableName),
    /// Something is missing in between.
    #[error("another was reading back from the durable {0} at the same time")]
    Shared(DurableName),
}

/// What came out of an outbox, as the event store has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) position: i64,
    pub(super) message_id: String,
}

/// Some of the service's own events.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Chunk {
    /// Those out of an outbox.
    pub(super) seen: Vec<Seen>,
    /// The place of the last one.
    pub(super) upto: u64,
}

/// The reading, from one place to the end.
pub(super) struct ReadBack {
    bus: Bus,
    durable: DurableName,
    inbox: Subject,
    answers: Subscriber,
    /// How many messages the durable has handed out since it was set to its place.
    handed_out: u64,
    pending: u64,
}

#[derive(Deserialize)]
struct Reset {
    #[serde(default)]
    num_pending: u64,
    error: Option<ApiError>,
}

#[derive(Deserialize)]
struct ApiError {
    #[serde(default)]
    description: String,
}

impl ReadBack {
    /// Begins at this place of the event store.
    pub(super) async fn begin(bus: &Bus, durable: DurableName, from: u64) -> Result<Self, Unread> {
        let mut ticket = bus.replies().wait();
        let request = Subject::from(subject::reset_request(&durable));
        let body = Bytes::from(json!({"seq": from}).to_string());
        let asked = bus.ask(request, ticket.subject(), async_nats::HeaderMap::new(), body).await;
        let answer = match (asked, timeout(ANSWER, ticket.answer()).await) {
            (Ok(()), Ok(Some(answer))) if answer.status.is_none() => answer,
            _ => return Err(Unread::NoDurable(durable)),
        };
        drop(ticket);
        let reset: Reset = serde_json::from_slice(&answer.payload)
            .map_err(|error| Unread::Refused(durable.clone(), error.to_string()))?;
        if let Some(error) = reset.error {
            return Err(Unread::Refused(durable, error.description));
        }
        let inbox = Subject::from(bus.client().new_inbox());
        let answers = bus
            .client()
            .subscribe(inbox.clone())
            .await
            .map_err(|error| Unread::Refused(durable.clone(), error.to_string()))?;
        Ok(Self { bus: bus.clone(), durable, inbox, answers, handed_out: 0, pending: reset.num_pending })
    }

    /// The next of them; `None` at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Chunk>, Unread> {
        if self.pending == 0 {
            return Ok(None);
        }
        let batch = usize::try_from(self.pending).unwrap_or(BATCH).min(BATCH);
        let request = Subject::from(subject::next_request(&self.durable));
        let body = Bytes::from(json!({"batch": batch, "no_wait": true}).to_string());
        let asked = self.bus.client().publish_with_reply(request, self.inbox.clone(), body).await;
        asked.map_err(|_| self.broken())?;
        let mut chunk = Chunk::default();
        for _ in 0..batch {
            let message = timeout(ANSWER, self.answers.next()).await;
            let message = message.ok().flatten().ok_or_else(|| self.broken())?;
            self.take(&message, &mut chunk)?;
        }
        Ok(Some(chunk))
    }

    fn take(&mut self, message: &Message, chunk: &mut Chunk) -> Result<(), Unread> {
        // A status: there is not what there should be.
        let reply = message.reply.as_deref().ok_or_else(|| self.broken())?;
        let delivered = Delivered::parse(reply).ok_or_else(|| self.broken())?;
        self.handed_out += 1;
        if delivered.handed_out != self.handed_out {
            return Err(Unread::Shared(self.durable.clone()));
        }
        self.pending = delivered.pending;
        chunk.upto = delivered.sequence;
        chunk.seen.extend(seen(message));
        Ok(())
    }

    fn broken(&self) -> Unread {
        Unread::Broken(self.durable.clone())
    }
}

fn seen(message: &Message) -> Option<Seen> {
    let headers = message.headers.as_ref()?;
    let position = headers.get(OUTBOX_POSITION)?.as_str().parse().ok()?;
    Some(Seen { position, message_id: headers.get(MESSAGE_ID_HEADER)?.as_str().to_owned() })
}
