//! What the durables of a mesh look like, read for all of them at once.

use std::collections::BTreeMap;

use async_nats::Client;
use jiff::Timestamp;
use murmur_mesh::durable::{OWNER_MICROSERVICE, OWNER_NAME, OWNER_UID};
use murmur_mesh::stream;
use murmur_plan::status::subscription::{DurablePosition, DurableProgress};
use murmur_plan::subscription::Found;
use serde_json::{Value, json};

use super::error::BusError;
use super::request::jetstream;

/// The most durables of one mesh that are read: 5 times the server's default limit.
const LIMIT: usize = 5_000;

/// One durable as the broker showed it last.
#[derive(Debug, Clone, PartialEq)]
pub struct Consumer {
    /// Its configuration, as the JetStream API has it.
    pub config: Value,
    /// How far it is, and was when all durables were read the time before.
    pub progress: DurableProgress,
    /// Whether it is paused.
    pub paused: bool,
    /// When it was made.
    pub created: Timestamp,
}

impl Consumer {
    /// Reads an answer about a consumer.
    pub(super) fn read(info: &Value) -> Option<(String, Self)> {
        let number = |value: &Value| value.as_u64().unwrap_or_default();
        let position = DurablePosition {
            pending: number(&info["num_pending"]),
            ack_pending: number(&info["num_ack_pending"]),
            ack_floor: number(&info["ack_floor"]["stream_seq"]),
            delivered: number(&info["delivered"]["stream_seq"]),
            deliveries: number(&info["delivered"]["consumer_seq"]),
            deliveries_floor: number(&info["ack_floor"]["consumer_seq"]),
        };
        let consumer = Self {
            config: with_one_filter_field(info["config"].clone()),
            progress: DurableProgress { before: None, now: position },
            paused: info["paused"].as_bool().unwrap_or_default(),
            created: info["created"].as_str().and_then(|text| text.parse().ok()).unwrap_or_default(),
        };
        Some((info["name"].as_str()?.to_owned(), consumer))
    }

    /// The uid of the object that it belongs to.
    pub fn owner_uid(&self) -> Option<&str> {
        self.config["metadata"][OWNER_UID].as_str()
    }

    /// It as planning takes it.
    pub(super) fn found(&self, name: &str) -> Found {
        let metadata = self.config["metadata"].as_object().into_iter().flatten();
        let metadata = metadata.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())));
        Found { name: name.to_owned(), metadata: metadata.collect(), created: self.created }
    }

    /// Which object it belongs to.
    pub fn owner(&self) -> Option<Owner<'_>> {
        let metadata = &self.config["metadata"];
        let subscription = metadata[OWNER_NAME].as_str().map(Owner::Subscription);
        subscription.or_else(|| metadata[OWNER_MICROSERVICE].as_str().map(Owner::Microservice))
    }
}

/// The object that a durable belongs to, by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Owner<'a> {
    /// An EventSubscription.
    Subscription(&'a str),
    /// A Microservice, whose outbox it is for.
    Microservice(&'a str),
}

/// The server keeps one filter as `filter_subject` and several as
/// `filter_subjects`: here it is always the list.
fn with_one_filter_field(mut config: Value) -> Value {
    if let Some(object) = config.as_object_mut()
        && let Some(Value::String(filter)) = object.remove("filter_subject")
        && !filter.is_empty()
    {
        object.insert("filter_subjects".to_owned(), json!([filter]));
    }
    config
}

/// The durables of a mesh by name.
pub type Consumers = BTreeMap<String, Consumer>;

/// Reads all durables of the event store, page by page.
pub(super) async fn list(client: &Client) -> Result<Consumers, BusError> {
    let mut consumers = Consumers::new();
    let request = format!("CONSUMER.LIST.{}", stream::EVENTS);
    let mut offset = 0;
    while offset < LIMIT {
        let page = jetstream(client, &request, &json!({"offset": offset})).await?;
        let found = page["consumers"].as_array().map(Vec::as_slice).unwrap_or_default();
        offset += found.len();
        consumers.extend(found.iter().filter_map(Consumer::read));
        let total = page["total"].as_u64().unwrap_or_default();
        if found.is_empty() || offset as u64 >= total {
            break;
        }
    }
    Ok(consumers)
}
