//! Asking: a question to each service that answers it, and the wait for them.

use std::sync::Arc;
use std::time::Duration;

use async_nats::{HeaderMap, Subject};
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use http::HeaderValue;
use murmur_mesh::config::SidecarConfig;
use murmur_mesh::duration;
use murmur_mesh::event::Event;
use murmur_mesh::name::{EventType, ServiceName};
use murmur_mesh::query::{LARGEST_GATHERED, TIMEOUT_HEADER};
use murmur_mesh::{subject, wire};
use tokio::sync::{OnceCell, watch};
use tokio::time::{Instant, timeout, timeout_at};
use uuid::Uuid;

use super::gathered::{self, Gathered};
use super::part::{Outcome, Part, Reply, read};
use crate::bus::Bus;
use crate::bus::replies::Replies;
use crate::publish::{Admitted, TRACE_HEADERS};

/// So many replicas of a service are asked, if those before have not seen the question.
const MOST_REPLICAS: usize = 3;

/// Asks.
pub(crate) struct Asks {
    bus: Bus,
    service: ServiceName,
    configuration: watch::Receiver<Arc<SidecarConfig>>,
    /// How long a question waits for a connection that has just been lost.
    grace: Duration,
    /// Where the answers arrive, from the first question on.
    replies: OnceCell<Arc<Replies>>,
}

