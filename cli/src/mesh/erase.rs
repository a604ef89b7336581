//! Erasing a key: first a tombstone for each service whose events go, then the
//! events, then the dead letters. Safe to repeat after a crash at any point:
//! the tombstone of a service is stored before the first of its messages goes.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use bytes::Bytes;
use jiff::Timestamp;
use murmur_mesh::erased::{self, Erased};
use murmur_mesh::event::Draft;
use murmur_mesh::partition::Partition;
use murmur_mesh::redrive::origin;
use murmur_mesh::stream::{DEAD_LETTERS, EVENTS};
use murmur_mesh::{EventType, ServiceName, subject, wire};
use serde_json::json;

use crate::arguments::Format;
use crate::bus::Bus;
use crate::output;
use crate::stored::Stored;

/// Erases what belongs to a key, of one service or of all.
pub(super) async fn erase(bus: &Bus, format: Format, key: &str, service: Option<&ServiceName>) -> Result<()> {
    let partition = Partition::of(key);
    let events = find(bus, EVENTS, &subject::events(service, Some(partition), None), key, service).await?;
    let redriven = find(bus, EVENTS, &subject::redrives_of(partition), key, service).await?;
    let mut told = BTreeSet::new();
    tell(bus, key, events.iter().chain(&redriven), &mut told).await?;
    delete(bus, EVENTS, events.iter().chain(&redriven), 0).await?;
    // Only now: while its event goes, a sidecar that holds it may give it up.
    let letters = find(bus, DEAD_LETTERS, &subject::dead_letters(None), key, service).await?;
    tell(bus, key, letters.iter(), &mut told).await?;
    delete(bus, DEAD_LETTERS, letters.iter(), events.len() + redriven.len()).await?;
    if format == Format::Json {
        return output::json(&json!({
            "events": events.len(), "redriven": redriven.len(), "deadLetters": letters.len(), "tombstones": told,
        }));
    }
    if events.len() + redriven.len() + letters.len() == 0 {
        return output::print(&format!("there is nothing of {key} in the event store"));
    }
    output::print(&format!(
        "erased {} events and {} dead letters of {key}; {} murmur.erased events tell those who subscribe to them\n\
         an event of {key} that is being delivered or retried may still become a dead letter: erase again once its \
         subscriptions have caught up",
        events.len() + redriven.len(),
        letters.len(),
        told.len(),
    ))
}

/// A message that is to go.
struct Found {
    sequence: u64,
    publisher: Option<ServiceName>,
    is_event: bool,
}

/// Stores a tombstone for each service whose messages these are and that has none yet.
async fn tell(
    bus: &Bus,
    key: &str,
    all: impl Iterator<Item = &Found>,
    told: &mut BTreeSet<ServiceName>,
) -> Result<()> {
    let mut publishers: BTreeMap<ServiceName, u64> = BTreeMap::new();
    for found in all {
        if let Some(publisher) = &found.publisher {
            *publishers.entry(publisher.clone()).or_default() += u64::from(found.is_event);
        }
    }
    for (publisher, number) in publishers {
        if told.contains(&publisher) {
            continue;
        }
        tombstone(bus, &publisher, key, number).await.with_context(|| {
            format!("nothing of {publisher} was erased: the tombstone could not be stored; run it again")
        })?;
        told.insert(publisher);
    }
    Ok(())
}

/// Deletes messages of a stream; `gone` were erased before.
async fn delete(bus: &Bus, stream: &str, all: impl Iterator<Item = &Found>, mut gone: usize) -> Result<()> {
    for found in all {
        bus.delete(stream, found.sequence)
            .await
            .with_context(|| format!("{gone} messages were erased; run it again for the rest"))?;
        gone += 1;
    }
    Ok(())
}

/// All messages of a key that the stream held when this began.
async fn find(
    bus: &Bus,
    stream: &str,
    filter: &str,
    key: &str,
    service: Option<&ServiceName>,
) -> Result<Vec<Found>> {
    let last = bus.last_sequence(stream).await?;
    let (mut found, mut from) = (Vec::new(), 1);
    while let Some(message) = bus.next(stream, filter, from).await? {
        if message.sequence > last {
            break;
        }
        from = message.sequence + 1;
        if message
            .event()
            .is_ok_and(|event| event.key() == key && event.event_type().as_str() != erased::TYPE)
        {
            let is_event = message.subject.starts_with("events.");
            let publisher = publisher(&message);
            if service.is_none() || publisher.as_ref() == service {
                found.push(Found { sequence: message.sequence, publisher, is_event });
            }
        }
    }
    Ok(found)
}

/// The service that published it first.
fn publisher(message: &Stored) -> Option<ServiceName> {
    let first = origin(&message.headers).unwrap_or(&message.subject);
    subject::parse_event(first).map(|(service, _)| service)
}

async fn tombstone(bus: &Bus, service: &ServiceName, key: &str, events: u64) -> Result<()> {
    let event_type: EventType = erased::TYPE.parse()?;
    let data = Erased { key: key.to_owned(), service: service.clone(), events };
    let now = Timestamp::now();
    let mut draft = Draft::default();
    for (name, value) in [
        ("id", format!("erased-{}", now.as_nanosecond())),
        ("source", format!("/{}/{service}", bus.mesh)),
        ("type", event_type.to_string()),
        ("time", now.to_string()),
        ("datacontenttype", "application/json".to_owned()),
        ("partitionkey", key.to_owned()),
    ] {
        draft.set(name, value)?;
    }
    draft.set_data(Bytes::from(serde_json::to_vec(&data)?));
    let event = draft.complete_as_is()?;
    let headers: Vec<(String, String)> =
        wire::headers(&event).map(|(name, value)| (name.into_owned(), value.into_owned())).collect();
    bus.store(&erased::subject(service, key), &headers, event.into_data()).await?;
    Ok(())
}
