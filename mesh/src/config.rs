//! What the operator tells a sidecar, over the bus and in the ConfigMap that it
//! boots from. The higher [`SidecarConfig::generation`] wins.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::durable::{DurableName, Shard};
use crate::name::{EventType, MeshName, ServiceName, SubscriptionName};

/// The file in the ConfigMap.
pub const CONFIG_FILE: &str = "config.json";
/// The file of the bus Secret that holds the user's JWT.
pub const JWT_FILE: &str = "user.jwt";
/// The file of the bus Secret that holds the user's nkey seed.
pub const SEED_FILE: &str = "user.nk";
/// The file of the bus Secret that holds the [`MessageIdKey`](crate::message_id::MessageIdKey), in hexadecimal.
pub const MESSAGE_ID_KEY_FILE: &str = "message-id.key";
/// The file of the bus Secret that holds the token that deliveries carry.
pub const TOKEN_FILE: &str = "token";
/// The port of the sidecar's local HTTP, on loopback.
pub const LOCAL_PORT: u16 = 3600;
/// The port of the sidecar's probes and metrics, on the pod's address.
pub const ADMIN_PORT: u16 = 3601;

/// All that a sidecar needs to know about its service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SidecarConfig {
    /// Rises with every change of the rest.
    pub generation: u64,
    /// The service that this sidecar belongs to.
    pub service: ServiceName,
    /// The mesh (namespace) that it lives in.
    pub mesh: MeshName,
    /// Which event store the positions below belong to; absent until the
    /// operator has seen it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event_store: Option<StreamIdentity>,
    /// The types that the service may publish.
    #[serde(default)]
    pub publishes: Vec<EventType>,
    /// The JSON Schemas that the data of those types must meet; a type without one may carry anything.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub schemas: BTreeMap<EventType, Value>,
    /// The subscriptions that the service receives.
    #[serde(default)]
    pub subscriptions: Vec<Subscription>,
    /// The queries that the service answers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub answers: Vec<Answer>,
    /// The queries that the service may ask.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub asks: Vec<Ask>,
    /// The services that the service may call.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub calls: Vec<Call>,
    /// Whether the sidecar publishes what the service writes into the outbox of its database.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub outbox: bool,
    /// What the sidecar logs.
    #[serde(default)]
    pub log_level: LogLevel,
    /// The user's JWT, only over the bus: new permissions reach a running
    /// sidecar long before the kubelet has updated its Secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_jwt: Option<String>,
}

/// A query that the service answers: a POST on loopback.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Answer {
    /// The query's type.
    pub query: EventType,
    /// The port on loopback.
    pub port: u16,
    /// The path, which starts with `/`.
    pub path: String,
}

/// A query that the service may ask.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Ask {
    /// The query's type.
    pub query: EventType,
    /// The services of the mesh that answer it, sorted: each is asked, and an
    /// answer that is missing is said to be.
    pub services: Vec<ServiceName>,
}

/// A service that may be called.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Call {
    /// The service; its pods are found under the headless Service `<name>-pods`.
    pub service: ServiceName,
    /// Its port; absent while there is no such Microservice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// How long a call may take unless the caller says otherwise.
    #[serde(with = "milliseconds")]
    pub timeout: Duration,
}

/// A stream that was lost and made anew has another identity: sequences of one
/// say nothing about the other. It is the stream's creation time, RFC 3339.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StreamIdentity(pub String);

/// How much a sidecar logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum LogLevel {
    /// Only what failed.
    Error,
    /// Also what may fail soon.
    Warn,
    /// Also the milestones of its life.
    #[default]
    Info,
    /// Also each event's way.
    Debug,
}

/// One subscription as the sidecar runs it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Subscription {
    /// Its name.
    pub name: SubscriptionName,
    /// In which order its events are delivered.
    pub ordering: Ordering,
    /// Where to.
    #[serde(flatten)]
    pub target: Target,
    /// What happens to an event that fails.
    pub retry: Retry,
    /// What happens to an event that used up its attempts or was rejected.
    pub dead_letter: DeadLetterPolicy,
    /// A CEL expression over `event`: what it is false for is passed over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<String>,
    /// Nothing is pulled, and what was pulled but not sent is given back.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub suspend: bool,
    /// The replay that it runs, once there has been one. Its durables are others
    /// than before it, so no late acknowledgement can count in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replay: Option<Replay>,
}

impl Subscription {
    /// The durables that it pulls from.
    pub fn durables(&self) -> impl Iterator<Item = (Shard, DurableName)> {
        let replay = self.replay.as_ref().map(|replay| replay.id.as_str());
        self.ordering.shards().map(move |shard| (shard, DurableName::new(&self.name, shard, replay)))
    }
}

