//! From rows to the event store: many as one atomic batch, few one by one. The
//! events of a key go one after the other, whatever happens.
//!
//! Each is sent once: what has no answer is looked for in the event store before
//! it may be sent again.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use futures::future::join_all;
use murmur_mesh::event::Event;

use super::row::{Columns, Row};
use super::{MAY_TAKE, With};
use crate::deliver::fence::Moment;
use crate::publish::{Outcome, Outgoing, PublishError, Stored};
use crate::trace::{self, Context, Kind, Span};

/// A connection that is so new may still bring a newer configuration: what this one forbids waits so long.
const NEWER_CONFIGURATION: Duration = Duration::from_secs(2);
/// From so many rows on a batch is quicker, on the slowest disk as on the fastest.
const TOGETHER: usize = 16;

/// A row that may be published.
struct Ready {
    position: i64,
    outgoing: Outgoing,
    span: Span,
}

/// What became of some rows. Those that are not named are still to be sent.
#[derive(Debug, Default)]
pub(super) struct Sent {
    /// In the event store.
    pub(super) stored: Vec<(i64, Stored)>,
    /// They never will be, and why.
    pub(super) refused: Vec<(i64, String)>,
    /// Why others are not.
    pub(super) failed: Option<PublishError>,
    /// Some of those may be there all the same.
    pub(super) in_doubt: bool,
    /// Some wait for what a newer configuration says of them.
    pub(super) waits: bool,
}

/// The trace that the row or the event itself names.
fn parent(event: &Event, columns: Option<&Columns>) -> Option<Context> {
    let named = columns.and_then(|columns| columns.trace_parent.as_deref());
    named.or_else(|| event.attribute(trace::PARENT)).and_then(Context::parse)
}

/// Why a row is not sent.
enum Not {
    /// It never will be.
    Refused(String),
    /// Perhaps it will be, and the others of its key wait with it.
    Yet(String),
}

impl Sent {
    fn fails(&mut self, error: PublishError) {
        self.in_doubt |= error.outcome() != Outcome::NotStored;
        self.failed.get_or_insert(error);
    }

    fn add(&mut self, other: Self) {
        self.stored.extend(other.stored);
        self.refused.extend(other.refused);
        self.in_doubt |= other.in_doubt;
        self.failed = self.failed.take().or(other.failed);
    }
}

impl With {
    /// How many bytes a row may have: what the bus takes, less what a message needs beside them.
    pub(super) fn largest_row(&self) -> usize {
        self.bus.client().max_payload().saturating_sub(self.headroom).max(1 << 10)
    }

    /// Publishes rows that were read at this moment.
    pub(super) async fn send(&self, rows: Vec<Row>, read: Moment) -> Sent {
        let mut sent = Sent::default();
        let (mut ready, mut ids, mut waiting) =
            (Vec::with_capacity(rows.len()), HashSet::new(), HashSet::new());
        for row in rows {
            match self.ready(&row) {
                Ok(one) if waiting.contains(one.outgoing.event().key()) => {}
                // The same event twice: once the first is stored, the other one is known to be.
                Ok(one) if !ids.insert(one.outgoing.message_id().to_owned()) => {}
                Ok(one) => ready.push(one),
                Err(Not::Refused(cause)) => sent.refused.push((row.position, cause)),
                Err(Not::Yet(key)) => drop(waiting.insert(key)),
            }
        }
        sent.waits = !waiting.is_empty();
        if ready.len() >= TOGETHER {
            match self.together(ready).await {
                Ok(all) => {
                    sent.add(all);
                    return sent;
                }
                Err(back) => ready = back,
            }
        }
        let lanes = lanes(ready).into_iter().map(|lane| self.one_by_one(lane, read));
        join_all(lanes).await.into_iter().for_each(|lane| sent.add(lane));
        sent
    }

    fn ready(&self, row: &Row) -> Result<Ready, Not> {
        let event = row.event(&self.source, self.largest_row());
        let event = event.map_err(|error| Not::Refused(error.to_string()))?;
        let link = self.bus.link();
        let settled = link.connected && link.since.elapsed() > NEWER_CONFIGURATION;
        self.door.borrow().check(&event).map_err(|refused| match settled {
            true => Not::Refused(refused.to_string()),
            false => Not::Yet(event.key().to_owned()),
        })?;
        let parent = parent(&event, row.columns.as_ref().ok());
        let span = self.span(&event, parent);
        let mut trace = http::HeaderMap::new();
        self.tracer.keep(&span, parent, &mut trace);
        let outgoing = Outgoing::new(event, &self.service, &self.key, &trace, None);
        let outgoing = outgoing.with_outbox_position(row.position);
        Ok(Ready { position: row.position, outgoing, span })
    }

    /// The span of a publish.
    fn span(&self, event: &Event, parent: Option<Context>) -> Span {
        let mut span =
            self.tracer.start(parent, Kind::Producer, || format!("publish {}", event.event_type()));
        span.note("messaging.system", "murmur");
        span.note("messaging.message.id", event.id());
        span
    }

    /// All at once, in their order, or none. An error gives back what is to go one by one.
    async fn together(&self, mut ready: Vec<Ready>) -> Result<Sent, Vec<Ready>> {
        let deadline = self.publisher.deadline();
        let events = ready.iter().map(|one| &one.outgoing);
        let result = self.publisher.publish_batch(events, deadline).await;
        let mut sent = Sent::default();
        match result {
            Ok(committed) => match committed.members(ready.len()) {
                Some(places) => {
                    sent.stored = ready.iter().map(|one| one.position).zip(places).collect();
                }
                None => sent.in_doubt = true,
            },
            // It has stored nothing. Which of its events is stored already is not said, nor which
            // is too large, and how many batches are open elsewhere is no concern of an event's.
            Err(error) if error.is_duplicate_in_batch() || error.is_about_one_batch() => return Err(ready),
            Err(error) => {
                ready.iter_mut().for_each(|one| one.span.fails(&error));
                sent.fails(error);
            }
        }
        Ok(sent)
    }

    /// The events of one key, each once the one before is stored.
    async fn one_by_one(&self, lane: Vec<Ready>, read: Moment) -> Sent {
        let mut sent = Sent::default();
        for mut one in lane {
            // After a stop of this process the rows may be another sidecar's by now.
            if read.elapsed() > MAY_TAKE {
                break;
            }
            match self.publisher.publish_once(&one.outgoing).await {
                Ok(stored) => sent.stored.push((one.position, stored)),
                Err(error @ PublishError::TooLarge) => sent.refused.push((one.position, error.to_string())),
                Err(error) => {
                    one.span.fails(&error);
                    sent.fails(error);
                    break;
                }
            }
        }
        sent
    }
}

/// The rows of each key, in their order.
fn lanes(ready: Vec<Ready>) -> Vec<Vec<Ready>> {
    let mut places: HashMap<String, usize> = HashMap::new();
    let mut lanes: Vec<Vec<Ready>> = Vec::new();
    for one in ready {
        let place = *places.entry(one.outgoing.event().key().to_owned()).or_insert(lanes.len());
        match lanes.get_mut(place) {
            Some(lane) => lane.push(one),
            None => lanes.push(vec![one]),
        }
    }
    lanes
}
