//! Batch content mode: a JSON array of events, stored all at once or not at all.

use std::collections::HashSet;

use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue};
use hyper::body::Incoming;
use murmur_mesh::event::{Draft, Event, structured};
use serde::Serialize;
use tokio::time::Instant;

use super::failure::Failure;
use super::{Answer, Filled, json};
use crate::http::Response;
use crate::http::local::Local;
use crate::publish::{LARGEST_BATCH, OVERHEAD, Outgoing, Stored, Whole};
use crate::trace::{self, Context, Kind, Span};

/// The largest body of a batch.
const LARGEST_BODY: usize = 8 << 20;

#[derive(Serialize)]
struct Results<'a> {
    results: Vec<Answer<'a>>,
}

impl Local {
    /// Publishes the batch in the request.
    pub(super) async fn publish_batch(&self, parts: &Parts, incoming: Incoming) -> Response {
        match self.publish_each(parts, incoming).await {
            Ok((events, places)) => {
                let results = events.iter().zip(places).map(|(outgoing, stored)| {
                    self.count_stored(stored);
                    Answer::new(outgoing, stored)
                });
                json(&Results { results: results.collect() })
            }
            Err(failure) => self.count_failure(failure),
        }
    }

    async fn publish_each(
        &self,
        parts: &Parts,
        incoming: Incoming,
    ) -> Result<(Vec<Outgoing>, Vec<Stored>), Failure> {
        let (body, mut room) = self.take_in(parts, incoming, LARGEST_BODY).await?;
        let drafts = structured::read_batch(&body, LARGEST_BATCH)?;
        let count = drafts.len();
        if !room.grow(count * OVERHEAD) {
            return Err(Failure::too_much(&parts.headers));
        }
        let events = self.members(drafts)?;
        if events.is_empty() {
            return Ok((Vec::new(), Vec::new()));
        }
        let mut headers = parts.headers.clone();
        let mut span = self.batch_span(&events, &mut headers);
        let outgoing = |event: Event| {
            let own = own_trace(&event);
            let trace = own.as_ref().unwrap_or(&headers);
            Outgoing::new(event, &self.service, &self.message_id_key, trace, None)
        };
        let events: Vec<_> = events.into_iter().map(outgoing).collect();
        let started = Instant::now();
        let result = self.publisher.publish_all(&events).await;
        self.metrics.publishes.seconds.observe(started.elapsed().as_secs_f64());
        match result {
            Ok(Whole::Stored(places)) => Ok((events, places)),
            Ok(Whole::Partly(places)) => {
                span.fails("a part of it was stored before");
                Err(Failure::partly(&events, &places))
            }
            Err(error) => {
                span.fails(&error);
                Err(Failure::of_all(&error, &events))
            }
        }
    }

    /// The events, each of which may be published.
    fn members(&self, drafts: Vec<Draft>) -> Result<Vec<Event>, Failure> {
        let count = drafts.len();
        let mut events = Vec::with_capacity(count);
        for (index, draft) in drafts.into_iter().enumerate() {
            let of_member = |failure: Failure| failure.of_member(index, count);
            let event = draft.complete(&Filled(&self.source)).map_err(|error| of_member(error.into()))?;
            self.check_member(&event).map_err(of_member)?;
            events.push(event);
        }
        let mut ids = HashSet::with_capacity(count);
        match events.iter().position(|event| !ids.insert((event.source(), event.id()))) {
            None => Ok(events),
            Some(index) => {
                let failure = Failure::malformed("another one before it has the same id and source");
                Err(failure.of_member(index, count))
            }
        }
    }

    /// The span of a batch, within the trace of the request: linked to the traces
    /// that events bring themselves, gone with those that bring none.
    fn batch_span(&self, events: &[Event], headers: &mut HeaderMap) -> Span {
        let links = events.iter().filter_map(own_context).collect();
        let name = || trace::name_of_batch("publish", events.iter().map(|event| event.event_type().as_str()));
        let parent = Context::extract(headers);
        let mut span = self.tracer.start_batch(parent, links, Kind::Producer, name);
        span.batch(events.len());
        self.tracer.keep(&span, parent, headers);
        span
    }

    fn check_member(&self, event: &Event) -> Result<(), Failure> {
        let largest = self.largest_body();
        if event.data().len() > largest {
            return Err(Failure::too_large(largest));
        }
        Ok(self.door.borrow().check(event)?)
    }
}

/// The trace that an event brings itself (CloudEvents' Distributed Tracing extension).
fn own_context(event: &Event) -> Option<Context> {
    Context::parse(event.attribute(trace::PARENT)?)
}

/// Its trace, as headers of a request.
fn own_trace(event: &Event) -> Option<HeaderMap> {
    let mut headers = HeaderMap::new();
    headers.insert(trace::PARENT, own_context(event)?.header());
    let state = event.attribute(trace::STATE).and_then(|state| HeaderValue::from_str(state).ok());
    headers.extend(state.map(|state| (HeaderName::from_static(trace::STATE), state)));
    Some(headers)
}
