//! Giving dead letters to their subscription again: stored as a redrive, and
//! only then deleted. Safe to repeat after a crash at any point.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use anyhow::{Context, Result, bail};
use murmur_mesh::redrive::{header, redriven};
use murmur_mesh::stream::{DEAD_LETTERS, EVENTS};
use murmur_mesh::wire::MESSAGE_ID_HEADER;
use serde_json::json;

use super::{copies, selected};
use crate::arguments::{Format, Selection};
use crate::bus::Bus;
use crate::output;

/// Subjects, and the message id of the last message that was there before this
/// run stored its first.
type LastBefore = HashMap<String, Option<String>>;

/// What became of a letter.
enum Outcome {
    Redriven,
    /// Somebody else took it.
    Gone,
    /// It holds no event.
    Refused(String),
}

/// Redrives what is meant, one after another: so a key's events keep their order.
pub(super) async fn redrive(bus: &Bus, format: Format, selection: &Selection) -> Result<()> {
    let letters = selected(bus, selection).await?;
    let (mut done, mut refused) = (0_usize, Vec::new());
    let mut subjects = LastBefore::new();
    for letter in &letters {
        let outcome = one(bus, *letter, &mut subjects).await.with_context(|| {
            format!(
                "{done} of {} dead letters were redriven, and letter {letter} was not for sure; \
                 run it again, nothing is stored twice by that",
                letters.len()
            )
        })?;
        match outcome {
            Outcome::Redriven => done += 1,
            Outcome::Gone => {}
            Outcome::Refused(cause) => refused.push((*letter, cause)),
        }
    }
    if let Err(error) = copies::remove(bus, subjects.keys()).await {
        eprintln!(
            "murmur: copies of earlier redrives, of no more use, stay in the event store for now: {error:#}"
        );
    }
    if format == Format::Json {
        let refused: Vec<_> =
            refused.iter().map(|(letter, cause)| json!({"letter": letter, "cause": cause})).collect();
        output::json(&json!({"redriven": done, "refused": refused}))?;
    } else {
        output::print(&format!("redriven: {done}"))?;
    }
    if let Some((letter, cause)) = refused.first() {
        bail!("{} dead letters were left, such as letter {letter}: {cause}", refused.len());
    }
    Ok(())
}

async fn one(bus: &Bus, letter: u64, subjects: &mut LastBefore) -> Result<Outcome> {
    let Some(found) = bus.message(DEAD_LETTERS, letter).await? else { return Ok(Outcome::Gone) };
    let again = match redriven(&found.subject, &found.headers, letter) {
        Ok(again) => again,
        Err(error) => return Ok(Outcome::Refused(error.to_string())),
    };
    // The broker forgets message ids after a while. What a run that died had
    // stored and not yet deleted is the last of its subject; in this run it need
    // not be the first, as letters may have come since whose events are older.
    let last = match subjects.entry(again.subject.clone()) {
        Entry::Occupied(known) => known.into_mut(),
        Entry::Vacant(unknown) => {
            let last = bus.last(EVENTS, &again.subject).await?;
            let id = last.as_ref().and_then(|last| header(&last.headers, MESSAGE_ID_HEADER));
            unknown.insert(id.map(str::to_owned))
        }
    };
    let id = header(&again.headers, MESSAGE_ID_HEADER);
    if last.is_none() || last.as_deref() != id {
        bus.store(&again.subject, &again.headers, found.data).await?;
    }
    bus.delete(DEAD_LETTERS, letter).await?;
    Ok(Outcome::Redriven)
}
