//! Events in the event store, as they come or one in full.
//!
//! Read message by message: whoever looks makes no consumer.

use std::time::Duration;

use anyhow::{Context, Result};
use murmur_mesh::partition::Partition;
use murmur_mesh::people::Person;
use murmur_mesh::stream::EVENTS;
use murmur_mesh::subject;
use serde_json::{Value, json};

use crate::arguments::{Common, Events, Format, Tail};
use crate::bus::Bus;
use crate::output;
use crate::reach;
use crate::stored::Stored;

/// How often the store is asked for what has come.
const POLL: Duration = Duration::from_millis(500);
/// How much of the data is shown on a line, in characters.
const DATA_SHOWN: usize = 80;

/// Does what is asked.
pub async fn run(common: &Common, verb: Events) -> Result<()> {
    let bus = reach::bus(common, Person::Viewer).await?;
    match verb {
        Events::Tail(tail) => follow(&bus, common.output, &tail).await,
        Events::Show { sequence } => show(&bus, common.output, sequence).await,
    }
}

async fn follow(bus: &Bus, format: Format, tail: &Tail) -> Result<()> {
    let partition = tail.key.as_deref().map(Partition::of);
    let filter = subject::events(tail.service.as_ref(), partition, tail.event_type.as_ref());
    let last = bus.last_sequence(EVENTS).await?;
    let mut next = tail.from.map_or(last + 1, |from| from.max(1));
    let mut shown = 0;
    loop {
        if tail.limit.is_some_and(|limit| shown >= limit) {
            return Ok(());
        }
        match bus.next(EVENTS, &filter, next).await? {
            Some(stored) if tail.no_follow && stored.sequence > last => return Ok(()),
            Some(stored) => {
                next = stored.sequence + 1;
                if has_key(&stored, tail.key.as_deref()) {
                    write(format, &stored)?;
                    shown += 1;
                }
            }
            None if tail.no_follow => return Ok(()),
            None => tokio::time::sleep(POLL).await,
        }
    }
}

/// A partition holds many keys.
fn has_key(stored: &Stored, key: Option<&str>) -> bool {
    key.is_none_or(|key| stored.event().is_ok_and(|event| event.key() == key))
}

fn write(format: Format, stored: &Stored) -> Result<()> {
    if format == Format::Json {
        return output::print(&as_json(stored).to_string());
    }
    let publisher = stored.subject.split('.').nth(1).unwrap_or("?");
    let (kind, key) = match stored.event() {
        Ok(event) => (event.event_type().to_string(), event.key().to_owned()),
        Err(error) => (format!("no event: {error}"), "?".to_owned()),
    };
    let time = stored.time.get(..19).unwrap_or(&stored.time);
    output::print(&format!(
        "{:>8}  {time}Z  {publisher}  {kind}  {key}  {}",
        stored.sequence,
        stored.summary(DATA_SHOWN)
    ))
}

fn as_json(stored: &Stored) -> Value {
    json!({"sequence": stored.sequence, "subject": stored.subject, "stored": stored.time, "event": stored.event_json()})
}

async fn show(bus: &Bus, format: Format, sequence: u64) -> Result<()> {
    let found = bus.message(EVENTS, sequence).await?;
    let found = found.with_context(|| {
        format!("the event store holds no event {sequence}: it was erased, aged out, or is yet to come")
    })?;
    if format == Format::Json {
        return output::json(&as_json(&found));
    }
    output::print(&format!(
        "sequence  {}\nsubject   {}\nstored    {}\nevent",
        found.sequence, found.subject, found.time
    ))?;
    output::json(&found.event_json())
}
