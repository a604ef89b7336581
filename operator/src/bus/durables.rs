//! Durables: made by `create`, put right by `update`, removed when their
//! subscription is gone.

use async_nats::Client;
use murmur_mesh::durable::OWNER_UID;
use murmur_mesh::stream;
use serde_json::{Value, json};

use super::consumers::Consumer;
use super::error::{BusError, code};
use super::request::jetstream;
use super::streams::last_sequence;
use crate::compare::missing;

/// How often a durable is read again when it changed under our hands.
const ATTEMPTS: usize = 3;
/// Until when a durable that rests is paused: the broker knows no "until told
/// otherwise". Far away, and within what its clock can count.
const PAUSED_UNTIL: &str = "2200-01-01T00:00:00Z";
/// Where a durable starts: fixed at its creation, so never part of an update.
const START: [&str; 3] = ["deliver_policy", "opt_start_seq", "opt_start_time"];

/// A durable as planned: a consumer configuration of the JetStream API whose
/// `deliver_policy` may be `new`, which stands for "from the stream's last
/// sequence as it is when the durable is made".
#[derive(Debug, Clone, PartialEq)]
pub struct Wanted {
    /// Its name.
    pub name: String,
    /// Its configuration.
    pub config: Value,
    /// Whether it hands nothing out for now.
    pub paused: bool,
}

/// Makes one durable as planned, and returns it as it is then.
///
/// `seen` is what the last reading showed; when it is as planned, nothing is
/// sent. A durable of an owner of the same name with another uid is one that a
/// deleted subscription left behind: it goes, and the new one starts where its
/// own plan says.
///
/// # Errors
/// When the broker is away or refuses.
pub async fn ensure(client: &Client, wanted: &Wanted, seen: Option<&Consumer>) -> Result<Consumer, BusError> {
    let mut seen = seen.cloned();
    for _ in 0..ATTEMPTS {
        if let Some(consumer) = &seen
            && consumer.owner_uid() != owner_uid(&wanted.config)
        {
            let Some(other) = consumer.owner_uid() else {
                return Err(BusError::DurableTaken(wanted.name.clone()));
            };
            remove(client, &wanted.name, other).await?;
            seen = None;
        }
        let answer = match &seen {
            Some(consumer) => {
                let config = updated(&wanted.config, &consumer.config);
                let Some(difference) = missing(&config, &consumer.config) else {
                    return pause(client, wanted, consumer.clone()).await;
                };
                tracing::info!(durable = wanted.name, difference, "putting a durable right");
                send(client, &wanted.name, &config, "update").await
            }
            None => {
                let mut config = started(client, &wanted.config).await?;
                if wanted.paused {
                    // So that it hands nothing out even in its first moment.
                    config["pause_until"] = json!(PAUSED_UNTIL);
                }
                send(client, &wanted.name, &config, "create").await
            }
        };
        match answer {
            Ok(consumer) => return pause(client, wanted, consumer).await,
            // It came or went since it was read: read it again.
            Err(error)
                if error.is_refused_with(code::CONSUMER_ALREADY_EXISTS)
                    || error.is_refused_with(code::CONSUMER_DOES_NOT_EXIST) =>
            {
                seen = read(client, &wanted.name).await?;
            }
            Err(error) => return Err(error),
        }
    }
    Err(BusError::Answer {
        subject: format!("$JS.API.CONSUMER.CREATE.{}.{}", stream::EVENTS, wanted.name),
        cause: format!(
            "the durable changed {ATTEMPTS} times while it was being made; it will be tried again"
        ),
    })
}

fn owner_uid(config: &Value) -> Option<&str> {
    config["metadata"][OWNER_UID].as_str()
}

/// Removes a durable if it still belongs to `owner_uid`.
///
/// # Errors
/// When the broker is away or refuses.
pub async fn remove(client: &Client, name: &str, owner_uid: &str) -> Result<bool, BusError> {
    match read(client, name).await? {
        Some(consumer) if consumer.owner_uid() == Some(owner_uid) => {}
        _ => return Ok(false),
    }
    match jetstream(client, &format!("CONSUMER.DELETE.{}.{name}", stream::EVENTS), &Value::Null).await {
        Ok(_) => {
            tracing::info!(durable = name, owner_uid, "removed a durable that is of no more use");
            Ok(true)
        }
        Err(error) if error.is_refused_with(code::CONSUMER_NOT_FOUND) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Pauses or resumes a durable, unless it is as wanted. Updates cannot: the
/// broker ignores the field in them.
async fn pause(client: &Client, wanted: &Wanted, consumer: Consumer) -> Result<Consumer, BusError> {
    if consumer.paused == wanted.paused {
        return Ok(consumer);
    }
    let until = if wanted.paused { json!({"pause_until": PAUSED_UNTIL}) } else { json!({}) };
    let answer =
        jetstream(client, &format!("CONSUMER.PAUSE.{}.{}", stream::EVENTS, wanted.name), &until).await?;
    let paused = answer["paused"].as_bool().unwrap_or_default();
    tracing::info!(durable = wanted.name, paused, "paused or resumed a durable");
    Ok(Consumer { paused, ..consumer })
}

async fn read(client: &Client, name: &str) -> Result<Option<Consumer>, BusError> {
    match jetstream(client, &format!("CONSUMER.INFO.{}.{name}", stream::EVENTS), &Value::Null).await {
        Ok(info) => Ok(Consumer::read(&info).map(|(_, consumer)| consumer)),
        Err(error) if error.is_refused_with(code::CONSUMER_NOT_FOUND) => Ok(None),
        Err(error) => Err(error),
    }
}

async fn send(client: &Client, name: &str, config: &Value, action: &str) -> Result<Consumer, BusError> {
    let request = format!("CONSUMER.CREATE.{}.{name}", stream::EVENTS);
    let body = json!({"stream_name": stream::EVENTS, "config": config, "action": action});
    let info = jetstream(client, &request, &body).await?;
    Consumer::read(&info).map(|(_, consumer)| consumer).ok_or_else(|| BusError::Answer {
        subject: format!("$JS.API.{request}"),
        cause: "it names no consumer".to_owned(),
    })
}

/// What an update asks for: the plan, but started where the live one started.
fn updated(planned: &Value, live: &Value) -> Value {
    let mut config = planned.clone();
    if let Some(config) = config.as_object_mut() {
        for field in START {
            config.remove(field);
            if let Some(value) = live.get(field) {
                config.insert(field.to_owned(), value.clone());
            }
        }
    }
    config
}

/// The configuration to create a durable with: `new` becomes a sequence, since
/// a durable with the policy `new` could never be reset.
async fn started(client: &Client, planned: &Value) -> Result<Value, BusError> {
    let mut config = planned.clone();
    if planned["deliver_policy"] == "new"
        && let Some(config) = config.as_object_mut()
    {
        let next = last_sequence(client, stream::EVENTS).await?.saturating_add(1);
        config.insert("deliver_policy".to_owned(), json!("by_start_sequence"));
        config.insert("opt_start_seq".to_owned(), json!(next));
    }
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_update_keeps_the_start_of_the_live_durable() {
        let live = json!({"deliver_policy": "by_start_sequence", "opt_start_seq": 7, "ack_wait": 1});
        let planned = json!({"deliver_policy": "new", "ack_wait": 2});
        let wanted = updated(&planned, &live);
        assert_eq!(wanted, json!({"deliver_policy": "by_start_sequence", "opt_start_seq": 7, "ack_wait": 2}));
    }
}
