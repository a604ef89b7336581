//! The mesh's bus, as the command line uses it: requests of the JetStream API as JSON.

use anyhow::{Context, Result, anyhow};
use async_nats::{Client, HeaderMap, Request};
use bytes::Bytes;
use murmur_mesh::api;
use serde_json::{Value, json};

use crate::stored::Stored;

/// JetStream's code for a message that is not there.
const NO_MESSAGE: u64 = 10037;
/// JetStream's code for a stream that is not there.
pub const NO_STREAM: u64 = 10059;

/// A refusal of JetStream.
#[derive(Debug, thiserror::Error)]
#[error("JetStream refused {subject}: {description} (error {code})")]
pub struct Refused {
    /// What was asked.
    subject: String,
    /// JetStream's own code.
    pub code: u64,
    description: String,
}

/// A mesh's bus.
pub struct Bus {
    /// The connection.
    pub client: Client,
    /// The namespace.
    pub mesh: String,
}

impl Bus {
    /// A bus over this connection.
    pub fn new(client: Client, mesh: String) -> Self {
        Self { client, mesh }
    }

    /// Asks and reads the JSON answer; null is an empty body.
    pub async fn ask(&self, subject: &str, body: &Value) -> Result<Value> {
        let payload = if body.is_null() { Bytes::new() } else { body.to_string().into() };
        self.send(subject, Request::new().payload(payload)).await
    }

    /// Stores a message; returns its sequence once it is stored, and whether it was there already.
    pub async fn store(
        &self,
        subject: &str,
        headers: &[(String, String)],
        payload: Bytes,
    ) -> Result<(u64, bool)> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(name.as_str(), value.as_str());
        }
        let stored = self.send(subject, Request::new().headers(map).payload(payload)).await?;
        let sequence = stored["seq"].as_u64();
        let sequence =
            sequence.with_context(|| format!("nobody stores {subject}: it was answered {stored}"))?;
        Ok((sequence, stored["duplicate"] == true))
    }

    async fn send(&self, subject: &str, request: Request) -> Result<Value> {
        let answer = self.client.send_request(subject.to_owned(), request).await.map_err(|error| {
            anyhow!("NATS did not answer {subject}: {error}; the credentials may not allow it, or it is away")
        })?;
        let answer: Value = serde_json::from_slice(&answer.payload)
            .with_context(|| format!("the answer to {subject} cannot be read"))?;
        match answer.get("error") {
            None => Ok(answer),
            Some(error) => Err(Refused {
                subject: subject.to_owned(),
                code: error["err_code"].as_u64().unwrap_or_default(),
                description: error["description"].as_str().unwrap_or("no reason given").to_owned(),
            }
            .into()),
        }
    }

    /// What a stream looks like; `None` when it is not there.
    pub async fn stream(&self, stream: &str) -> Result<Option<Value>> {
        match self.ask(&api::stream_info(stream), &Value::Null).await {
            Ok(info) => Ok(Some(info)),
            Err(error) if is_refused_with(&error, NO_STREAM) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The state of a stream that must be there.
    pub async fn state(&self, stream: &str) -> Result<Value> {
        let info = self.stream(stream).await?;
        let info = info.with_context(|| format!("the mesh {} has no stream {stream} yet", self.mesh))?;
        Ok(info["state"].clone())
    }

    /// The consumers of a stream whose leaders answer.
    pub async fn consumers(&self, stream: &str) -> Result<Vec<Value>> {
        let (mut all, mut offset) = (Vec::new(), 0);
        loop {
            let page = self.ask(&api::consumer_list(stream), &json!({"offset": offset})).await?;
            let consumers = page["consumers"].as_array().map(Vec::as_slice).unwrap_or_default();
            all.extend_from_slice(consumers);
            offset += consumers.len() as u64;
            if consumers.is_empty() || offset >= page["total"].as_u64().unwrap_or_default() {
                return Ok(all);
            }
        }
    }

    /// The last sequence of a stream that must be there. Whoever reads a stream
    /// to its end reads up to here: while others store, it has no other end.
    pub async fn last_sequence(&self, stream: &str) -> Result<u64> {
        Ok(self.state(stream).await?["last_seq"].as_u64().unwrap_or_default())
    }

    /// The message of this sequence.
    pub async fn message(&self, stream: &str, sequence: u64) -> Result<Option<Stored>> {
        self.get(stream, &json!({"seq": sequence})).await
    }

    /// The first message from this sequence whose subject the filter covers.
    pub async fn next(&self, stream: &str, filter: &str, from: u64) -> Result<Option<Stored>> {
        self.get(stream, &json!({"seq": from, "next_by_subj": filter})).await
    }

    /// The last message of a subject.
    pub async fn last(&self, stream: &str, subject: &str) -> Result<Option<Stored>> {
        self.get(stream, &json!({"last_by_subj": subject})).await
    }

    async fn get(&self, stream: &str, body: &Value) -> Result<Option<Stored>> {
        match self.ask(&api::message_get(stream), body).await {
            Ok(answer) => Stored::read(&answer["message"]).map(Some),
            Err(error) if is_refused_with(&error, NO_MESSAGE) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Deletes one message so that nothing of it is left on the disk; `false` when it was gone.
    pub async fn delete(&self, stream: &str, sequence: u64) -> Result<bool> {
        let body = json!({"seq": sequence, "no_erase": false});
        match self.ask(&api::message_delete(stream), &body).await {
            Ok(_) => Ok(true),
            Err(error) if self.message(stream, sequence).await?.is_none() => {
                // Someone else was faster; the error says so in its own way.
                drop(error);
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }
}

/// Whether JetStream refused with this code.
pub fn is_refused_with(error: &anyhow::Error, code: u64) -> bool {
    error.downcast_ref::<Refused>().is_some_and(|refused| refused.code == code)
}
