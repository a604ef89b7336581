//! One nats-server, or several that form a cluster; each has data of its own.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use async_nats::ConnectOptions;
use async_nats::jetstream;
use serde_json::Value;

use crate::broker::{Broker, free_port};

/// How long a cluster may take to elect its leaders, on a busy machine.
const READY: Duration = Duration::from_secs(60);
/// How long an answer of JetStream's API may take.
const API_TIMEOUT: Duration = Duration::from_secs(5);

/// The servers of a bus.
pub struct Cluster {
    servers: Vec<Broker>,
}

impl Cluster {
    /// Starts so many; `jetstream` is added to JetStream's own block.
    ///
    /// # Errors
    /// When nats-server is missing, or JetStream does not answer within a minute.
    pub async fn start(size: usize, jetstream: &str) -> Result<Self> {
        let routes = (0..size).map(|_| free_port()).collect::<Result<Vec<_>>>()?;
        let all = routes.iter().map(|port| format!("\"nats://127.0.0.1:{port}\"")).collect::<Vec<_>>();
        let mut servers = Vec::new();
        for (index, port) in routes.iter().enumerate() {
            let cluster = format!(
                "server_name: {}\ncluster {{\n  name: murmur\n  listen: \"127.0.0.1:{port}\"\n  routes: [{}]\n}}",
                name(index),
                all.join(", ")
            );
            let configuration = if size == 1 { String::new() } else { cluster };
            servers.push(Broker::start(jetstream, &configuration).await?);
        }
        let cluster = Self { servers };
        cluster.until_ready().await?;
        Ok(cluster)
    }

    /// The servers, to be killed, stopped and resumed.
    pub fn servers(&mut self) -> &mut [Broker] {
        &mut self.servers
    }

    /// How many there are.
    pub fn size(&self) -> usize {
        self.servers.len()
    }

    /// The addresses of all, separated by commas.
    pub fn url(&self) -> String {
        self.servers.iter().map(Broker::url).collect::<Vec<_>>().join(",")
    }

    /// The address of one.
    pub fn url_of(&self, index: usize) -> String {
        self.servers[index].url()
    }

    /// A client that tries all of them, for ever.
    ///
    /// # Errors
    /// When none is there.
    pub async fn client(&self) -> Result<jetstream::Context> {
        let addresses: Vec<async_nats::ServerAddr> =
            self.servers.iter().map(|server| server.url().parse()).collect::<Result<_, _>>()?;
        let client = ConnectOptions::new()
            .ping_interval(Duration::from_secs(2))
            .connection_timeout(Duration::from_secs(2))
            .retry_on_initial_connect()
            .connect(addresses)
            .await?;
        let mut context = jetstream::new(client);
        context.set_timeout(API_TIMEOUT);
        Ok(context)
    }

    /// Waits until JetStream answers: it has elected a leader of its own.
    ///
    /// # Errors
    /// When it does not within a minute.
    pub async fn until_ready(&self) -> Result<()> {
        let context = self.client().await?;
        let answers = async {
            while context.query_account().await.is_err() {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        if tokio::time::timeout(READY, answers).await.is_err() {
            bail!("JetStream does not answer: {}", self.servers[0].log());
        }
        Ok(())
    }

    /// Which server leads a stream; the only one leads all.
    ///
    /// # Errors
    /// When nobody does at the moment.
    pub async fn leader(&self, context: &jetstream::Context, stream: &str) -> Result<usize> {
        if self.servers.len() == 1 {
            return Ok(0);
        }
        let info = api(context, &format!("STREAM.INFO.{stream}")).await?;
        let leader = info["cluster"]["leader"].as_str().unwrap_or_default();
        let index = (0..self.servers.len()).find(|index| name(*index) == leader);
        index.with_context(|| format!("nobody leads {stream}"))
    }
}

/// Asks the leader of a stream to give the lead to another.
///
/// # Errors
/// When it refuses or does not answer.
pub async fn step_down(context: &jetstream::Context, stream: &str) -> Result<()> {
    api(context, &format!("STREAM.LEADER.STEPDOWN.{stream}")).await.map(drop)
}

/// Asks the leader of a durable to give the lead to another.
///
/// # Errors
/// When it refuses or does not answer.
pub async fn durable_steps_down(context: &jetstream::Context, stream: &str, durable: &str) -> Result<()> {
    api(context, &format!("CONSUMER.LEADER.STEPDOWN.{stream}.{durable}")).await.map(drop)
}

async fn api(context: &jetstream::Context, request: &str) -> Result<Value> {
    let answer: Value = context.request(request.to_owned(), &()).await.with_context(|| request.to_owned())?;
    if let Some(error) = answer.get("error") {
        bail!("{request}: {error}");
    }
    Ok(answer)
}

fn name(index: usize) -> String {
    format!("n{}", index + 1)
}
