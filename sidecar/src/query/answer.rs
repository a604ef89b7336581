//! Answering: what other services ask is posted to the service, and its answers
//! are brought back.
//!
//! A pod takes queries only while its service listens: one that is starting, or
//! gone, leaves them to the other replicas, and with none left whoever asks
//! knows at once that nobody is there.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use async_nats::{Message, Subscriber};
use bytes::Bytes;
use futures::{FutureExt, StreamExt};
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderName, HeaderValue};
use http::{HeaderMap, Method, Request};
use http_body_util::Full;
use murmur_mesh::config::{Answer, SidecarConfig};
use murmur_mesh::name::ServiceName;
use murmur_mesh::query::{LARGEST_ANSWER, LONGEST_TIMEOUT, TIMEOUT_HEADER, Unanswered};
use murmur_mesh::{duration, subject};
use tokio::net::TcpStream;
use tokio::sync::{Notify, Semaphore, watch};
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::sync::CancellationToken;

use super::part;
use crate::bus::Bus;
use crate::connections::{Connections, Failure, exchange};
use crate::deliver::own_headers;
use crate::drain::Drain;
use crate::http::body::{self, BodyError};
use crate::http::timeout;
use crate::limits::Limits;
use crate::metrics::{Answered, QueryMetrics};
use crate::publish::{Admitted, InFlight};
use crate::trace::{Context, Kind, Tracer};

/// How often a service that does not listen is looked at.
const LOOK: Duration = Duration::from_millis(250);
/// The longest that the end waits for queries that are still coming.
const END: Duration = Duration::from_secs(1);
/// How long an answer is waited for when the query does not say.
const USUAL_TIMEOUT: Duration = Duration::from_secs(5);

/// Takes the queries that the configuration says, whatever it becomes.
pub(crate) struct Answers {
    configuration: watch::Receiver<Arc<SidecarConfig>>,
    drain: Drain,
    shared: Arc<Shared>,
}

/// What all queries share.
struct Shared {
    bus: Bus,
    service: ServiceName,
    authorization: HeaderValue,
    connections: Connections<Full<Bytes>>,
    /// Queries that wait for the service or are with it.
    in_flight: Arc<InFlight>,
    /// Those that are with it.
    concurrency: Semaphore,
    metrics: QueryMetrics,
    tracer: Tracer,
}

impl Answers {
    /// For this service.
    pub(crate) fn new(
        bus: Bus,
        configuration: watch::Receiver<Arc<SidecarConfig>>,
        authorization: HeaderValue,
        drain: Drain,
        limits: &Limits,
        metrics: QueryMetrics,
        tracer: Tracer,
    ) -> Self {
        let service = configuration.borrow().service.clone();
        let shared = Shared {
            bus,
            service,
            authorization,
            connections: Connections::default(),
            in_flight: InFlight::new(limits.answers_waiting, limits.answer_bytes, metrics.answering.clone()),
            concurrency: Semaphore::new(limits.answers),
            metrics,
            tracer,
        };
        Self { configuration, drain, shared: Arc::new(shared) }
    }

    /// Runs until the drain: then other replicas take the queries.
    pub(crate) async fn run(mut self) {
        let mut running: Vec<(Answer, CancellationToken)> = Vec::new();
        let drain = self.drain.clone();
        loop {
            let config = self.configuration.borrow_and_update().clone();
            running.retain(|(answer, stop)| {
                let stays = config.answers.contains(answer);
                if !stays {
                    stop.cancel();
                }
                stays
            });
            for answer in &config.answers {
                if !running.iter().any(|(other, _)| other == answer) {
                    let stop = CancellationToken::new();
                    tokio::spawn(take(self.shared.clone(), answer.clone(), stop.clone()));
                    running.push((answer.clone(), stop));
                }
            }
            tokio::select! {
                changed = self.configuration.changed() => if changed.is_err() { break },
                () = drain.started() => break,
            }
        }
        running.iter().for_each(|(_, stop)| stop.cancel());
    }
}

