//! How many dead letters each subscription has, counted in the stream itself.

use std::collections::BTreeMap;

use async_nats::Client;
use murmur_mesh::stream;
use serde_json::{Value, json};

use super::error::BusError;
use super::request::jetstream;

/// The most subjects that are counted for a mesh in one reading (the server's
/// page is 100,000 long): beyond it a count is a lower bound.
const LIMIT: usize = 300_000;

/// Dead letters by (service, subscription).
pub(super) type Counts = BTreeMap<(String, String), u64>;

/// Counts the dead letters of a mesh. `known` is the count of the whole stream
/// at the last reading: when it has not changed, nothing is read but that.
pub(super) async fn count(
    client: &Client,
    known: Option<(u64, u64)>,
) -> Result<Option<((u64, u64), Counts)>, BusError> {
    let request = format!("STREAM.INFO.{}", stream::DEAD_LETTERS);
    let state = jetstream(client, &request, &Value::Null).await?["state"].clone();
    let number = |name: &str| state[name].as_u64().unwrap_or_default();
    // A letter that comes raises the last sequence; one that goes lowers the number.
    let mark = (number("last_seq"), number("messages"));
    if known == Some(mark) {
        return Ok(None);
    }
    let mut counts = Counts::new();
    let mut offset = 0;
    while offset < LIMIT {
        let page =
            jetstream(client, &request, &json!({"subjects_filter": "dead.>", "offset": offset})).await?;
        let subjects = page["state"]["subjects"].as_object().cloned().unwrap_or_default();
        offset += subjects.len();
        for (subject, count) in &subjects {
            // dead.<service>.<subscription>.<shard>.<sequence>: neither name holds a dot.
            let mut tokens = subject.split('.').skip(1);
            if let (Some(service), Some(subscription)) = (tokens.next(), tokens.next()) {
                *counts.entry((service.to_owned(), subscription.to_owned())).or_default() +=
                    count.as_u64().unwrap_or_default();
            }
        }
        if subjects.is_empty() || offset as u64 >= page["total"].as_u64().unwrap_or_default() {
            break;
        }
    }
    Ok(Some((mark, counts)))
}
