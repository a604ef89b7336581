//! A mesh without an operator: servers, streams, durables, and what they hold.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use async_nats::HeaderMap;
use async_nats::jetstream;
use async_nats::jetstream::stream::LastRawMessageErrorKind;
use murmur_mesh::config::{LogLevel, SidecarConfig, Subscription};
use murmur_mesh::stream;
use murmur_mesh::wire::dead_letter;
use murmur_test_support::{Cluster, Sidecar, mesh};

use crate::history::{DeadLetter, Published, Stored};
use crate::serving;

/// The bus of a mesh.
pub struct Bed {
    /// Its servers.
    pub cluster: Cluster,
    /// A client of its own, which tries for ever.
    pub context: jetstream::Context,
    subscriptions: Vec<Subscription>,
}

impl Bed {
    /// Starts so many servers, with the streams of a mesh on all of them and the durables.
    ///
    /// # Errors
    /// When a server is missing or refuses.
    pub async fn start(servers: usize, jetstream: &str, subscriptions: Vec<Subscription>) -> Result<Self> {
        let cluster = Cluster::start(servers, jetstream).await?;
        let context = cluster.client().await?;
        let bed = Self { cluster, context, subscriptions };
        bed.furnish().await?;
        Ok(bed)
    }

    /// Makes the streams and the durables, as the operator does, also when the
    /// store was replaced.
    ///
    /// # Errors
    /// When the broker refuses.
    pub async fn furnish(&self) -> Result<()> {
        mesh::replicated_streams(&self.context, -1, self.cluster.size()).await?;
        for subscription in &self.subscriptions {
            mesh::durables(&self.context, subscription).await?;
        }
        Ok(())
    }

    /// Starts a sidecar; `port` is its own service's.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn sidecar(&self, binary: &Path, pod: &str, port: u16) -> Result<Sidecar> {
        let config = self.config(port)?;
        Sidecar::start(binary, &self.cluster.url(), &config, &[("MURMUR_POD", pod)]).await
    }

    /// The configuration of a sidecar whose service has this port.
    ///
    /// # Errors
    /// None in fact: the names are valid.
    pub fn config(&self, port: u16) -> Result<SidecarConfig> {
        let mut subscriptions = self.subscriptions.clone();
        for subscription in &mut subscriptions {
            if let Some(deliver) = subscription.deliver_mut() {
                deliver.port = port;
            }
        }
        let mut config = mesh::config(subscriptions)?;
        config.log_level = LogLevel::Debug;
        Ok(config)
    }

    /// What each durable has not seen acknowledged, those without any left out.
    ///
    /// # Errors
    /// When the broker does not answer.
    pub async fn left(&self) -> Result<Vec<(String, u64)>> {
        let events = self.context.get_stream(stream::EVENTS).await?;
        let mut left = Vec::new();
        for (_, durable) in self.subscriptions.iter().flat_map(Subscription::durables) {
            let info = events.consumer_info(durable.as_str()).await?;
            let number = info.num_pending + info.num_ack_pending as u64;
            if number > 0 {
                left.push((durable.to_string(), number));
            }
        }
        Ok(left)
    }

    /// Waits until the bus serves clients of these servers: it stores an event of this id.
    ///
    /// # Errors
    /// When that does not happen within `patience`.
    pub async fn until_serving(&self, servers: &[usize], id: &str, patience: Duration) -> Result<Published> {
        let addresses = servers.iter().map(|index| self.cluster.url_of(*index).parse());
        let durables = self.subscriptions.iter().flat_map(Subscription::durables);
        let durables: Vec<_> = durables.map(|(_, durable)| durable.to_string()).collect();
        serving::until_serving(addresses.collect::<Result<_, _>>()?, &durables, id, patience).await
    }

    /// The event store.
    ///
    /// # Errors
    /// When the broker does not answer.
    pub async fn stored(&self) -> Result<Vec<Stored>> {
        let mut stored = Vec::new();
        for message in self.messages(stream::EVENTS).await? {
            stored.push(Stored {
                sequence: message.sequence,
                id: header(&message.headers, "ce-id"),
                key: header(&message.headers, "ce-partitionkey"),
                data: String::from_utf8_lossy(&message.payload).into_owned(),
            });
        }
        Ok(stored)
    }

    /// The dead letters.
    ///
    /// # Errors
    /// When the broker does not answer.
    pub async fn dead_letters(&self) -> Result<Vec<DeadLetter>> {
        let messages = self.messages(stream::DEAD_LETTERS).await?;
        let letter = |message: &jetstream::message::StreamMessage| {
            // dead.<service>.<subscription>.<shard>.<sequence>
            let subscription =
                message.subject.as_str().split('.').nth(2).context("no dead letter's subject")?;
            Ok(DeadLetter {
                subscription: subscription.to_owned(),
                id: header(&message.headers, "ce-id"),
                reason: header(&message.headers, dead_letter::REASON),
            })
        };
        messages.iter().map(letter).collect()
    }

    async fn messages(&self, name: &str) -> Result<Vec<jetstream::message::StreamMessage>> {
        let stream = self.context.get_stream(name).await?;
        let state = stream.get_info().await?.state;
        let mut messages = Vec::new();
        for sequence in state.first_sequence.max(1)..=state.last_sequence {
            match stream.get_raw_message(sequence).await {
                Ok(message) => messages.push(message),
                Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => {}
                Err(error) => return Err(error).with_context(|| format!("message {sequence} of {name}")),
            }
        }
        Ok(messages)
    }
}

fn header(headers: &HeaderMap, name: &str) -> String {
    headers.get(name).map(ToString::to_string).unwrap_or_default()
}
