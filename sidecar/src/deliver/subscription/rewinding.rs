//! Setting a projection's durable back to where its database is. Only who receives
//! its events does so, before it receives any more: acknowledgements of what went
//! before could else count for what comes again.

use std::time::Duration;

use bytes::Bytes;
use murmur_mesh::durable::{DurableName, PIN_GROUP};
use murmur_mesh::report::held;
use murmur_mesh::subject;
use serde::Deserialize;
use tokio::time::{sleep, timeout};

use super::Runner;
use crate::board::Held;
use crate::deliver::Terms;

/// Between two tries.
const RETRY: Duration = Duration::from_secs(2);
/// How long an answer of the broker may take.
const ANSWER: Duration = Duration::from_secs(5);
/// How long acknowledgements that are on their way may take to count.
const SETTLE: Duration = Duration::from_millis(250);

/// The parts of the broker's answers that matter here.
#[derive(Debug, Deserialize)]
struct Answer {
    config: Option<Config>,
    error: Option<Problem>,
}

#[derive(Debug, Deserialize)]
struct Config {
    opt_start_seq: Option<u64>,
}

#[derive(Debug, Deserialize)]
struct Problem {
    code: u16,
    description: String,
}

impl Runner {
    /// Does it if it is to be done, however often it has to be tried. `false`: it is to end.
    pub(super) async fn rewinds(&mut self, terms: &Terms) -> bool {
        let Some(sequence) = self.rewind else { return true };
        let Some((_, durable)) = terms.subscription.durables().next() else { return true };
        let entry = self.board.entry(&terms.subscription.name);
        loop {
            let stop = self.stop.clone();
            let done = tokio::select! {
                done = self.set_back(&durable, sequence) => done,
                () = stop.cancelled() => return false,
            };
            match done {
                Ok(()) => {
                    tracing::info!(%durable, sequence, "the durable delivers again from here");
                    self.board.hold(&entry, None);
                    (self.rewind, self.rewound) = (None, Some(sequence - 1));
                    return true;
                }
                Err(cause) => {
                    tracing::warn!(%durable, sequence, %cause, "the durable cannot be set back to where the database is");
                    self.board.hold(
                        &entry,
                        Some(Held {
                            reason: held::REBUILD_PENDING,
                            cause: format!(
                                "the database lacks events from sequence {sequence} on, and they cannot be asked \
                                 for again: {cause}; a new spec.replay.id builds its tables anew"
                            ),
                        }),
                    );
                }
            }
            tokio::select! {
                () = sleep(RETRY) => {}
                () = self.stop.cancelled() => return false,
            }
        }
    }

    async fn set_back(&self, durable: &DurableName, sequence: u64) -> Result<(), String> {
        // The pin, if this replica has it, is for pulls that are no more.
        let unpin = Bytes::from(format!(r#"{{"group":"{PIN_GROUP}"}}"#));
        let _ = self.asked(subject::unpin_request(durable), unpin).await?;
        sleep(SETTLE).await;
        let info = self.asked(subject::info_request(durable), Bytes::new()).await?;
        let Some(config) = info.config else {
            return match info.error {
                // One that is made from now on begins at its beginning.
                Some(error) if error.code == 404 => Ok(()),
                Some(error) => Err(error.description),
                None => Err("the bus does not say where the durable begins".to_owned()),
            };
        };
        let sequence = sequence.max(config.opt_start_seq.unwrap_or(1));
        let request = Bytes::from(format!(r#"{{"seq":{sequence}}}"#));
        match self.asked(subject::reset_request(durable), request).await?.error {
            None => Ok(()),
            Some(error) => Err(error.description),
        }
    }

    async fn asked(&self, subject: String, request: Bytes) -> Result<Answer, String> {
        let asking = self.bus.client().request(subject, request);
        let answer = match timeout(ANSWER, asking).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => return Err(format!("the bus: {error}")),
            Err(_) => return Err(format!("the bus did not answer within {ANSWER:?}")),
        };
        serde_json::from_slice(&answer.payload).map_err(|error| format!("the bus' answer: {error}"))
    }
}
