//! A query and its answers on the bus: core NATS, not stored.
//!
//! The query is an event in its [wire form](crate::wire) on
//! [`subject::query`](crate::subject::query), with the time that is left. An
//! answer is what the service said, its status and its media type beside it, or
//! the [reason](Unanswered) why the service said nothing.

use std::time::Duration;

/// How long the answer is waited for, from now on, in Gateway API's form: no
/// moment, since no two clocks agree.
pub const TIMEOUT_HEADER: &str = "murmur-timeout";
/// The HTTP status that the service answered with.
pub const STATUS_HEADER: &str = "murmur-status";
/// The media type of its answer.
pub const CONTENT_TYPE_HEADER: &str = "murmur-content-type";
/// Why there is no answer of the service, instead of its status; the payload says more.
pub const UNANSWERED_HEADER: &str = "murmur-unanswered";
/// The largest answer of one service, in bytes.
pub const LARGEST_ANSWER: usize = 1 << 20;
/// The largest answers of all services together, in bytes.
pub const LARGEST_GATHERED: usize = 8 << 20;
/// The longest that answers are waited for.
pub const LONGEST_TIMEOUT: Duration = Duration::from_secs(300);

/// Why a service that was asked says nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unanswered {
    /// It does not listen: it has not seen the query, another replica may answer.
    Away,
    /// Too many queries wait for it already: it has not seen the query.
    Busy,
    /// Its answer is too large.
    TooLarge,
    /// It broke off, or its answer is not HTTP.
    Broken,
}

impl Unanswered {
    /// All of them.
    const ALL: [Self; 4] = [Self::Away, Self::Busy, Self::TooLarge, Self::Broken];

    /// The value of [`UNANSWERED_HEADER`].
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Away => "away",
            Self::Busy => "busy",
            Self::TooLarge => "tooLarge",
            Self::Broken => "broken",
        }
    }

    /// Reads the value; one from the future counts as [`Self::Broken`].
    pub fn parse(text: &str) -> Self {
        Self::ALL.into_iter().find(|one| one.as_str() == text).unwrap_or(Self::Broken)
    }

    /// Whether another replica of the service may be asked.
    pub fn was_not_seen(self) -> bool {
        matches!(self, Self::Away | Self::Busy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_survives_its_text_and_one_from_the_future_is_no_reason_to_ask_again() {
        for reason in Unanswered::ALL {
            assert_eq!(Unanswered::parse(reason.as_str()), reason);
        }
        assert!(!Unanswered::parse("something new").was_not_seen());
    }
}
