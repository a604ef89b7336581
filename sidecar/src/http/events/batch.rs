//! Batch content mode: a JSON array of events, stored all at once or not at all.

use std::collections::HashSet;

use http::request::Parts;
use hyper::body::Incoming;
use murmur_mesh::event::{Event, structured};
use serde::Serialize;
use tokio::time::Instant;

use super::failure::Failure;
use super::{Answer, Filled, json};
use crate::http::Response;
use crate::http::local::Local;
use crate::publish::{LARGEST_BATCH, OVERHEAD, Outgoing, Stored, Whole};

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
        let mut events = Vec::with_capacity(count);
        for (index, draft) in drafts.into_iter().enumerate() {
            let of_member = |failure: Failure| failure.of_member(index, count);
            let event = draft.complete(&Filled(&self.source)).map_err(|error| of_member(error.into()))?;
            self.check_member(&event).map_err(of_member)?;
            events.push(Outgoing::new(event, &self.service, &self.message_id_key, &parts.headers, None));
        }
        let mut ids = HashSet::with_capacity(count);
        if let Some(index) = events.iter().position(|event| !ids.insert(event.message_id())) {
            let failure = Failure::malformed("another one before it has the same id and source");
            return Err(failure.of_member(index, count));
        }
        if events.is_empty() {
            return Ok((events, Vec::new()));
        }
        let started = Instant::now();
        let result = self.publisher.publish_all(&events).await;
        self.metrics.publish_seconds.observe(started.elapsed().as_secs_f64());
        match result {
            Ok(Whole::Stored(places)) => Ok((events, places)),
            Ok(Whole::Partly(places)) => Err(Failure::partly(&events, &places)),
            Err(error) => Err(Failure::of_all(&error, &events)),
        }
    }

    fn check_member(&self, event: &Event) -> Result<(), Failure> {
        let largest = self.largest_body();
        if event.data().len() > largest {
            return Err(Failure::too_large(largest));
        }
        Ok(self.door.borrow().check(event)?)
    }
}
