//! What the bus answers to a publish, and what that means.

use async_nats::{Message, StatusCode};
use serde::Deserialize;

/// The event is stored by a majority of the stream's replicas.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stored {
    /// Its place in the stream.
    pub(crate) sequence: u64,
    /// It was there before, under the same message id.
    pub(crate) duplicate: bool,
}

/// A batch is stored, all of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Committed {
    /// The sequence of its last message.
    last: u64,
    /// How many messages; their sequences follow one another.
    count: u64,
}

impl Committed {
    /// Where each of `members` events is, in their order; nothing when the
    /// broker has counted another number of them.
    pub(crate) fn members(self, members: usize) -> Option<impl ExactSizeIterator<Item = Stored>> {
        if u64::try_from(members) != Ok(self.count) {
            return None;
        }
        let first = (self.last + 1).checked_sub(self.count)?;
        Some((0..members).map(move |index| Stored { sequence: first + index as u64, duplicate: false }))
    }
}

/// What a failed publish left behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The event, of a batch whose rest was not stored.
    Stored,
    /// Certainly nothing.
    NotStored,
    /// Perhaps the event: publishing it again under the same id is safe.
    Unknown,
}

/// Why a publish failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PublishError {
    /// There is no connection.
    #[error("there is no connection to the bus")]
    Away,
    /// Nobody stores such events: the stream or its leader is missing.
    #[error("no event store answers on the bus")]
    NoStore,
    /// Sent, but the connection was lost and did not come back in time.
    #[error("the connection to the bus was lost before the event was acknowledged")]
    Lost,
    /// Sent, but not acknowledged in time.
    #[error("the bus did not acknowledge the event in time")]
    TimedOut,
    /// The store takes no more.
    #[error("the event store is full ({0})")]
    Full(String),
    /// It is too large.
    #[error("the event is larger than the bus takes")]
    TooLarge,
    /// Anything else that the bus says.
    #[error("the bus refused the event: {description} (code {code})")]
    Refused {
        /// JetStream's `err_code`.
        code: u32,
        /// Its text.
        description: String,
    },
    /// An answer that cannot be read.
    #[error("the bus answered something that cannot be read: {0}")]
    Unreadable(String),
}

impl PublishError {
    /// What is left behind.
    pub(crate) fn outcome(&self) -> Outcome {
        match self {
            Self::Lost | Self::TimedOut | Self::Unreadable(_) => Outcome::Unknown,
            // The store's own failure (a disk error) may come after a part of the work.
            Self::Refused { code: STORE_FAILED, .. } => Outcome::Unknown,
            Self::Away | Self::NoStore | Self::Full(_) | Self::TooLarge | Self::Refused { .. } => {
                Outcome::NotStored
            }
        }
    }
}

// nats-server 2.15, server/errors.json
const ACCOUNT_RESOURCES_EXCEEDED: u32 = 10002;
const INSUFFICIENT_RESOURCES: u32 = 10023;
const MEMORY_RESOURCES_EXCEEDED: u32 = 10028;
const STORAGE_RESOURCES_EXCEEDED: u32 = 10047;
const MESSAGE_EXCEEDS_MAXIMUM: u32 = 10054;
/// `{err}` of the store: "maximum bytes exceeded" when discard is `new`, or a failure of the disk.
const STORE_FAILED: u32 = 10077;
const HEADER_EXCEEDS_MAXIMUM: u32 = 10097;
const WRONG_LAST_MESSAGE_ID: u32 = 10070;
/// `wrong last sequence: {seq}`: of what is stored; 0 where that could not be read.
const WRONG_LAST_SEQUENCE: u32 = 10071;
/// Another message of this subject is being stored at this moment (in a cluster): it may come to nothing, as when its
/// leader falls (`checkMsgHeadersPreClusteredProposal`).
const SUBJECT_UNDER_WAY: u32 = 10164;
/// A message of the same id is being stored at this moment (in a cluster).
const DUPLICATE_UNDER_WAY: u32 = 10158;
const DUPLICATE_IN_BATCH: u32 = 10201;
/// An open batch was given up: it came too late, or the broker could take up no more.
const BATCH_INCOMPLETE: u32 = 10176;
const TOO_MANY_BATCHES: u32 = 10210;

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    seq: u64,
    #[serde(default)]
    duplicate: bool,
    #[serde(default)]
    count: u64,
    error: Option<ApiError>,
}

#[derive(Deserialize)]
struct ApiError {
    #[serde(default)]
    err_code: u32,
    #[serde(default)]
    description: String,
}

/// Reads the bus' answer to one message.
pub(crate) fn read(message: &Message) -> Result<Stored, PublishError> {
    let answer = parse(message)?;
    Ok(Stored { sequence: answer.seq, duplicate: answer.duplicate })
}

/// Reads the bus' answer to the last message of a batch.
pub(crate) fn read_commit(message: &Message) -> Result<Committed, PublishError> {
    let answer = parse(message)?;
    Ok(Committed { last: answer.seq, count: answer.count })
}

fn parse(message: &Message) -> Result<Answer, PublishError> {
    if message.status == Some(StatusCode::NO_RESPONDERS) {
        return Err(PublishError::NoStore);
    }
    parse_json(&message.payload)
}

