//! What the broker was told about the events of one durable, and which durable
//! that is. Pure.
//!
//! After a lost connection nobody knows what the broker still heard, or still
//! knows: a killed one forgets the last acknowledgements. Without them it would
//! deliver those events again, after the ack wait, and the next ones wait for
//! them. So they are told again. But the durable may be another one by then, of
//! another event store under the same name, and its events have the same
//! sequences: it must not take the old one's acknowledgements for its own. So the
//! broker is asked first when its durable was made, and until it answers nothing
//! is acknowledged and nothing is pulled.

use std::collections::VecDeque;
use std::time::Duration;

use async_nats::Subject;
use bytes::Bytes;
use murmur_mesh::durable::ACK_WAIT;
use serde::Deserialize;
use tokio::time::Instant;

/// Words that are kept at most, to be told again.
const MOST: usize = 512;
/// After so long they have been heard, or their events are out again anyway.
const LONGEST: Duration = ACK_WAIT;
/// "consumer not found" and "stream not found" of nats-server 2.15.
const NOT_FOUND: u16 = 404;

/// The end of an event, as the broker is told it: where to, and what.
pub(super) type Word = (Subject, Bytes);

/// What was said, and to whom.
#[derive(Debug, Default)]
pub(super) struct Said {
    /// When the durable was made, as the broker says.
    made: Option<String>,
    unsure: bool,
    words: VecDeque<(Instant, Word)>,
}

/// Whose durable it is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Whose {
    /// The same as before: these words are to be told (again).
    Same(Vec<Word>),
    /// Another one, or none: what is held belongs to one that is gone.
    Another,
    /// The broker does not say.
    Unknown,
}

/// The part of CONSUMER.INFO that matters here.
#[derive(Deserialize)]
struct Info {
    created: Option<String>,
    error: Option<Error>,
}

#[derive(Deserialize)]
struct Error {
    code: u16,
}

impl Said {
    /// The connection is gone, or the durable: nothing is sure.
    pub(super) fn unsure(&mut self) {
        self.unsure = self.made.is_some();
    }

    /// Whether the durable is the one that was pulled from so far.
    pub(super) fn is_sure(&self) -> bool {
        !self.unsure
    }

    /// Whether the broker must be asked.
    pub(super) fn asks(&self) -> bool {
        self.unsure || self.made.is_none()
    }

    /// An event ends. `true`: the broker may be told now.
    pub(super) fn ends(&mut self, word: Word, now: Instant) -> bool {
        let is_old = |(since, _): &(Instant, Word)| *since + LONGEST <= now;
        while self.words.len() >= MOST || self.words.front().is_some_and(is_old) {
            self.words.pop_front();
        }
        self.words.push_back((now, word));
        self.is_sure()
    }

    /// What was said concerns events that may be another's by now.
    pub(super) fn forget(&mut self) {
        self.words.clear();
    }

    /// The broker's answer about the durable.
    pub(super) fn informed(&mut self, answer: &[u8]) -> Whose {
        let Ok(info) = serde_json::from_slice::<Info>(answer) else { return Whose::Unknown };
        match (info.created, &self.made) {
            (Some(created), Some(made)) if created != *made => Whose::Another,
            (Some(created), _) => {
                self.made = Some(created);
                let again =
                    if std::mem::take(&mut self.unsure) { self.words.iter() } else { Default::default() };
                Whose::Same(again.map(|(_, word)| word.clone()).collect())
            }
            (None, Some(_)) if info.error.is_some_and(|error| error.code == NOT_FOUND) => Whose::Another,
            (None, _) => Whose::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: &[u8] = br#"{"created":"2026-11-21T09:00:00Z"}"#;
    const SECOND: &[u8] = br#"{"created":"2026-11-21T10:00:00Z"}"#;
    const NONE: &[u8] = br#"{"error":{"code":404,"err_code":10014}}"#;
    const BUSY: &[u8] = br#"{"error":{"code":503,"err_code":10008}}"#;

    fn word(number: usize) -> Word {
        (format!("reply.{number}").into(), Bytes::from_static(b"+ACK"))
    }

    #[test]
    fn what_the_broker_may_not_have_heard_is_told_again_to_the_same_durable() {
        let now = Instant::now();
        let mut said = Said::default();
        assert!(said.asks() && said.is_sure(), "the first one may be pulled from before it is known");
        assert!(said.ends(word(1), now));
        assert_eq!(said.informed(FIRST), Whose::Same(Vec::new()));
        said.unsure();
        assert!(said.asks() && !said.is_sure());
        assert!(!said.ends(word(2), now), "it waits until the durable is known");
        assert_eq!(said.informed(BUSY), Whose::Unknown);
        assert_eq!(said.informed(FIRST), Whose::Same(vec![word(1), word(2)]));
        assert_eq!(said.informed(FIRST), Whose::Same(Vec::new()), "once");
        assert!(said.is_sure() && !said.asks());
    }

    #[test]
    fn another_durable_of_the_same_name_and_none_at_all_are_noticed() {
        for other in [SECOND, NONE] {
            let mut said = Said::default();
            assert_eq!(said.informed(NONE), Whose::Unknown, "it is not there yet");
            said.informed(FIRST);
            said.unsure();
            assert_eq!(said.informed(other), Whose::Another);
        }
    }

    #[test]
    fn only_so_much_is_kept_and_only_for_so_long() {
        let now = Instant::now();
        let mut said = Said::default();
        said.informed(FIRST);
        for number in 0..MOST + 10 {
            said.ends(word(number), now);
        }
        said.unsure();
        let Whose::Same(words) = said.informed(FIRST) else { panic!("it is the same") };
        assert_eq!((words.len(), &words[0]), (MOST, &word(10)));
        said.ends(word(9999), now + LONGEST);
        said.unsure();
        assert_eq!(said.informed(FIRST), Whose::Same(vec![word(9999)]));
        said.unsure();
        said.forget();
        assert_eq!(said.informed(FIRST), Whose::Same(Vec::new()));
    }
}
