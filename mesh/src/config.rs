//! What the operator tells a sidecar, over the bus and in the ConfigMap that it
//! boots from. The higher [`SidecarConfig::generation`] wins.

mod milliseconds;
mod projection;
mod subscription;

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use self::projection::{On, OnChange, Projection, parts_of_run};
pub use self::subscription::{
    Batch, DeadLetterPolicy, Deliver, Ordering, Replay, Retry, Subscription, Target,
};
use crate::name::{EventType, MeshName, ServiceName};

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

#[cfg(test)]
mod tests {
    use super::*;

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
                retry: Retry {
                    max_attempts: 8,
                    initial_delay: Duration::from_secs(1),
                    factor: 2,
                    max_delay: Duration::from_secs(60),
                },
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
    fn a_field_of_a_newer_operator_does_not_stop_an_older_sidecar() {
        let text = r#"{"generation":1,"service":"a","mesh":"m","somethingNew":true}"#;
        assert!(serde_json::from_str::<SidecarConfig>(text).is_ok());
    }
}
