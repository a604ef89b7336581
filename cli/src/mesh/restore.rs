//! Putting a backup in the place of the event store.
//!
//! The subscriptions of the restored store stand where they stood at the backup:
//! what they had received since, and is in the backup, comes to them again; what
//! was stored since is gone. Its identity, the time at which it was made, is a
//! new one on servers that form a cluster, and that of the backup on a single
//! one; so it bears a mark, by which the operator knows it from an empty one.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use murmur_mesh::{api, restoring};
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::manifest::{Manifest, PATIENCE, Saved};
use crate::arguments::Format;
use crate::bus::Bus;
use crate::error::mistake;
use crate::output;

/// The size of one piece, in bytes.
const PIECE: usize = 256 * 1024;
/// How long a cluster may take until all consumers of a restored stream are there.
const CONSUMERS: Duration = Duration::from_secs(60);
/// How often they are looked at.
const AGAIN: Duration = Duration::from_millis(200);
/// How long the operator may take to keep its hands off.
const OPERATOR: Duration = Duration::from_secs(20);

/// Restores the backup in `from`.
pub(super) async fn restore(bus: &Bus, format: Format, from: &Path, replace: bool) -> Result<()> {
    let manifest = Manifest::read(from).await?;
    let replicas = may_go(bus, &manifest, replace).await?;
    let word = Word::give(bus).await?;
    // Services publish until the streams are gone, also while the operator makes way.
    let outcome = match may_go(bus, &manifest, replace).await {
        Ok(_) => all(bus, from, &manifest, replicas).await.context(
            "the backup was not restored in full, and what was there may be gone: run the same command again, with --replace",
        ),
        Err(error) => Err(error),
    };
    word.take_back(bus).await;
    let reset = outcome?;
    if format == Format::Json {
        return output::json(
            &json!({"restored": from, "made": manifest.made, "streams": manifest.streams, "setBack": reset}),
        );
    }
    output::print(&format!(
        "the event store is as it was at {}; the operator takes it over within seconds",
        manifest.made
    ))?;
    if manifest.mesh != bus.mesh {
        output::print(&format!(
            "it was the mesh {}: here the subscriptions are others, and each begins at its own start",
            manifest.mesh
        ))?;
    }
    Ok(())
}

/// Whether the streams that are there may be deleted; on how many servers they are stored, if any is there.
async fn may_go(bus: &Bus, manifest: &Manifest, replace: bool) -> Result<Option<u64>> {
    let mut replicas = None;
    for saved in &manifest.streams {
        let Some(live) = bus.stream(&saved.name).await? else { continue };
        let messages = live["state"]["messages"].as_u64().unwrap_or_default();
        if messages > 0 && !replace {
            return Err(mistake(format!(
                "{} holds {messages} messages, which would be lost: save them by `murmur mesh backup`, and add --replace",
                saved.name
            )));
        }
        replicas = live["config"]["num_replicas"].as_u64().or(replicas);
    }
    Ok(replicas)
}

async fn all(bus: &Bus, from: &Path, manifest: &Manifest, replicas: Option<u64>) -> Result<Vec<String>> {
    // All go before the first comes back: no dead letter of one life may stand beside events of another.
    for saved in &manifest.streams {
        if bus.stream(&saved.name).await?.is_some() {
            bus.ask(&api::stream_delete(&saved.name), &Value::Null).await?;
        }
    }
    let mut set_back = Vec::new();
    for saved in &manifest.streams {
        let restored = async {
            let last = stream(bus, from, saved, replicas, &manifest.made).await?;
            consumers(bus, saved, last).await
        };
        set_back.extend(restored.await.with_context(|| format!("stream {}", saved.name))?);
    }
    Ok(set_back)
}

/// Restores one stream; returns its last sequence.
async fn stream(bus: &Bus, from: &Path, saved: &Saved, replicas: Option<u64>, made: &str) -> Result<u64> {
    let mut config = saved.config.clone();
    config["metadata"][restoring::RESTORED] = json!(made);
    if let Some(replicas) = replicas {
        config["num_replicas"] = json!(replicas);
    }
    let begun = bus.ask(&api::restore(&saved.name), &json!({"config": config, "state": saved.state})).await?;
    let subject = begun["deliver_subject"].as_str().context("the broker names no subject for the pieces")?;
    let mut file = tokio::fs::File::open(from.join(&saved.file)).await?;
    loop {
        let mut piece = vec![0; PIECE];
        let mut length = 0;
        while length < PIECE {
            match file.read(&mut piece[length..]).await? {
                0 => break,
                more => length += more,
            }
        }
        piece.truncate(length);
        let last = piece.is_empty();
        let request = async_nats::Request::new().payload(Bytes::from(piece)).timeout(Some(PATIENCE));
        let answer = bus.client.send_request(subject.to_owned(), request).await?;
        let answer = match answer.payload.is_empty() {
            true => Value::Null,
            false => serde_json::from_slice(&answer.payload).context("the broker's answer cannot be read")?,
        };
        if let Some(error) = answer.get("error") {
            bail!("the broker refused it: {}", error["description"].as_str().unwrap_or("no reason given"));
        }
        if last {
            return holds(saved, &answer["state"]);
        }
    }
}