/// Takes the queries of one type, while the service listens.
async fn take(shared: Arc<Shared>, answer: Answer, stop: CancellationToken) {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, answer.port));
    let place = Arc::new(Place { shared, answer, address, away: Notify::new() });
    loop {
        tokio::select! {
            () = listens(address) => {}
            () = stop.cancelled() => return,
        }
        let service = &place.shared.service;
        let subject = subject::query(service, &place.answer.query);
        let client = place.shared.bus.client();
        let mut queries = match client.queue_subscribe(subject, service.to_string()).await {
            Ok(queries) => queries,
            Err(error) => return tracing::error!(query = %place.answer.query, %error, "cannot take queries"),
        };
        tracing::debug!(query = %place.answer.query, "takes queries");
        loop {
            tokio::select! {
                query = queries.next() => match query {
                    Some(query) => place.admit(query),
                    // The client is gone.
                    None => return,
                },
                () = place.away.notified() => break,
                () = stop.cancelled() => break,
            }
        }
        finish(&place, queries).await;
        if stop.is_cancelled() {
            return;
        }
        tracing::info!(query = %place.answer.query, "takes no queries until the service listens again");
    }
}

/// Takes what is already on its way.
async fn finish(place: &Arc<Place>, mut queries: Subscriber) {
    let end = Instant::now() + END;
    let _ = timeout_at(end, queries.drain()).await;
    while let Ok(Some(query)) = timeout_at(end, queries.next()).await {
        place.admit(query);
    }
}

/// Waits until somebody listens there.
async fn listens(address: SocketAddr) {
    while TcpStream::connect(address).await.is_err() {
        sleep(LOOK).await;
    }
}

/// Where the queries of one type go.
struct Place {
    shared: Arc<Shared>,
    answer: Answer,
    address: SocketAddr,
    /// Told when nobody listens there.
    away: Notify,
}

/// What is said back.
enum Word {
    Spoken { status: u16, content_type: Option<String>, data: Bytes },
    Unanswered(Unanswered, String),
}

impl Place {
    /// Takes a query in, if there is room; it is answered beside the rest.
    fn admit(self: &Arc<Self>, query: Message) {
        let Some(reply) = query.reply.clone().filter(|reply| subject::is_for_answers(reply)) else {
            self.shared.metrics.answered(&self.answer.query, Answered::Refused);
            return tracing::warn!(query = %self.answer.query, "a query that wants its answer elsewhere is not answered");
        };
        let left = query.headers.as_ref().and_then(|headers| headers.get(TIMEOUT_HEADER));
        let left = left.and_then(|left| duration::parse(left.as_str())).unwrap_or(USUAL_TIMEOUT);
        let deadline = Instant::now() + left.min(LONGEST_TIMEOUT);
        let (place, room) = (self.clone(), self.shared.in_flight.admit(query.payload.len()));
        let Some(room) = room else {
            self.shared.metrics.answered(&self.answer.query, Answered::TooMany);
            // Where even this word finds no room, the time that is left says it.
            let word = Word::Unanswered(Unanswered::Busy, "too many queries wait for it".to_owned());
            let _ = self.say(reply, word).now_or_never();
            return;
        };
        tokio::spawn(async move {
            let started = Instant::now();
            let outcome = match timeout_at(deadline, place.ask(&query, deadline, room)).await {
                Ok(word) => {
                    let outcome = counted(&word);
                    place.say(reply, word).await;
                    outcome
                }
                // Whoever asked waits no longer.
                Err(_) => Answered::TimedOut,
            };
            let metrics = &place.shared.metrics;
            metrics.answered(&place.answer.query, outcome);
            metrics.answer_seconds.observe(started.elapsed().as_secs_f64());
        });
    }