impl Subscription {
    /// How its events reach the service, if they do.
    pub fn deliver(&self) -> Option<&Deliver> {
        match &self.target {
            Target::Deliver(deliver) => Some(deliver),
            Target::Projection(_) => None,
        }
    }

    /// The same, to be changed.
    pub fn deliver_mut(&mut self) -> Option<&mut Deliver> {
        match &mut self.target {
            Target::Deliver(deliver) => Some(deliver),
            Target::Projection(_) => None,
        }
    }

    /// The read model that they are applied to, if it is one.
    pub fn projection(&self) -> Option<&Projection> {
        match &self.target {
            Target::Deliver(_) => None,
            Target::Projection(projection) => Some(projection),
        }
    }
}

/// What becomes of a subscription's events.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Target {
    /// They are posted to the service.
    Deliver(Deliver),
    /// They are applied to the service's database.
    Projection(Projection),
}

/// A read model: tables in the service's database, and what each event changes in them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Projection {
    /// The tables that it owns.
    pub tables: Vec<String>,
    /// What a change of schema or statements means.
    pub on_change: OnChange,
    /// The statements that make the tables.
    pub schema: String,
    /// What each event changes.
    pub on: Vec<On>,
}

/// What a change of a projection's schema or statements means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum OnChange {
    /// Its tables are built anew from the history of events.
    Rebuild,
    /// They stay, and the change counts from then on.
    Keep,
}

/// What an event of one type changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct On {
    /// The type.
    #[serde(rename = "type")]
    pub event_type: EventType,
    /// SQL with placeholders.
    pub sql: String,
}

impl Projection {
    /// What tells this definition from others: of its tables, schema and statements.
    pub fn fingerprint(&self) -> String {
        let on = self.on.iter().map(|on| (on.event_type.as_str(), on.sql.as_str()));
        let parts = self.tables.iter().map(|table| ("", table.as_str()));
        let parts = parts.chain([("schema", self.schema.as_str())]).chain(on);
        let mut text = String::new();
        for (name, part) in parts {
            // Lengths keep parts apart.
            text.push_str(&format!("{}:{name}{}:{part}", name.len(), part.len()));
        }
        format!("{:016x}", xxhash_rust::xxh3::xxh3_64(text.as_bytes()))
    }
}

/// A subscription that has started over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Replay {
    /// Its id, as the user gave it.
    pub id: String,
    /// The last sequence of the event store when it began: up to here events
    /// are deliveries of the replay (`murmur-replay`), after it they are live.
    pub boundary: u64,
}

/// In which order the events of a subscription are delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "policy", rename_all = "camelCase")]
pub enum Ordering {
    /// In order per key; the durables are pinned and cover a share each.
    Key {
        /// How many durables; divides the number of partitions.
        shards: u16,
    },
    /// None; one durable, pulled by all replicas.
    None,
    /// The order of the event store; one durable, of which one event is out at a time.
    Strict,
}

impl Ordering {
    /// The shards of a subscription with this ordering.
    pub fn shards(self) -> impl Iterator<Item = Shard> {
        let (numbers, all) = match self {
            Self::Key { shards } => (0..shards, None),
            Self::None | Self::Strict => (0..0, Some(Shard::All)),
        };
        numbers.map(Shard::Number).chain(all)
    }
}

/// Where and how events are delivered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Deliver {
    /// The service's port on loopback.
    pub port: u16,
    /// The path, which starts with `/`.
    pub path: String,
    /// How long one attempt may take.
    #[serde(with = "milliseconds")]
    pub timeout: Duration,
    /// How many events of this subscription are with the service at once, per pod;
    /// how many batches, if it takes batches.
    pub concurrency: u16,
    /// Several events in one POST.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch: Option<Batch>,
    /// How many events a second the service receives at most, over all its pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_per_second: Option<u32>,
}

/// Deliveries of several events at once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Batch {
    /// How many events at most.
    pub max_events: u16,
    /// How long an event waits for others.
    #[serde(with = "milliseconds")]
    pub max_wait: Duration,
}

/// What happens to an event that fails.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Retry {
    /// How often it is tried before it becomes a dead letter.
    pub max_attempts: u32,
    /// The wait after the first failure.
    #[serde(with = "milliseconds")]
    pub initial_delay: Duration,
    /// By how much the wait grows with each failure.
    pub factor: u32,
    /// The longest wait.
    #[serde(with = "milliseconds")]
    pub max_delay: Duration,
}

impl Retry {
    /// The wait after failure number `attempt` (from 1), before jitter.
    pub fn delay_after(&self, attempt: u32) -> Duration {
        let grown = self.factor.saturating_pow(attempt.saturating_sub(1));
        self.initial_delay.saturating_mul(grown).min(self.max_delay)
    }
}

