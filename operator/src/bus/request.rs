//! Requests of the JetStream API, as JSON: what the operator plans is JSON too,
//! so the two can be compared as they are.

use std::time::Duration;

use async_nats::Client;
use async_nats::connection::State;
use serde_json::Value;

use super::error::BusError;

/// How long an answer may take. JetStream answers within milliseconds; after
/// this long a request was refused (which has no answer) or the broker is away.
pub(super) const TIMEOUT: Duration = Duration::from_secs(5);

/// Asks `$JS.API.<request>`.
pub(super) async fn jetstream(client: &Client, request: &str, body: &Value) -> Result<Value, BusError> {
    let subject = format!("$JS.API.{request}");
    let payload = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
    let answer = raw(client, &subject, payload).await?;
    let answer: Value = serde_json::from_slice(&answer)
        .map_err(|error| BusError::Answer { subject: subject.clone(), cause: error.to_string() })?;
    match answer.get("error") {
        None => Ok(answer),
        Some(error) => Err(BusError::Refused {
            subject,
            code: error["code"].as_u64().unwrap_or_default(),
            error_code: error["err_code"].as_u64().unwrap_or_default(),
            description: error["description"].as_str().unwrap_or_default().to_owned(),
        }),
    }
}

/// Asks anything and returns the answer's bytes.
pub(super) async fn raw(client: &Client, subject: &str, payload: Vec<u8>) -> Result<bytes::Bytes, BusError> {
    Ok(message(client, subject, payload).await?.payload)
}

/// Asks anything and returns the whole answer.
pub(super) async fn message(
    client: &Client,
    subject: &str,
    payload: Vec<u8>,
) -> Result<async_nats::Message, BusError> {
    // Without this it would wait for its whole time for a connection that is not there.
    if client.connection_state() != State::Connected {
        let cause = "the connection is lost and being made anew".to_owned();
        return Err(BusError::Request { subject: subject.to_owned(), cause });
    }
    let request = async_nats::Request::new().payload(payload.into()).timeout(Some(TIMEOUT));
    client
        .send_request(subject.to_owned(), request)
        .await
        .map_err(|error| BusError::Request { subject: subject.to_owned(), cause: error.to_string() })
}
