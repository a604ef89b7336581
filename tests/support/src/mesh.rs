//! What the operator makes on the bus, for tests that run without one.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use async_nats::jetstream::consumer::{AckPolicy, PriorityPolicy, PullConsumer, pull};
use async_nats::jetstream::stream::{Config, DiscardPolicy};
use async_nats::subject::ToSubject;
use async_nats::{Client, Subscriber, jetstream};
use murmur_mesh::config::{
    DeadLetterPolicy, Deliver, LogLevel, Ordering, Retry, SidecarConfig, Subscription, Target,
};
use murmur_mesh::durable::{ACK_WAIT, DurableName, PIN_GROUP, PIN_TIMEOUT, Shard};
use murmur_mesh::partition::Partition;
use murmur_mesh::{stream, subject};

use crate::broker::Broker;

/// The service that the sidecar under test belongs to.
pub const SERVICE: &str = "tested";
/// The type that it may publish and that it subscribes to.
pub const EVENT_TYPE: &str = "Tick";

/// A bare client of a broker.
///
/// # Errors
/// When the broker is not there.
pub async fn client(broker: &Broker) -> Result<jetstream::Context> {
    Ok(jetstream::new(async_nats::connect(broker.url()).await?))
}

/// Subscribes, and waits until the broker knows of it: a flush only says that the request is on its way.
///
/// # Errors
/// When the broker is not there.
pub async fn subscribe(client: &Client, subject: impl ToSubject) -> Result<Subscriber> {
    let subscriber = client.subscribe(subject).await?;
    // The broker answers in order.
    jetstream::new(client.clone()).query_account().await?;
    Ok(subscriber)
}

/// Makes the streams of a mesh; the event store holds at most `max_bytes` (-1: no limit).
///
/// # Errors
/// When the broker refuses.
pub async fn streams(context: &jetstream::Context, max_bytes: i64) -> Result<()> {
    replicated_streams(context, max_bytes, 1).await
}

/// The same, each stored on so many servers.
///
/// # Errors
/// When the broker refuses.
pub async fn replicated_streams(context: &jetstream::Context, max_bytes: i64, replicas: usize) -> Result<()> {
    for (name, subjects, max_bytes) in [
        (stream::EVENTS, stream::EVENTS_SUBJECTS.as_slice(), max_bytes),
        (stream::DEAD_LETTERS, stream::DEAD_LETTERS_SUBJECTS.as_slice(), -1),
        (stream::CONFIG, stream::CONFIG_SUBJECTS.as_slice(), -1),
    ] {
        context
            .create_stream(Config {
                name: name.to_owned(),
                subjects: subjects.iter().map(ToString::to_string).collect(),
                discard: DiscardPolicy::New,
                duplicate_window: Duration::from_secs(600),
                max_bytes,
                num_replicas: replicas,
                allow_direct: name == stream::CONFIG,
                allow_atomic_publish: name == stream::EVENTS,
                ..Config::default()
            })
            .await?;
    }
    Ok(())
}

/// A configuration that may publish [`EVENT_TYPE`] and has these subscriptions.
///
/// # Errors
/// None in fact: the names are valid.
pub fn config(subscriptions: Vec<Subscription>) -> Result<SidecarConfig> {
    Ok(SidecarConfig {
        generation: 1,
        service: SERVICE.parse()?,
        mesh: "mesh".parse()?,
        event_store: None,
        publishes: vec![EVENT_TYPE.parse()?],
        schemas: BTreeMap::new(),
        subscriptions,
        answers: Vec::new(),
        asks: Vec::new(),
        calls: Vec::new(),
        outbox: false,
        log_level: LogLevel::Info,
        user_jwt: None,
    })
}

/// A subscription of one shard, in order per key, with short retries.
///
/// # Errors
/// When `name` is not one.
pub fn subscription(name: &str, port: u16) -> Result<Subscription> {
    Ok(Subscription {
        name: name.parse()?,
        ordering: Ordering::Key { shards: 1 },
        target: Target::Deliver(Deliver {
            port,
            path: "/events".into(),
            timeout: Duration::from_secs(5),
            concurrency: 16,
            batch: None,
            max_per_second: None,
        }),
        retry: Retry {
            max_attempts: 3,
            initial_delay: Duration::from_millis(100),
            factor: 2,
            max_delay: Duration::from_secs(1),
        },
        dead_letter: DeadLetterPolicy::Keep,
        filter: None,
        suspend: false,
        replay: None,
    })
}

/// Makes the durable by which a service reads back what came out of its outbox.
///
/// # Errors
/// When the broker refuses.
pub async fn outbox_durable(context: &jetstream::Context, service: &str) -> Result<()> {
    let service = service.parse()?;
    let config = pull::Config {
        durable_name: Some(DurableName::outbox(&service).to_string()),
        ack_policy: AckPolicy::None,
        filter_subjects: vec![subject::events_of(&service)],
        headers_only: true,
        ..pull::Config::default()
    };
    context.create_consumer_on_stream(config, stream::EVENTS).await?;
    Ok(())
}

/// Makes the durables of a subscription of [`SERVICE`] to every [`EVENT_TYPE`], as
/// the operator does, the filters for its own redriven dead letters included.
///
/// # Errors
/// When the broker refuses.
pub async fn durables(
    context: &jetstream::Context,
    subscription: &Subscription,
) -> Result<Vec<PullConsumer>> {
    let (service, event_type) = (SERVICE.parse()?, EVENT_TYPE.parse()?);
    let mut made = Vec::new();
    for (shard, name) in subscription.durables() {
        let mut config = pull::Config {
            durable_name: Some(name.to_string()),
            ack_policy: AckPolicy::Explicit,
            ack_wait: ACK_WAIT,
            max_deliver: -1,
            max_ack_pending: match subscription.ordering {
                Ordering::Key { .. } => 512,
                Ordering::None => 1024,
                Ordering::Strict => 1,
            },
            ..pull::Config::default()
        };
        let partitions: Vec<Option<Partition>> = match (shard, subscription.ordering) {
            (Shard::Number(number), Ordering::Key { shards }) if shards > 1 => {
                Partition::of_shard(number, shards).map(Some).collect()
            }
            _ => vec![None],
        };
        config.filter_subjects = partitions
            .into_iter()
            .flat_map(|partition| {
                [
                    subject::event_filter(None, partition, &event_type),
                    subject::redrive(&service, &subscription.name, partition),
                ]
            })
            .collect();
        if shard != Shard::All {
            config.priority_policy = PriorityPolicy::PinnedClient;
            config.priority_groups = vec![PIN_GROUP.to_owned()];
            config.priority_timeout = PIN_TIMEOUT;
        }
        made.push(context.create_consumer_on_stream(config, stream::EVENTS).await?);
    }
    Ok(made)
}
