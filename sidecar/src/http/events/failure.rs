//! A publish that failed: what is answered, and how it is counted.

use http::HeaderMap;
use murmur_mesh::event::structured::InvalidBatch;
use murmur_mesh::event::{Event, InvalidEvent};

use crate::http::problem::{Code, FailedEvent, Problem};
use crate::metrics::Published;
use crate::publish::{LARGEST_BATCH, Outcome, Outgoing, PublishError, Refused, Stored};

/// What is answered, and how it is counted.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) counted: Published,
    /// How many events it is about.
    pub(super) events: u64,
    pub(super) problem: Box<Problem>,
}

impl Failure {
    pub(super) fn new(counted: Published, problem: Problem) -> Self {
        Self { counted, events: 1, problem: Box::new(problem) }
    }

    pub(super) fn malformed(detail: impl Into<String>) -> Self {
        Self::new(Published::Malformed, Problem::new(Code::Malformed, detail))
    }

    pub(super) fn too_large(largest: usize) -> Self {
        let detail =
            format!("the body may have {largest} bytes: keep large data elsewhere and send a link to it");
        Self::new(Published::TooLarge, Problem::new(Code::TooLarge, detail))
    }

    /// Refused before the body was read: all that is known of the event is in its headers.
    pub(super) fn too_much(headers: &HeaderMap) -> Self {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let event = FailedEvent {
            id: text("ce-id"),
            source: text("ce-source"),
            outcome: Some(Outcome::NotStored),
            sequence: None,
        };
        let detail =
            "more events are under way than the sidecar takes at once: send the event again, more slowly";
        let problem = Problem::new(Code::TooMuchInFlight, detail).about(event).retry_after(1);
        Self::new(Published::TooMuch, problem)
    }

    /// One event of a batch was refused, so all are.
    pub(super) fn of_member(self, index: usize, events: usize) -> Self {
        let problem = self.problem.preceded_by(&format!("event {index} of the batch (from 0): "));
        Self { events: events as u64, ..Self::new(self.counted, problem) }
    }

    /// The bus did not store an event.
    pub(super) fn of_one(error: &PublishError, event: &Event) -> Self {
        let (counted, problem) = told(error);
        Self::new(counted, problem.about(failed(event, error.outcome())))
    }

    /// The bus did not store a batch.
    pub(super) fn of_all(error: &PublishError, events: &[Outgoing]) -> Self {
        let (counted, problem) = told(error);
        let outcome = error.outcome();
        let whole = FailedEvent { outcome: Some(outcome), ..FailedEvent::default() };
        let each = events.iter().map(|outgoing| failed(outgoing.event(), outcome));
        Self { events: events.len() as u64, ..Self::new(counted, problem.about(whole).about_each(each)) }
    }

    /// A part of a batch was stored before.
    pub(super) fn partly(events: &[Outgoing], places: &[Option<Stored>]) -> Self {
        let stored = places.iter().flatten().count();
        let detail = format!(
            "{stored} of the {} events were stored before, so the others were not: \
             send those in a batch of their own",
            events.len()
        );
        let each = events.iter().zip(places).map(|(outgoing, place)| {
            let outcome = if place.is_some() { Outcome::Stored } else { Outcome::NotStored };
            FailedEvent { sequence: place.map(|stored| stored.sequence), ..failed(outgoing.event(), outcome) }
        });
        let problem = Problem::new(Code::PartlyStored, detail).about_each(each);
        Self { events: events.len() as u64, ..Self::new(Published::Partly, problem) }
    }
}

impl From<InvalidEvent> for Failure {
    fn from(error: InvalidEvent) -> Self {
        Self::malformed(error.to_string())
    }
}

impl From<InvalidBatch> for Failure {
    fn from(error: InvalidBatch) -> Self {
        match error {
            InvalidBatch::TooMany(_) => Self {
                events: LARGEST_BATCH as u64,
                ..Self::new(Published::TooLarge, Problem::new(Code::TooLarge, error.to_string()))
            },
            InvalidBatch::Json(_) | InvalidBatch::Event { .. } => Self::malformed(error.to_string()),
        }
    }
}

impl From<Refused> for Failure {
    fn from(error: Refused) -> Self {
        let (counted, code) = match error {
            Refused::Type(_) => (Published::Forbidden, Code::TypeNotPublished),
            Refused::NotJson(..) | Refused::Schema(..) => (Published::Schema, Code::SchemaViolated),
            Refused::InvalidSchema(..) => (Published::Schema, Code::SchemaInvalid),
        };
        Self::new(counted, Problem::new(code, error.to_string()))
    }
}

fn failed(event: &Event, outcome: Outcome) -> FailedEvent {
    FailedEvent {
        id: Some(event.id().to_owned()),
        source: Some(event.source().to_owned()),
        outcome: Some(outcome),
        sequence: None,
    }
}

/// How a failure of the bus is counted and told.
fn told(error: &PublishError) -> (Published, Problem) {
    let (counted, code, retry_after) = match error {
        PublishError::Away | PublishError::NoStore => (Published::BusAway, Code::BusAway, Some(1)),
        PublishError::Lost => (Published::Unknown, Code::BusAway, Some(1)),
        PublishError::TimedOut => (Published::Unknown, Code::NoAnswer, None),
        PublishError::Full(_) => (Published::StoreFull, Code::StoreFull, None),
        PublishError::TooLarge => (Published::TooLarge, Code::TooLarge, None),
        PublishError::Refused { .. } | PublishError::Unreadable(_) => {
            (Published::Refused, Code::BusRefused, Some(1))
        }
    };
    let advice = match (code, error.outcome()) {
        (Code::TooLarge, _) => "keep large data elsewhere and send a link to it",
        (Code::StoreFull, _) => {
            "it takes events again once its limit is raised (spec.eventStore of the Mesh)"
        }
        (_, Outcome::Unknown) => {
            "it may have been stored: send it again with the same id and source within the duplicate window"
        }
        (_, Outcome::NotStored | Outcome::Stored) => "it was not stored: send it again",
    };
    let problem = Problem::new(code, format!("{error}; {advice}"));
    let problem = match retry_after {
        Some(seconds) => problem.retry_after(seconds),
        None => problem,
    };
    (counted, problem)
}
