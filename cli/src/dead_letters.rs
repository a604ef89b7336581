//! Dead letters: listed, shown, given to their subscription again, dropped.

mod copies;
mod redrive;

use anyhow::{Context, Result};
use murmur_mesh::name::SubscriptionName;
use murmur_mesh::people::Person;
use murmur_mesh::redrive::{header, place, subscription_of};
use murmur_mesh::stream::DEAD_LETTERS;
use murmur_mesh::subject;
use murmur_mesh::wire::dead_letter;
use serde_json::{Value, json};

use crate::arguments::{Common, DeadLetters, Format, Selection};
use crate::bus::Bus;
use crate::error::mistake;
use crate::output;
use crate::reach;
use crate::stored::Stored;

/// Does what is asked.
pub async fn run(common: &Common, verb: DeadLetters) -> Result<()> {
    match verb {
        DeadLetters::List { subscription, limit } => {
            let bus = reach::bus(common, Person::Viewer).await?;
            list(&bus, common.output, subscription.as_ref(), limit).await
        }
        DeadLetters::Show { letter } => {
            let bus = reach::bus(common, Person::Viewer).await?;
            show(&bus, common.output, letter).await
        }
        DeadLetters::Redrive(selection) => {
            let bus = reach::bus(common, Person::Admin).await?;
            redrive::redrive(&bus, common.output, &selection).await
        }
        DeadLetters::Drop { selection, yes } => {
            if !yes {
                return Err(mistake("dropped dead letters cannot be had back: add --yes if that is meant"));
            }
            let bus = reach::bus(common, Person::Admin).await?;
            drop_all(&bus, common.output, &selection).await
        }
    }
}

async fn list(
    bus: &Bus,
    format: Format,
    subscription: Option<&SubscriptionName>,
    limit: usize,
) -> Result<()> {
    let filter = subject::dead_letters(subscription);
    let (mut found, mut from) = (Vec::new(), 1);
    let mut more = false;
    while let Some(letter) = bus.next(DEAD_LETTERS, &filter, from).await? {
        if found.len() == limit {
            more = true;
            break;
        }
        from = letter.sequence + 1;
        found.push(letter);
    }
    if format == Format::Json {
        let letters: Vec<Value> = found.iter().map(as_json).collect();
        return output::json(&json!({"deadLetters": letters, "more": more}));
    }
    if found.is_empty() {
        return output::print(
            match subscription {
                Some(name) => format!("{name} has no dead letters"),
                None => "there are no dead letters".to_owned(),
            }
            .as_str(),
        );
    }
    let rows: Vec<Vec<String>> = found.iter().map(row).collect();
    output::print(&output::table(
        &["LETTER", "SUBSCRIPTION", "TYPE", "KEY", "REASON", "ATTEMPTS", "DIED", "CAUSE"],
        &rows,
    ))?;
    if more {
        output::print(&format!("… and more: these are the first {limit}; see --limit"))?;
    }
    Ok(())
}

fn row(letter: &Stored) -> Vec<String> {
    let value = |name: &str| header(&letter.headers, name).unwrap_or("?").to_owned();
    let event = letter.event().ok();
    let subscription = subscription_of(&letter.subject).map(|(_, name)| name.to_string());
    vec![
        letter.sequence.to_string(),
        subscription.unwrap_or_else(|| letter.subject.clone()),
        event.as_ref().map_or_else(|| "?".to_owned(), |event| event.event_type().to_string()),
        event.as_ref().map_or_else(|| "?".to_owned(), |event| event.key().to_owned()),
        value(dead_letter::REASON),
        value(dead_letter::ATTEMPTS),
        letter.time.get(..19).unwrap_or(&letter.time).to_owned() + "Z",
        value(dead_letter::CAUSE),
    ]
}

fn as_json(letter: &Stored) -> Value {
    let value = |name: &str| header(&letter.headers, name);
    let (service, subscription) = subscription_of(&letter.subject).unzip();
    json!({
        "letter": letter.sequence,
        "service": service,
        "subscription": subscription,
        "reason": value(dead_letter::REASON),
        "cause": value(dead_letter::CAUSE),
        "attempts": value(dead_letter::ATTEMPTS).and_then(|text| text.parse::<u64>().ok()),
        "firstAttempt": value(dead_letter::FIRST_ATTEMPT),
        "lastAttempt": value(dead_letter::LAST_ATTEMPT),
        "died": letter.time,
        "sequence": value(dead_letter::SEQUENCE).and_then(|text| text.parse::<u64>().ok()),
        "subject": value(dead_letter::SUBJECT),
        "event": letter.event_json(),
    })
}

async fn show(bus: &Bus, format: Format, letter: u64) -> Result<()> {
    let found = bus.message(DEAD_LETTERS, letter).await?;
    let found =
        found.with_context(|| format!("there is no dead letter {letter}; see `murmur deadletters list`"))?;
    let all = as_json(&found);
    if format == Format::Json {
        return output::json(&all);
    }
    let mut lines = Vec::new();
    for (name, value) in all.as_object().into_iter().flatten().filter(|(name, _)| *name != "event") {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        lines.push(format!("{name:<13} {text}"));
    }
    output::print(&lines.join("\n"))?;
    output::print("event")?;
    output::json(&all["event"])
}

/// The letters that are meant and there, in the order of the event store.
async fn selected(bus: &Bus, selection: &Selection) -> Result<Vec<u64>> {
    if !selection.letters.is_empty() {
        let (mut places, mut gone) = (Vec::new(), Vec::new());
        for letter in &selection.letters {
            match bus.message(DEAD_LETTERS, *letter).await? {
                Some(found) => places.push(place(&found.headers, *letter)),
                None => gone.push(letter.to_string()),
            }
        }
        let gone = gone.join(", ");
        if places.is_empty() {
            return Err(mistake(format!(
                "there is no dead letter {gone}; see `murmur deadletters list`. Nothing was done"
            )));
        }
        // A run that was cut off and is repeated has dealt with some already.
        if !gone.is_empty() {
            eprintln!("murmur: there is no dead letter {gone} (any more); going on with the rest");
        }
        return Ok(in_order(places));
    }
    let last = bus.last_sequence(DEAD_LETTERS).await?;
    let filter = subject::dead_letters(selection.subscription.as_ref());
    let (mut places, mut from) = (Vec::new(), 1);
    while let Some(letter) = bus.next(DEAD_LETTERS, &filter, from).await? {
        if letter.sequence > last {
            break;
        }
        from = letter.sequence + 1;
        places.push(place(&letter.headers, letter.sequence));
    }
    Ok(in_order(places))
}

fn in_order(mut places: Vec<(u64, u64)>) -> Vec<u64> {
    places.sort_unstable();
    places.dedup();
    places.into_iter().map(|(_, letter)| letter).collect()
}

async fn drop_all(bus: &Bus, format: Format, selection: &Selection) -> Result<()> {
    let letters = selected(bus, selection).await?;
    let mut dropped = 0_usize;
    for letter in &letters {
        let gone = bus.delete(DEAD_LETTERS, *letter).await;
        dropped += usize::from(gone.with_context(|| format!("{dropped} of {} were dropped", letters.len()))?);
    }
    if format == Format::Json {
        return output::json(&json!({"dropped": dropped}));
    }
    output::print(&format!("dropped: {dropped}"))
}
