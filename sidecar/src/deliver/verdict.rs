//! What the service's answer to an event means. Pure.

use std::time::Duration;

use http::StatusCode;

/// How much of what the service said goes into the cause of a failure, in characters.
const LONGEST_TEXT: usize = 256;

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    /// The service answered.
    Status {
        /// With this status.
        status: StatusCode,
        /// How long it asks to be left alone.
        retry_after: Option<Duration>,
        /// What it said, or the beginning.
        body: Vec<u8>,
        /// Whether that is all of it.
        whole: bool,
    },
    /// Nobody listens.
    Refused(String),
    /// The connection broke before an answer.
    Reset(String),
    /// No answer in time.
    TimedOut(Duration),
    /// What came back is no HTTP.
    Broken(String),
}

/// What is to be done with the event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing more.
    Done,
    /// The service will never take it.
    Rejected(String),
    /// The service is not there; this was no attempt.
    Unavailable {
        /// Why it is thought so.
        cause: String,
        /// How long it asks to be left alone.
        retry_after: Option<Duration>,
    },
    /// It is tried again later.
    Failed(String),
}

/// Judges an answer.
pub(super) fn verdict(answer: Answer) -> Verdict {
    match answer {
        Answer::Status { status, .. } if status.is_success() => Verdict::Done,
        Answer::Status { status, retry_after, body, .. } => {
            let cause = said(status, &readable(&body));
            match status {
                StatusCode::BAD_REQUEST
                | StatusCode::GONE
                | StatusCode::PAYLOAD_TOO_LARGE
                | StatusCode::UNSUPPORTED_MEDIA_TYPE
                | StatusCode::UNPROCESSABLE_ENTITY => Verdict::Rejected(cause),
                StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
                    Verdict::Unavailable { cause, retry_after }
                }
                _ => Verdict::Failed(cause),
            }
        }
        Answer::Refused(cause) | Answer::Reset(cause) => Verdict::Unavailable { cause, retry_after: None },
        Answer::TimedOut(after) => Verdict::Failed(format!("the service did not answer within {after:?}")),
        Answer::Broken(cause) => Verdict::Failed(cause),
    }
}

/// The beginning of a body, as one line of text.
fn readable(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(LONGEST_TEXT * 4)]);
    text.trim().chars().take(LONGEST_TEXT).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn said(status: StatusCode, text: &str) -> String {
    if text.is_empty() {
        format!("the service answered {status}")
    } else {
        format!("the service answered {status}: {text}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(status: u16) -> Verdict {
        let status = StatusCode::from_u16(status).unwrap();
        verdict(Answer::Status { status, retry_after: None, body: Vec::new(), whole: true })
    }

    #[test]
    fn two_hundreds_are_done() {
        for status in [200, 201, 202, 204, 299] {
            assert_eq!(judged(status), Verdict::Done, "{status}");
        }
    }

    #[test]
    fn an_event_that_the_service_cannot_use_is_rejected() {
        for status in [400, 410, 413, 415, 422] {
            assert!(matches!(judged(status), Verdict::Rejected(_)), "{status}");
        }
    }

    #[test]
    fn a_service_that_is_not_there_costs_no_attempt() {
        for status in [425, 429, 503] {
            assert!(matches!(judged(status), Verdict::Unavailable { .. }), "{status}");
        }
        assert!(matches!(verdict(Answer::Refused(String::new())), Verdict::Unavailable { .. }));
        assert!(matches!(verdict(Answer::Reset(String::new())), Verdict::Unavailable { .. }));
    }

    #[test]
    fn everything_else_is_tried_again() {
        for status in [300, 301, 302, 307, 401, 403, 404, 405, 408, 409, 418, 500, 501, 502, 504, 507] {
            assert!(matches!(judged(status), Verdict::Failed(_)), "{status}");
        }
        assert!(matches!(verdict(Answer::TimedOut(Duration::from_secs(1))), Verdict::Failed(_)));
        assert!(matches!(verdict(Answer::Broken(String::new())), Verdict::Failed(_)));
    }

    #[test]
    fn a_cause_is_one_short_line() {
        assert_eq!(readable(b" no\nid \xff"), "no id \u{fffd}");
        assert_eq!(readable("€".repeat(1000).as_bytes()).chars().count(), LONGEST_TEXT);
    }

    #[test]
    fn the_cause_names_the_status_and_what_the_service_said() {
        let answer = Answer::Status {
            status: StatusCode::BAD_REQUEST,
            retry_after: None,
            body: b"no id".to_vec(),
            whole: true,
        };
        assert_eq!(verdict(answer), Verdict::Rejected("the service answered 400 Bad Request: no id".into()));
    }
}