    /// Asks the service.
    async fn ask(&self, query: &Message, deadline: Instant, mut room: Admitted) -> Word {
        let Ok(_turn) = self.shared.concurrency.acquire().await else {
            return Word::Unanswered(Unanswered::Busy, "its sidecar is ending".to_owned());
        };
        let mut headers = match http_headers(query) {
            Ok(headers) => headers,
            Err(cause) => {
                return Word::Unanswered(Unanswered::Broken, format!("the query is malformed: {cause}"));
            }
        };
        let parent = Context::extract(&headers);
        let span = self.shared.tracer.start(parent, Kind::Server, || format!("answer {}", self.answer.query));
        span.inject(&mut headers);
        let connections = &self.shared.connections;
        let mut tries = 0;
        let (response, connection) = loop {
            tries += 1;
            let request = self.request(headers.clone(), query.payload.clone(), deadline);
            match exchange(connections, self.address, request).await {
                Ok(answered) => break answered,
                Err(Failure::Refused(_, cause)) => {
                    self.away.notify_one();
                    return Word::Unanswered(Unanswered::Away, cause);
                }
                // The service may have closed it for being idle just now.
                Err(Failure::Lost { reused: true, .. }) if tries == 1 => {}
                Err(Failure::Lost { cause, .. } | Failure::NotHttp(cause)) => {
                    return Word::Unanswered(Unanswered::Broken, format!("it gave no answer: {cause}"));
                }
            }
        };
        let (parts, incoming) = response.into_parts();
        let largest = LARGEST_ANSWER.min(self.shared.largest_payload());
        let left = deadline.saturating_duration_since(Instant::now());
        match body::collect(incoming, largest, &mut room, left).await {
            Ok(data) => {
                connections.keep(self.address, connection);
                let content_type = parts.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
                Word::Spoken {
                    status: parts.status.as_u16(),
                    content_type: content_type.map(str::to_owned),
                    data,
                }
            }
            Err(BodyError::TooLarge) => {
                Word::Unanswered(Unanswered::TooLarge, format!("its answer has more than {largest} bytes"))
            }
            Err(BodyError::NoRoom) => {
                Word::Unanswered(Unanswered::Broken, "its sidecar has no room for its answer".to_owned())
            }
            Err(BodyError::TimedOut) => {
                Word::Unanswered(Unanswered::Broken, "its answer never ended".to_owned())
            }
            Err(BodyError::Broken(cause)) => {
                Word::Unanswered(Unanswered::Broken, format!("its answer broke off: {cause}"))
            }
        }
    }

    fn request(&self, headers: HeaderMap, payload: Bytes, deadline: Instant) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(payload));
        *request.method_mut() = Method::POST;
        // Checked when the configuration is parsed.
        *request.uri_mut() = self.answer.path.parse().unwrap_or_default();
        *request.headers_mut() = headers;
        let left = duration::write(deadline.saturating_duration_since(Instant::now()));
        let headers = request.headers_mut();
        for (name, value) in [(HOST, self.address.to_string()), (timeout::HEADER, left)] {
            if let Ok(value) = HeaderValue::from_str(&value) {
                headers.insert(name, value);
            }
        }
        headers.insert(AUTHORIZATION, self.shared.authorization.clone());
        request
    }

    async fn say(&self, reply: async_nats::Subject, word: Word) {
        let (headers, payload) = match word {
            Word::Spoken { status, content_type, data } => {
                (part::headers(status, content_type.as_deref()), data)
            }
            Word::Unanswered(reason, detail) => (part::unanswered(reason), Bytes::from(detail)),
        };
        let client = self.shared.bus.client();
        if let Err(error) = client.publish_with_headers(reply, headers, payload).await {
            tracing::warn!(query = %self.answer.query, %error, "an answer could not be sent");
        }
    }
}

impl Shared {
    /// What the bus takes beside an answer's headers.
    fn largest_payload(&self) -> usize {
        self.bus.client().max_payload().saturating_sub(1 << 10)
    }
}

fn counted(word: &Word) -> Answered {
    match word {
        Word::Spoken { status: 200..300, .. } => Answered::Done,
        Word::Spoken { .. } => Answered::Failed,
        Word::Unanswered(Unanswered::Away, _) => Answered::Away,
        Word::Unanswered(Unanswered::Busy, _) => Answered::TooMany,
        Word::Unanswered(Unanswered::TooLarge | Unanswered::Broken, _) => Answered::Broken,
    }
}

/// The query's headers as its service gets them.
fn http_headers(query: &Message) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    for (name, value) in query.headers.iter().flat_map(own_headers) {
        let name = HeaderName::from_bytes(name.as_bytes())
            .map_err(|_| format!("{name:?} is no name of an attribute"))?;
        let value = HeaderValue::from_str(value)
            .map_err(|_| format!("the value of {name} is not encoded as it should be"))?;
        headers.insert(name, value);
    }
    Ok(headers)
}