/// What happens to an event that used up its attempts or was rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum DeadLetterPolicy {
    /// It is kept in the stream of dead letters.
    Keep,
    /// It is dropped.
    Discard,
}

/// Durations travel as whole milliseconds.
mod milliseconds {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(value: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(u64::try_from(value.as_millis()).unwrap_or(u64::MAX))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        u64::deserialize(deserializer).map(Duration::from_millis)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn retry() -> Retry {
        Retry {
            max_attempts: 8,
            initial_delay: Duration::from_secs(1),
            factor: 2,
            max_delay: Duration::from_secs(60),
        }
    }

    #[test]
    fn the_wait_between_attempts_doubles_up_to_its_bound() {
        let seconds: Vec<_> = (1..=8).map(|attempt| retry().delay_after(attempt).as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(retry().delay_after(u32::MAX), Duration::from_secs(60));
    }

    #[test]
    fn a_configuration_survives_its_json_form() {
        let config = SidecarConfig {
            generation: 3,
            service: "history".parse().unwrap(),
            mesh: "shop".parse().unwrap(),
            event_store: Some(StreamIdentity("2026-11-21T09:00:00Z".into())),
            publishes: vec!["Viewed".parse().unwrap()],
            schemas: BTreeMap::from([("Viewed".parse().unwrap(), serde_json::json!({"type": "object"}))]),
            answers: vec![Answer { query: "History".parse().unwrap(), port: 8081, path: "/q".into() }],
            asks: vec![Ask { query: "Users".parse().unwrap(), services: vec!["users".parse().unwrap()] }],
            calls: vec![Call {
                service: "users".parse().unwrap(),
                port: Some(8080),
                timeout: Duration::from_secs(2),
            }],
            subscriptions: vec![Subscription {
                name: "history-catalog".parse().unwrap(),
                ordering: Ordering::Key { shards: 4 },
                target: Target::Deliver(Deliver {
                    port: 8080,
                    path: "/events/products".into(),
                    timeout: Duration::from_secs(30),
                    concurrency: 16,
                    batch: Some(Batch { max_events: 100, max_wait: Duration::from_millis(50) }),
                    max_per_second: Some(200),
                }),
                retry: retry(),
                dead_letter: DeadLetterPolicy::Keep,
                filter: Some("event.data.price > 10.0".into()),
                suspend: true,
                replay: Some(Replay { id: "2026-11-21".into(), boundary: 70 }),
            }],
            outbox: true,
            log_level: LogLevel::Info,
            user_jwt: None,
        };
        let text = serde_json::to_string_pretty(&config).unwrap();
        insta::assert_snapshot!(text);
        assert_eq!(serde_json::from_str::<SidecarConfig>(&text).unwrap(), config);
    }

    #[test]
    fn a_projection_survives_its_json_form() {
        let json = serde_json::json!({
            "name": "catalog",
            "ordering": {"policy": "key", "shards": 1},
            "projection": {
                "tables": ["products"],
                "onChange": "rebuild",
                "schema": "CREATE TABLE products (id TEXT)",
                "on": [{"type": "ProductCreated", "sql": "INSERT INTO products VALUES (:data.id)"}],
            },
            "retry": {"maxAttempts": 8, "initialDelay": 1000, "factor": 2, "maxDelay": 60_000},
            "deadLetter": "keep",
        });
        let subscription: Subscription = serde_json::from_value(json.clone()).unwrap();
        assert!(subscription.deliver().is_none());
        assert_eq!(subscription.projection().unwrap().tables, ["products"]);
        assert_eq!(serde_json::to_value(&subscription).unwrap(), json);
    }

    #[test]
    fn a_changed_statement_makes_another_definition_and_onchange_does_not() {
        let one = Projection {
            tables: vec!["a".into()],
            on_change: OnChange::Rebuild,
            schema: "CREATE TABLE a (b)".into(),
            on: vec![On { event_type: "T".parse().unwrap(), sql: "DELETE FROM a".into() }],
        };
        let mut other = Projection { on_change: OnChange::Keep, ..one.clone() };
        assert_eq!(one.fingerprint(), other.fingerprint());
        other.on[0].sql.push(' ');
        assert_ne!(one.fingerprint(), other.fingerprint());
    }

    #[test]
    fn a_field_of_a_newer_operator_does_not_stop_an_older_sidecar() {
        let text = r#"{"generation":1,"service":"a","mesh":"m","somethingNew":true}"#;
        assert!(serde_json::from_str::<SidecarConfig>(text).is_ok());
    }
}