/// Why a query has no result.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AskError {
    /// Not in the configuration.
    #[error("{service} does not ask {query}: add it to spec.asks of the Microservice")]
    NotAllowed { service: ServiceName, query: EventType },
    /// More answers are wanted than there can be.
    #[error("murmur-quorum must be a number from 1 to {expected}, as many services as answer {query}")]
    Quorum { query: EventType, expected: usize },
    /// There is no connection.
    #[error("there is no connection to the bus: nobody was asked")]
    Away,
    /// The connection was lost before anybody answered.
    #[error("the connection to the bus was lost before anybody answered")]
    Lost,
    /// Nobody answered.
    #[error("nobody answered {query} within {timeout:?}{}", listed(results))]
    Nobody { query: EventType, timeout: Duration, results: Vec<(ServiceName, &'static str)> },
}

fn listed(results: &[(ServiceName, &'static str)]) -> String {
    if results.is_empty() {
        return ": no service of this mesh answers it".to_owned();
    }
    let each: Vec<_> = results.iter().map(|(service, outcome)| format!("{service} {outcome}")).collect();
    format!(": {}", each.join(", "))
}

/// A result and what it counts as.
pub(crate) struct Result {
    /// JSON.
    pub(crate) json: Vec<u8>,
    /// Whether all services answered.
    pub(crate) complete: bool,
}

impl Asks {
    /// For this service.
    pub(crate) fn new(bus: Bus, configuration: watch::Receiver<Arc<SidecarConfig>>, grace: Duration) -> Self {
        let service = configuration.borrow().service.clone();
        Self { bus, service, configuration, grace, replies: OnceCell::new() }
    }

    /// The services that answer a query, if this one may ask it.
    pub(crate) fn expected(&self, query: &EventType) -> std::result::Result<Vec<ServiceName>, AskError> {
        let configuration = self.configuration.borrow();
        match configuration.asks.iter().find(|ask| ask.query == *query) {
            Some(ask) => Ok(ask.services.clone()),
            None => Err(AskError::NotAllowed { service: self.service.clone(), query: query.clone() }),
        }
    }

    /// Asks these services and waits: for all, or for so many answers, or until the time is up.
    pub(crate) async fn ask(
        &self,
        query: Event,
        trace: [Option<HeaderValue>; 2],
        services: Vec<ServiceName>,
        quorum: Option<usize>,
        longest: Duration,
        mut room: Admitted,
    ) -> std::result::Result<Result, AskError> {
        let deadline = Instant::now() + longest;
        let replies = self.replies().await?;
        let question = Question { bus: &self.bus, replies, query: &query, trace, deadline };
        let mut waiting: FuturesUnordered<_> = services
            .iter()
            .enumerate()
            .map(|(index, service)| {
                let question = &question;
                async move { (index, question.put(service).await) }
            })
            .collect();
        let mut outcomes = vec![Outcome::NotAwaited; services.len()];
        let (mut answered, mut bytes) = (0, 0);
        while quorum.is_none_or(|quorum| answered < quorum) {
            let Some((index, outcome)) = waiting.next().await else { break };
            let outcome = bounded(outcome, &mut bytes, &mut room);
            answered += usize::from(outcome.is_answered());
            outcomes[index] = outcome;
        }
        drop(waiting);
        let parts = services.into_iter().zip(outcomes);
        let parts: Vec<_> = parts.map(|(service, outcome)| Part { service, outcome }).collect();
        if !parts.iter().any(|part| matches!(part.outcome, Outcome::Spoke(_))) {
            return Err(self.nobody(&parts, query.event_type(), longest));
        }
        let complete = parts.iter().all(|part| part.outcome.is_answered());
        // Strings, numbers and JSON always have a JSON form.
        Ok(Result { json: serde_json::to_vec(&Gathered::of(&parts)).unwrap_or_default(), complete })
    }

    fn nobody(&self, parts: &[Part], query: &EventType, timeout: Duration) -> AskError {
        if !parts.is_empty() && !self.bus.link().connected {
            return AskError::Lost;
        }
        let results = parts.iter().map(|part| (part.service.clone(), gathered::name(&part.outcome)));
        AskError::Nobody { query: query.clone(), timeout, results: results.collect() }
    }

    /// Where answers arrive; waits a moment for a connection that has just been lost.
    async fn replies(&self) -> std::result::Result<&Arc<Replies>, AskError> {
        let mut link = self.bus.watch();
        let now = *link.borrow();
        if !now.connected {
            let wait = self.grace.saturating_sub(now.since.elapsed());
            match timeout(wait, link.wait_for(|link| link.connected)).await {
                Ok(Ok(_)) => {}
                Ok(Err(_)) | Err(_) => return Err(AskError::Away),
            }
        }
        self.replies.get_or_try_init(|| self.hear()).await
    }

    /// Starts hearing answers: on subjects of this service, each of which only those know who were asked there.
    async fn hear(&self) -> std::result::Result<Arc<Replies>, AskError> {
        let prefix = format!("{}.{}", subject::answers(&self.service), Uuid::new_v4().simple());
        let subscriber = self.bus.client().subscribe(format!("{prefix}.*")).await.map_err(|error| {
            tracing::error!(%error, "cannot hear the answers to queries");
            AskError::Away
        })?;
        let replies = Arc::new(Replies::default());
        replies.start(prefix, subscriber);
        tokio::spawn(forget(self.bus.watch(), replies.clone()));
        Ok(replies)
    }
}

/// Ends all waits whenever the connection is lost, and the answers with it.
async fn forget(mut link: watch::Receiver<crate::bus::connection::Link>, replies: Arc<Replies>) {
    let mut connects = link.borrow().connects;
    while link.changed().await.is_ok() {
        let now = *link.borrow_and_update();
        if !now.connected || now.connects != connects {
            connects = now.connects;
            replies.forget();
        }
    }
}

/// Too large an answer is a failure: the service gets no more than it can take.
fn bounded(outcome: Outcome, bytes: &mut usize, room: &mut Admitted) -> Outcome {
    let Outcome::Spoke(spoken) = &outcome else { return outcome };
    *bytes += spoken.data.len();
    if *bytes > LARGEST_GATHERED {
        return Outcome::Failed(format!("with it, the answers have more than {LARGEST_GATHERED} bytes"));
    }
    // As JSON, in base64 where it is none, it is there once more.
    if !room.grow(spoken.data.len() + spoken.data.len().div_ceil(3) * 4) {
        return Outcome::Failed(
            "the sidecar of the asking service has no room for its answer now".to_owned(),
        );
    }
    outcome
}

/// One query on its way.
struct Question<'a> {
    bus: &'a Bus,
    replies: &'a Replies,
    query: &'a Event,
    /// The values of [`TRACE_HEADERS`].
    trace: [Option<HeaderValue>; 2],
    deadline: Instant,
}

impl Question<'_> {
    /// Puts it to a service.
    async fn put(&self, service: &ServiceName) -> Outcome {
        timeout_at(self.deadline, self.answer(service)).await.unwrap_or(Outcome::TimedOut)
    }

    async fn answer(&self, service: &ServiceName) -> Outcome {
        let subject = Subject::from(subject::query(service, self.query.event_type()));
        let mut last = Outcome::Absent;
        for _ in 0..MOST_REPLICAS {
            let mut ticket = self.replies.wait();
            let payload: Bytes = self.query.data().clone();
            let asked = self.bus.ask(subject.clone(), ticket.subject(), self.headers(), payload).await;
            if let Err(error) = asked {
                return Outcome::Failed(format!("the query cannot be sent: {error}"));
            }
            let Some(message) = ticket.answer().await else {
                return Outcome::Failed(
                    "the connection to the bus was lost before the answer came".to_owned(),
                );
            };
            match read(message) {
                Reply::Final(outcome) => return outcome,
                Reply::Unseen(outcome) => last = outcome,
            }
        }
        last
    }

    fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in wire::headers(self.query) {
            headers.insert(name.as_ref(), value.as_ref());
        }
        for (name, value) in TRACE_HEADERS.iter().zip(&self.trace) {
            if let Some(value) = value.as_ref().and_then(|value| value.to_str().ok()) {
                headers.insert(*name, value);
            }
        }
        let left = self.deadline.saturating_duration_since(Instant::now());
        headers.insert(TIMEOUT_HEADER, duration::write(left));
        headers
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::metrics::gauge::Gauge;

    use super::super::part::Spoken;
    use super::*;
    use crate::publish::InFlight;

    fn spoke(bytes: usize) -> Outcome {
        Outcome::Spoke(Spoken { status: 200, content_type: None, data: Bytes::from(vec![0; bytes]) })
    }

    #[test]
    fn answers_are_bounded_together_and_by_the_room_that_there_is() {
        let in_flight = InFlight::new(1, LARGEST_GATHERED * 3, Gauge::default());
        let mut room = in_flight.admit(5).unwrap();
        let mut bytes = 0;
        assert_eq!(bounded(spoke(LARGEST_GATHERED), &mut bytes, &mut room), spoke(LARGEST_GATHERED));
        assert!(matches!(bounded(spoke(1), &mut bytes, &mut room), Outcome::Failed(_)));
        let mut bytes = 0;
        assert!(
            matches!(bounded(spoke(LARGEST_GATHERED), &mut bytes, &mut room), Outcome::Failed(_)),
            "no room"
        );
        assert_eq!(bounded(Outcome::Absent, &mut bytes, &mut room), Outcome::Absent);
    }
}
