//! What one service made of a query. Pure.

use async_nats::{HeaderMap, HeaderValue, Message, StatusCode};
use bytes::Bytes;
use murmur_mesh::name::ServiceName;
use murmur_mesh::query::{CONTENT_TYPE_HEADER, STATUS_HEADER, UNANSWERED_HEADER, Unanswered};

/// One service's part of the result.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) service: ServiceName,
    pub(super) outcome: Outcome,
}

/// What became of the question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The service answered, with whatever status.
    Spoke(Spoken),
    /// It did not, although somebody was there; why.
    Failed(String),
    /// Nobody was there.
    Absent,
    /// The time was up.
    TimedOut,
    /// Enough others had answered.
    NotAwaited,
}

/// A service's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Spoken {
    pub(super) status: u16,
    pub(super) content_type: Option<String>,
    pub(super) data: Bytes,
}

/// What comes back for one question.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Reply {
    /// That is it.
    Final(Outcome),
    /// This replica has not seen the question: another may be asked.
    Unseen(Outcome),
}

impl Spoken {
    /// Whether it is an answer to the question, not an error.
    pub(super) fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }
}

impl Outcome {
    /// Whether it counts as an answer.
    pub(super) fn is_answered(&self) -> bool {
        matches!(self, Self::Spoke(spoken) if spoken.is_success())
    }
}

/// Reads what came to the reply subject of a question.
pub(super) fn read(message: Message) -> Reply {
    if message.status == Some(StatusCode::NO_RESPONDERS) {
        return Reply::Final(Outcome::Absent);
    }
    let header =
        |name| message.headers.as_ref().and_then(|headers| headers.get(name)).map(HeaderValue::as_str);
    if let Some(reason) = header(UNANSWERED_HEADER) {
        let detail = String::from_utf8_lossy(&message.payload).into_owned();
        let failed = Outcome::Failed(detail);
        return if Unanswered::parse(reason).was_not_seen() {
            Reply::Unseen(failed)
        } else {
            Reply::Final(failed)
        };
    }
    let status = header(STATUS_HEADER).and_then(|status| status.parse().ok());
    let Some(status) = status.filter(|status| (100..1000).contains(status)) else {
        return Reply::Final(Outcome::Failed("its sidecar's answer has no status".to_owned()));
    };
    let content_type = header(CONTENT_TYPE_HEADER).map(str::to_owned);
    Reply::Final(Outcome::Spoke(Spoken { status, content_type, data: message.payload }))
}

/// The headers of an answer.
pub(super) fn headers(status: u16, content_type: Option<&str>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(STATUS_HEADER, status.to_string());
    if let Some(content_type) = content_type {
        headers.insert(CONTENT_TYPE_HEADER, content_type);
    }
    headers
}

/// The headers of the word that there is none.
pub(super) fn unanswered(reason: Unanswered) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(UNANSWERED_HEADER, reason.as_str());
    headers
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(headers: HeaderMap, payload: &'static str) -> Reply {
        read(Message {
            subject: "answers.history.x.0-1".into(),
            reply: None,
            payload: Bytes::from_static(payload.as_bytes()),
            headers: Some(headers),
            status: None,
            description: None,
            length: 0,
        })
    }

    #[test]
    fn an_answer_is_read_as_it_was_written() {
        let spoken = Spoken {
            status: 404,
            content_type: Some("application/json".to_owned()),
            data: Bytes::from_static(b"{}"),
        };
        assert!(!Outcome::Spoke(spoken.clone()).is_answered());
        let expected = Reply::Final(Outcome::Spoke(spoken));
        assert_eq!(reply(headers(404, Some("application/json")), "{}"), expected);
    }

    #[test]
    fn only_who_has_not_seen_the_question_may_be_asked_again() {
        let failed = || Outcome::Failed("why".to_owned());
        assert_eq!(reply(unanswered(Unanswered::Away), "why"), Reply::Unseen(failed()));
        assert_eq!(reply(unanswered(Unanswered::Broken), "why"), Reply::Final(failed()));
    }

    #[test]
    fn what_is_no_answer_is_a_failure() {
        assert!(matches!(reply(HeaderMap::new(), "x"), Reply::Final(Outcome::Failed(_))));
        assert!(matches!(reply(headers(7, None), "x"), Reply::Final(Outcome::Failed(_))));
    }
}
