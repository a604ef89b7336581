//! What becomes of an event that is given up: a copy in the stream of dead
//! letters, stored once, and only then the end of the original.

use std::sync::Arc;
use std::time::Duration;

use async_nats::{HeaderMap, Message};
use jiff::Timestamp;
use murmur_mesh::config::StreamIdentity;
use murmur_mesh::durable::Shard;
use murmur_mesh::name::{ServiceName, SubscriptionName};
use murmur_mesh::subject;
use murmur_mesh::wire::dead_letter as header;
use rand::Rng;

use crate::metrics::DeadReason;
use crate::publish::Publisher;

/// The broker refuses the copy when the subject holds one already.
const EXPECTED_LAST_SUBJECT_SEQUENCE: &str = "Nats-Expected-Last-Subject-Sequence";
/// Headers that the broker acts on. An event's own message id is among them: two
/// subscriptions that give one event up must not be taken for a repetition.
const BROKERS_PREFIX: &str = "Nats-";
const FIRST_DELAY: Duration = Duration::from_millis(250);
const LONGEST_DELAY: Duration = Duration::from_secs(10);
/// The longest cause that is kept, in characters.
const LONGEST_CAUSE: usize = 1024;

/// An event that is given up.
#[derive(Debug, Clone)]
pub(super) struct DeadLetter {
    pub(super) service: ServiceName,
    pub(super) subscription: SubscriptionName,
    pub(super) shard: Shard,
    pub(super) sequence: u64,
    pub(super) event_store: Option<StreamIdentity>,
    pub(super) reason: DeadReason,
    pub(super) cause: String,
    pub(super) attempts: u32,
    pub(super) first_attempt: Option<Timestamp>,
    pub(super) last_attempt: Option<Timestamp>,
}

impl DeadLetter {
    fn headers(&self, original: &Message) -> HeaderMap {
        let mut headers = HeaderMap::new();
        if let Some(own) = &original.headers {
            for (name, values) in own.iter() {
                let name_text: &str = name.as_ref();
                if name_text.starts_with(BROKERS_PREFIX) {
                    continue;
                }
                for value in values {
                    headers.append(name.clone(), value.clone());
                }
            }
        }
        headers.insert(EXPECTED_LAST_SUBJECT_SEQUENCE, "0");
        headers.insert(header::REASON, self.reason.as_str());
        headers.insert(header::CAUSE, one_line(&self.cause));
        headers.insert(header::ATTEMPTS, self.attempts.to_string());
        headers.insert(header::SEQUENCE, self.sequence.to_string());
        headers.insert(header::SUBJECT, original.subject.as_str());
        if let Some(StreamIdentity(stream)) = &self.event_store {
            headers.insert(header::STREAM, one_line(stream));
        }
        for (name, moment) in
            [(header::FIRST_ATTEMPT, self.first_attempt), (header::LAST_ATTEMPT, self.last_attempt)]
        {
            if let Some(moment) = moment {
                headers.insert(name, moment.to_string());
            }
        }
        headers
    }

    /// Stores the copy, however long that takes.
    pub(super) async fn bury(self, original: Arc<Message>, publisher: Publisher) {
        let subject = subject::dead_letter(&self.service, &self.subscription, self.shard, self.sequence);
        let mut delay = FIRST_DELAY;
        loop {
            let published = publisher.publish(subject.clone(), || self.headers(&original), &original.payload);
            match published.await {
                Ok(_) => return,
                Err(error) if error.is_already_there() => return,
                Err(error) => {
                    tracing::warn!(
                        subscription = %self.subscription, sequence = self.sequence, %error,
                        "cannot store a dead letter yet; its event is kept"
                    );
                }
            }
            let jittered = delay.mul_f64(rand::rng().random_range(0.5..1.0));
            tokio::time::sleep(jittered).await;
            delay = (delay * 2).min(LONGEST_DELAY);
        }
    }
}

/// A header's value has one line; what is not ASCII would not survive every reader.
fn one_line(cause: &str) -> String {
    cause
        .chars()
        .take(LONGEST_CAUSE)
        .map(|c| if c.is_ascii_graphic() || c == ' ' { c } else { '?' })
        .collect()
}
