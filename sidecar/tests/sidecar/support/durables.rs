//! The durables of a world, as the operator would have made them, and what is redriven to one.

use async_nats::HeaderMap;
use async_nats::jetstream::consumer::pull::Config as Durable;
use async_nats::jetstream::consumer::{AckPolicy, FromConsumer, PriorityPolicy};
use bytes::Bytes;
use murmur_mesh::durable::{ACK_WAIT, DurableName, PIN_GROUP, PIN_TIMEOUT, Shard};
use murmur_mesh::partition::Partition;
use murmur_mesh::redrive::redriven;
use murmur_mesh::stream;
use serde_json::Value;

use super::{World, eventually};

impl World {
    /// The durable by which the service reads back what came out of its outbox.
    pub(crate) async fn outbox_durable(&self) {
        murmur_test_support::mesh::outbox_durable(&self.js, "users").await.unwrap();
    }

    /// The durables of a subscription to all events.
    pub(crate) async fn durables(&self, subscription: &Value) {
        let name = subscription["name"].as_str().unwrap().parse().unwrap();
        let stream = self.js.get_stream(stream::EVENTS).await.unwrap();
        let shards: Vec<Shard> = match subscription["ordering"]["shards"].as_u64() {
            Some(shards) => (0..u16::try_from(shards).unwrap()).map(Shard::Number).collect(),
            None => vec![Shard::All],
        };
        let number = u16::try_from(shards.len()).unwrap();
        let replay = subscription["replay"]["id"].as_str();
        for shard in shards {
            let mut config = Durable {
                durable_name: Some(DurableName::new(&name, shard, replay).to_string()),
                ack_policy: AckPolicy::Explicit,
                ack_wait: ACK_WAIT,
                max_deliver: -1,
                max_ack_pending: match subscription["ordering"]["policy"].as_str() {
                    Some("key") => 512,
                    Some("strict") => 1,
                    _ => 1024,
                },
                ..Durable::default()
            };
            if let Shard::Number(index) = shard {
                config.priority_policy = PriorityPolicy::PinnedClient;
                config.priority_groups = vec![PIN_GROUP.to_owned()];
                config.priority_timeout = PIN_TIMEOUT;
                if number > 1 {
                    config.filter_subjects = Partition::of_shard(index, number)
                        .flat_map(|partition| {
                            let number = partition.number();
                            [format!("events.*.{number}.>"), format!("redrive.users.{name}.{number}")]
                        })
                        .collect();
                }
            }
            stream.create_consumer(config).await.unwrap();
        }
    }

    /// Lets a durable deliver these subjects alone.
    pub(crate) async fn filter(&self, durable: &str, subjects: &[&str]) {
        let stream = self.js.get_stream(stream::EVENTS).await.unwrap();
        let mut config = stream.consumer_info(durable).await.unwrap().config;
        config.filter_subjects = subjects.iter().map(ToString::to_string).collect();
        stream.update_consumer(Durable::try_from_consumer_config(config).unwrap()).await.unwrap();
    }

    /// Redrives a dead letter, with other data if that was repaired.
    pub(crate) async fn redrive(&self, letter: u64, repaired: Option<&'static str>) {
        let letter = self.message(stream::DEAD_LETTERS, letter).await;
        let headers: Vec<(String, String)> =
            letter.headers.iter().map(|(name, values)| (name.to_string(), values[0].to_string())).collect();
        let again = redriven(&letter.subject, &headers, letter.sequence).unwrap();
        let mut headers = HeaderMap::new();
        for (name, value) in &again.headers {
            headers.insert(name.as_str(), value.as_str());
        }
        let data = repaired.map_or(letter.payload, Bytes::from);
        self.js.publish_with_headers(again.subject, headers, data).await.unwrap().await.unwrap();
    }

    /// What a durable has not seen acknowledged: being delivered, and still to come.
    pub(crate) async fn outstanding(&self, durable: &str) -> (usize, u64) {
        let stream = self.js.get_stream(stream::EVENTS).await.unwrap();
        let info = stream.consumer_info(durable).await.unwrap();
        (info.num_ack_pending, info.num_pending)
    }

    pub(crate) async fn until_done(&self, durable: &str) {
        eventually("all events are acknowledged", async || self.outstanding(durable).await == (0, 0)).await;
    }
}