/// What the broker restored is what was saved; more may have come while it was
/// saved. Returns the last sequence.
fn holds(saved: &Saved, state: &Value) -> Result<u64> {
    let number = |field: &str| state[field].as_u64().unwrap_or_default();
    let (messages, last) = (number("messages"), number("last_seq"));
    ensure!(
        messages >= saved.messages && last >= saved.last_sequence,
        "it holds {messages} messages up to sequence {last}, not {} up to {} as the backup says",
        saved.messages,
        saved.last_sequence
    );
    Ok(last)
}

/// Sets back consumers that are ahead of their stream; returns their names.
async fn consumers(bus: &Bus, saved: &Saved, last: u64) -> Result<Vec<String>> {
    let mut set_back = Vec::new();
    for consumer in restored_consumers(bus, saved).await? {
        let name = consumer["name"].as_str().unwrap_or_default();
        let at = |field: &str| consumer[field]["stream_seq"].as_u64().unwrap_or_default();
        if let Some(sequence) = back_to(at("delivered"), at("ack_floor"), last) {
            bus.ask(&api::consumer_reset(&saved.name, name), &json!({"seq": sequence})).await?;
            set_back.push(name.to_owned());
        }
    }
    Ok(set_back)
}

/// All consumers of a restored stream. Servers that form a cluster make them
/// one after another once the stream is there, and elect a leader for each.
async fn restored_consumers(bus: &Bus, saved: &Saved) -> Result<Vec<Value>> {
    let wanted = saved.state["consumer_count"].as_u64().unwrap_or_default();
    let until = Instant::now() + CONSUMERS;
    loop {
        let found = bus.consumers(&saved.name).await;
        match found {
            Ok(found) if found.len() as u64 >= wanted => return Ok(found),
            Ok(_) | Err(_) if Instant::now() < until => tokio::time::sleep(AGAIN).await,
            Ok(found) => bail!(
                "only {} of its {wanted} consumers came back within {} s",
                found.len(),
                CONSUMERS.as_secs()
            ),
            Err(error) => return Err(error),
        }
    }
}

/// Where a consumer must begin again that was saved a moment after its stream,
/// and so may have got further than the stream now reaches: else it would pass
/// over the events that take those sequences. `None` when it did not.
fn back_to(delivered: u64, ack_floor: u64, last: u64) -> Option<u64> {
    (delivered > last).then(|| ack_floor.saturating_add(1).min(last.saturating_add(1)))
}

/// The word to the operator that the streams are missing on purpose.
struct Word(JoinHandle<()>);

impl Word {
    async fn give(bus: &Bus) -> Result<Self> {
        let request = async_nats::Request::new().payload(Bytes::new()).timeout(Some(OPERATOR));
        match bus.client.send_request(restoring::SUBJECT, request).await {
            Ok(_) => {}
            // No operator runs, so none gets in the way.
            Err(error) if error.kind() == async_nats::RequestErrorKind::NoResponders => {}
            Err(error) => bail!("the operator did not make way ({error}); nothing was changed. See its log"),
        }
        let client = bus.client.clone();
        Ok(Self(tokio::spawn(async move {
            loop {
                tokio::time::sleep(restoring::INTERVAL).await;
                // While the connection is lost nothing can be said; the next word may get through.
                let _ = client.publish(restoring::SUBJECT, Bytes::new()).await;
            }
        })))
    }

    async fn take_back(self, bus: &Bus) {
        self.0.abort();
        // Lost, it costs only time: the operator goes on by itself when it hears nothing more.
        let _ = bus.client.publish(restoring::SUBJECT, Bytes::from_static(restoring::DONE)).await;
        let _ = bus.client.flush().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_consumer_that_is_ahead_of_its_stream_goes_back_and_misses_nothing() {
        assert_eq!(back_to(100, 90, 100), None);
        assert_eq!(back_to(105, 105, 100), Some(101));
        assert_eq!(back_to(105, 90, 100), Some(91), "it had not acknowledged all before");
    }
}
