//! Saving a mesh's streams: a snapshot of each, made by the broker after it has
//! checked its messages, and a manifest that says what must be in them.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use async_nats::Message;
use bytes::Bytes;
use futures::StreamExt;
use jiff::Timestamp;
use murmur_mesh::api;
use murmur_mesh::stream::{DEAD_LETTERS, EVENTS};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

use super::folders;
use super::manifest::{FORMAT, Manifest, PATIENCE, Saved, Sum};
use crate::arguments::Format;
use crate::bus::Bus;
use crate::error::mistake;
use crate::output;

/// The size of one piece, in bytes: well below the payload limit of any server.
const PIECE: usize = 256 * 1024;
/// How often a backup is begun anew because a dead letter was redriven meanwhile.
const ATTEMPTS: u32 = 5;

/// Makes a backup in a folder of its own in `to`; returns once it is on the disk.
pub(super) async fn backup(bus: &Bus, format: Format, to: &Path, keep: Option<usize>) -> Result<()> {
    if !to.is_dir() {
        return Err(mistake(format!("--to {}: there is no such folder; make it first", to.display())));
    }
    if keep == Some(0) {
        return Err(mistake("--keep 0 would delete the backup that was just made: give 1 or more"));
    }
    let now = Timestamp::now();
    folders::remove_interrupted(to, &bus.mesh).await?;
    let (partial, whole) = folders::new(to, &bus.mesh, now);
    tokio::fs::create_dir(&partial).await.with_context(|| format!("{} cannot be made", partial.display()))?;
    let made = streams(bus, &partial, now).await;
    let manifest = match made {
        Ok(manifest) => manifest,
        Err(error) => {
            // What is there is no backup; that it cannot be removed changes nothing.
            let _ = tokio::fs::remove_dir_all(&partial).await;
            return Err(error.context("no backup was made"));
        }
    };
    tokio::fs::rename(&partial, &whole)
        .await
        .with_context(|| format!("{} cannot be made", whole.display()))?;
    tokio::fs::File::open(to).await?.sync_all().await?;
    let removed = match keep {
        Some(keep) => folders::remove_old(to, &bus.mesh, keep).await?,
        None => Vec::new(),
    };
    if format == Format::Json {
        return output::json(&json!({"backup": whole, "streams": manifest.streams, "removed": removed}));
    }
    let lines: Vec<String> = manifest
        .streams
        .iter()
        .map(|saved| {
            format!("{}: {} messages, last sequence {}", saved.name, saved.messages, saved.last_sequence)
        })
        .collect();
    output::print(&format!("{}\n{}", whole.display(), lines.join("\n")))?;
    if removed.is_empty() {
        Ok(())
    } else {
        output::print(&format!("{} older backups were deleted", removed.len()))
    }
}

/// Events first: a dead letter is stored before its event counts as done, so
/// none that the saved positions rely on is missing. The one thing that takes
/// letters away while their events come back is a redrive: then, anew.
async fn streams(bus: &Bus, folder: &Path, now: Timestamp) -> Result<Manifest> {
    for _ in 0..ATTEMPTS {
        let before = bus.state(DEAD_LETTERS).await?;
        let events = save(bus, EVENTS, folder).await?;
        let letters = save(bus, DEAD_LETTERS, folder).await?;
        let after = bus.state(DEAD_LETTERS).await?;
        if gone(&before) != gone(&after) {
            continue;
        }
        let manifest = Manifest {
            format: FORMAT,
            mesh: bus.mesh.clone(),
            made: now.to_string(),
            streams: vec![events, letters],
        };
        manifest.write(folder).await?;
        return Ok(manifest);
    }
    bail!("dead letters were redriven or dropped all the time; try again when nobody does")
}

/// How many messages a stream held once and holds no more.
fn gone(state: &Value) -> u64 {
    let number = |field: &str| state[field].as_u64().unwrap_or_default();
    number("last_seq").saturating_sub(number("messages"))
}

async fn save(bus: &Bus, stream: &str, folder: &Path) -> Result<Saved> {
    let inbox = bus.client.new_inbox();
    let mut pieces = bus.client.subscribe(inbox.clone()).await?;
    // Without the check a damaged store would become a damaged backup.
    let request = json!({"deliver_subject": inbox, "no_consumers": false, "chunk_size": PIECE, "jsck": true});
    let begun = bus.ask(&api::snapshot(stream), &request).await?;
    let file_name = format!("{stream}.snapshot");
    let path = folder.join(&file_name);
    let mut file =
        tokio::fs::File::create(&path).await.with_context(|| format!("{} cannot be made", path.display()))?;
    let (mut sum, mut number) = (Sum::default(), 0);
    loop {
        let piece = timeout(PATIENCE, pieces.next()).await;
        let piece =
            piece.with_context(|| format!("the snapshot of {stream} stopped after {} bytes", sum.bytes()))?;
        let piece = piece.context("the connection ended")?;
        if piece.payload.is_empty() {
            ended_well(stream, &piece)?;
            break;
        }
        if let Some(reply) = &piece.reply {
            number += 1;
            // …<length>.<number>: a piece that was lost on the way shows.
            let found = reply.rsplit('.').next().and_then(|token| token.parse().ok());
            ensure!(
                found.is_none_or(|found: u64| found == number),
                "a piece of the snapshot of {stream} was lost; try again"
            );
            bus.client.publish(reply.clone(), Bytes::new()).await?;
        }
        sum.add(&piece.payload);
        file.write_all(&piece.payload)
            .await
            .with_context(|| format!("{} cannot be written", path.display()))?;
    }
    file.flush().await?;
    file.sync_all().await.with_context(|| format!("{} cannot be written", path.display()))?;
    let number = |field: &str| begun["state"][field].as_u64().unwrap_or_default();
    let messages = surely_in(&begun["state"], &bus.state(stream).await?);
    Ok(Saved {
        name: stream.to_owned(),
        file: file_name,
        bytes: sum.bytes(),
        sha256: sum.hex(),
        messages,
        first_sequence: number("first_seq"),
        last_sequence: number("last_seq"),
        config: begun["config"].clone(),
        state: begun["state"].clone(),
    })
}

/// How many messages are in a snapshot for sure: those that were there when it
/// began and when it had ended. Others may have been erased or aged out before
/// the broker came to them.
fn surely_in(began: &Value, ended: &Value) -> u64 {
    let number = |state: &Value, field: &str| state[field].as_u64().unwrap_or_default();
    let came = number(ended, "last_seq").saturating_sub(number(began, "last_seq"));
    number(ended, "messages").saturating_sub(came).min(number(began, "messages"))
}

/// An end with a status is the broker's word that it did not send all.
fn ended_well(stream: &str, end: &Message) -> Result<()> {
    match end.status {
        Some(status) if !(200..300).contains(&status.as_u16()) => {
            let why = end.description.as_deref().unwrap_or("no reason given");
            bail!("the broker ended the snapshot of {stream} early: {why} ({status})")
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_while_a_snapshot_is_made_need_not_be_in_it() {
        let state = |messages, last| json!({"messages": messages, "last_seq": last});
        assert_eq!(surely_in(&state(100, 120), &state(100, 120)), 100);
        assert_eq!(surely_in(&state(100, 120), &state(130, 150)), 100, "30 came");
        assert_eq!(surely_in(&state(100, 120), &state(123, 150)), 93, "30 came and 7 went");
        assert_eq!(surely_in(&state(100, 120), &state(0, 150)), 0);
    }
}
