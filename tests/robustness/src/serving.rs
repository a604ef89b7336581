//! When a bus can serve again, as a client of its own sees it that knows only servers that run.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use async_nats::{ConnectOptions, HeaderMap, ServerAddr, jetstream};
use bytes::Bytes;
use murmur_mesh::partition::Partition;
use murmur_mesh::stream::EVENTS;
use murmur_mesh::subject;
use murmur_test_support::mesh::{EVENT_TYPE, SERVICE};
use serde_json::Value;
use tokio::time::{Instant, sleep, timeout};

use crate::history::{Answer, Fate, Published};

/// How long one answer may take before it is asked again.
const ANSWER: Duration = Duration::from_millis(500);
/// Between two tries.
const PAUSE: Duration = Duration::from_millis(50);
/// The publisher that the history knows these events of.
const PUBLISHER: usize = usize::MAX;
const KEY: &str = "probe";

/// Waits until one of these servers stores an event of this id and answers for all of these
/// durables; that event, as it is stored.
///
/// # Errors
/// When that does not happen within `patience`.
pub async fn until_serving(
    servers: Vec<ServerAddr>,
    durables: &[String],
    id: &str,
    patience: Duration,
) -> Result<Published> {
    let deadline = Instant::now() + patience;
    let client = loop {
        match ConnectOptions::new().connection_timeout(ANSWER).connect(&servers[..]).await {
            Ok(client) => break client,
            Err(error) if Instant::now() > deadline => return Err(error).context("no server answers"),
            Err(_) => sleep(PAUSE).await,
        }
    };
    let mut context = jetstream::new(client);
    context.set_timeout(ANSWER);
    let data = Fate::Taken.data(id);
    let sequence = loop {
        match serves(&context, durables, id, &data).await {
            Ok(sequence) => break sequence,
            Err(error) if Instant::now() > deadline => return Err(error).context("the servers do not serve"),
            Err(_) => sleep(PAUSE).await,
        }
    };
    let answers = vec![Answer::Stored { sequence }];
    let (id, key) = (id.to_owned(), KEY.to_owned());
    Ok(Published { publisher: PUBLISHER, id, key, data, fate: Fate::Taken, answers })
}

async fn serves(context: &jetstream::Context, durables: &[String], id: &str, data: &str) -> Result<u64> {
    let mut headers = HeaderMap::new();
    for (name, value) in [
        ("Nats-Msg-Id", id),
        ("murmur-format", "1"),
        ("ce-specversion", "1.0"),
        ("ce-id", id),
        ("ce-source", "/probe"),
        ("ce-type", EVENT_TYPE),
        ("ce-partitionkey", KEY),
        ("ce-datacontenttype", "application/json"),
    ] {
        headers.insert(name, value);
    }
    let subject = subject::event(&SERVICE.parse()?, Partition::of(KEY), &EVENT_TYPE.parse()?);
    let data = Bytes::from(data.to_owned());
    let stored = context.publish_with_headers(subject, headers, data).await?;
    let sequence = stored.await.context("no PubAck")?.sequence;
    for durable in durables {
        let subject = format!("$JS.API.CONSUMER.INFO.{EVENTS}.{durable}");
        let answer = timeout(ANSWER, context.client().request(subject, Bytes::new())).await;
        let answer = answer.ok().with_context(|| format!("{durable}: no answer"))??;
        let answer: Value = serde_json::from_slice(&answer.payload)?;
        if let Some(error) = answer.get("error") {
            bail!("{durable}: {error}");
        }
    }
    Ok(sequence)
}
