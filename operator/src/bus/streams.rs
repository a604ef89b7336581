//! The streams of a mesh: made, and kept as planned as far as that is safe.
//! A stream is never deleted, and what would lose data is never changed.

use async_nats::Client;
use murmur_mesh::restoring::RESTORED;
use serde_json::{Map, Value, json};

use super::error::{BusError, code};
use super::request::jetstream;
use crate::compare::missing;

/// Creation time of the stream, as the server writes it: its identity.
pub(super) type Created = String;

/// What a stream looks like now.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Stream {
    /// Its identity.
    pub(super) created: Created,
    /// Whether it was restored from a backup.
    pub(super) restored: bool,
    /// Why it is not as planned; it can be used all the same.
    pub(super) refused: Option<BusError>,
}

/// Makes a stream as planned: created when absent, updated when it differs.
///
/// `planned` is a stream configuration of the JetStream API.
pub(super) async fn ensure_stream(client: &Client, planned: &Value) -> Result<Stream, BusError> {
    let name = planned["name"].as_str().unwrap_or_default();
    let found = match jetstream(client, &format!("STREAM.INFO.{name}"), &Value::Null).await {
        Err(error) if error.is_refused_with(code::STREAM_NOT_FOUND) => {
            let made = jetstream(client, &format!("STREAM.CREATE.{name}"), planned).await;
            match made {
                // Someone else made it since: it is read again and brought up to date.
                Err(error) if error.is_refused_with(code::STREAM_NAME_IN_USE) => {
                    jetstream(client, &format!("STREAM.INFO.{name}"), &Value::Null).await?
                }
                made => {
                    let made = made?;
                    tracing::info!(stream = name, "made a stream");
                    made
                }
            }
        }
        found => found?,
    };
    let live = &found["config"];
    let stream = read(name, &found)?;
    let Some(difference) = missing(planned, live) else { return Ok(stream) };
    let wanted = updated(planned, live, found["state"]["bytes"].as_u64().unwrap_or_default());
    if missing(&wanted, live).is_none() {
        tracing::warn!(
            stream = name,
            difference,
            "a difference that cannot be put right without loss is left"
        );
        return Ok(stream);
    }
    tracing::info!(stream = name, difference, "updating a stream");
    match jetstream(client, &format!("STREAM.UPDATE.{name}"), &wanted).await {
        Ok(updated) => read(name, &updated),
        Err(error @ BusError::Refused { .. }) => Ok(Stream { refused: Some(error), ..stream }),
        Err(error) => Err(error),
    }
}

/// The live configuration with the planned one laid over it, but for what the
/// server refuses to change (storage, retention) and for a size limit below
/// what is already stored, which would only make every publish fail.
fn updated(planned: &Value, live: &Value, bytes: u64) -> Value {
    let mut merged: Map<String, Value> = live.as_object().cloned().unwrap_or_default();
    for (key, wanted) in planned.as_object().into_iter().flatten() {
        let fixed = matches!(key.as_str(), "storage" | "retention" | "name" | "max_consumers");
        let too_small =
            key == "max_bytes" && wanted.as_i64().is_some_and(|max| max > 0 && max.unsigned_abs() < bytes);
        if !fixed && !too_small {
            merged.insert(key.clone(), wanted.clone());
        }
    }
    Value::Object(merged)
}

fn read(name: &str, info: &Value) -> Result<Stream, BusError> {
    let created = info["created"].as_str().ok_or_else(|| BusError::Answer {
        subject: format!("$JS.API.STREAM.INFO.{name}"),
        cause: "it holds no creation time".to_owned(),
    })?;
    let restored = info["config"]["metadata"][RESTORED].is_string();
    Ok(Stream { created: created.to_owned(), restored, refused: None })
}

/// Whether a stream is there.
pub(super) async fn is_there(client: &Client, name: &str) -> Result<bool, BusError> {
    match jetstream(client, &format!("STREAM.INFO.{name}"), &Value::Null).await {
        Ok(_) => Ok(true),
        Err(error) if error.is_refused_with(code::STREAM_NOT_FOUND) => Ok(false),
        Err(error) => Err(error),
    }
}

/// The last sequence of a stream, read now.
///
/// # Errors
/// When the broker is away.
pub async fn last_sequence(client: &Client, name: &str) -> Result<u64, BusError> {
    let info = jetstream(client, &format!("STREAM.INFO.{name}"), &json!({})).await?;
    Ok(info["state"]["last_seq"].as_u64().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_update_never_asks_for_less_than_is_stored() {
        let live = json!({"name": "EVENTS", "max_bytes": 1000, "num_replicas": 1, "storage": "file"});
        let planned = json!({"name": "EVENTS", "max_bytes": 500, "num_replicas": 3, "storage": "memory"});
        let wanted = updated(&planned, &live, 800);
        assert_eq!(wanted["max_bytes"], 1000);
        assert_eq!(wanted["num_replicas"], 3);
        assert_eq!(wanted["storage"], "file");
        assert_eq!(updated(&planned, &live, 400)["max_bytes"], 500);
    }
}