fn parse_json(json: &[u8]) -> Result<Answer, PublishError> {
    let mut answer: Answer =
        serde_json::from_slice(json).map_err(|error| PublishError::Unreadable(error.to_string()))?;
    match answer.error.take() {
        None => Ok(answer),
        Some(ApiError { err_code, description }) => Err(match err_code {
            ACCOUNT_RESOURCES_EXCEEDED
            | INSUFFICIENT_RESOURCES
            | MEMORY_RESOURCES_EXCEEDED
            | STORAGE_RESOURCES_EXCEEDED => PublishError::Full(description),
            STORE_FAILED if description.starts_with("maximum") => PublishError::Full(description),
            MESSAGE_EXCEEDS_MAXIMUM | HEADER_EXCEEDS_MAXIMUM => PublishError::TooLarge,
            code => PublishError::Refused { code, description },
        }),
    }
}

impl PublishError {
    /// Whether the subject already holds a message although none was expected.
    pub(crate) fn is_already_there(&self) -> bool {
        matches!(self, Self::Refused { code: WRONG_LAST_SEQUENCE, description } if !description.ends_with(": 0"))
    }

    /// Whether, when an attempt before had no answer, nobody can say after this one what became of it:
    /// all but what the broker says of the messages that are there.
    pub(super) fn leaves_open_what_was_before(&self) -> bool {
        self.outcome() == Outcome::NotStored && !self.is_already_there() && !self.is_wrong_last_message()
    }

    /// Whether the last message of the stream was not the expected one.
    pub(super) fn is_wrong_last_message(&self) -> bool {
        matches!(self, Self::Refused { code: WRONG_LAST_MESSAGE_ID, .. })
    }

    /// Whether it is worth a moment's wait: a copy of the message, or another one of its subject, is being stored.
    pub(super) fn is_under_way(&self) -> bool {
        matches!(self, Self::Refused { code: DUPLICATE_UNDER_WAY | SUBJECT_UNDER_WAY, .. })
    }

    /// Whether a batch was not taken up because too many are open.
    pub(super) fn is_too_many_batches(&self) -> bool {
        matches!(self, Self::Refused { code: BATCH_INCOMPLETE | TOO_MANY_BATCHES, .. })
    }

    /// Whether a batch is not taken although its events, one by one, may be.
    pub(crate) fn is_about_one_batch(&self) -> bool {
        self.is_too_many_batches() || matches!(self, Self::TooLarge)
    }

    /// Whether a batch was refused, whole, because one of its events is stored already.
    pub(crate) fn is_duplicate_in_batch(&self) -> bool {
        matches!(self, Self::Refused { code: DUPLICATE_IN_BATCH, .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(code: u32, description: &str) -> PublishError {
        let json = format!(
            r#"{{"error":{{"code":503,"err_code":{code},"description":"{description}"}},"stream":"EVENTS","seq":0}}"#
        );
        parse_json(json.as_bytes()).map(|_| ()).unwrap_err()
    }

    #[test]
    fn an_acknowledgement_says_where_the_event_is() {
        let stored = parse_json(br#"{"stream":"EVENTS","seq":7}"#).unwrap();
        assert_eq!((stored.seq, stored.duplicate), (7, false));
        let again = parse_json(br#"{"stream":"EVENTS","seq":7,"duplicate":true}"#).unwrap();
        assert!(again.duplicate);
    }

    #[test]
    fn the_places_of_a_batchs_members_end_at_the_last_and_need_the_right_count() {
        let committed = Committed { last: 9, count: 3 };
        let sequences =
            |members| Some(committed.members(members)?.map(|stored| stored.sequence).collect::<Vec<_>>());
        assert_eq!(sequences(3), Some(vec![7, 8, 9]));
        assert_eq!(sequences(2), None);
        assert!(Committed { last: 1, count: 3 }.members(3).is_none());
    }

    #[test]
    fn only_a_store_at_its_limit_is_full_and_a_failing_disk_leaves_the_outcome_open() {
        assert_eq!(
            error(10077, "maximum bytes exceeded"),
            PublishError::Full("maximum bytes exceeded".into())
        );
        assert_eq!(error(10077, "maximum bytes exceeded").outcome(), Outcome::NotStored);
        assert_eq!(error(10077, "write error").outcome(), Outcome::Unknown);
        assert_eq!(error(10009, "not leader").outcome(), Outcome::NotStored);
    }

    #[test]
    fn a_dead_letter_that_is_being_stored_is_not_there_yet() {
        let under_way = error(10164, "wrong last sequence");
        assert!(!under_way.is_already_there());
        assert!(under_way.is_under_way());
    }

    #[test]
    fn a_dead_letter_that_is_there_already_is_recognised() {
        assert!(error(10071, "wrong last sequence: 1").is_already_there());
        assert!(error(10071, "wrong last sequence: 10").is_already_there());
        assert!(!error(10071, "wrong last sequence: 0").is_already_there(), "the store could not be read");
        assert!(!error(10077, "maximum bytes exceeded").is_already_there());
    }
}
