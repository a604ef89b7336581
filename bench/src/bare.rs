//! What a bare client of the bus does to have events stored: each alone, or many as one atomic batch.

use anyhow::{Result, bail};
use async_nats::jetstream::publish::PublishAck;
use async_nats::jetstream::response::Response;
use async_nats::subject::ToSubject;
use async_nats::{Client, HeaderMap, jetstream};
use bytes::Bytes;
use murmur_mesh::wire::batch;

/// What makes a repeat safe: as many headers as a careful program sets.
const MESSAGE_ID: &str = "Nats-Msg-Id";

/// Publishes one, and waits until it is stored.
///
/// # Errors
/// When it is not.
pub async fn store(
    client: &jetstream::Context,
    subject: impl ToSubject,
    id: String,
    body: Bytes,
) -> Result<()> {
    let mut headers = HeaderMap::new();
    headers.insert(MESSAGE_ID, id);
    client.publish_with_headers(subject, headers, body).await?.await?;
    Ok(())
}

/// An atomic batch, sent as its events come.
pub struct Batch<'a> {
    client: &'a Client,
    subject: &'a str,
    id: String,
    sent: usize,
}

impl<'a> Batch<'a> {
    /// One that nothing has been sent of.
    pub fn begin(client: &'a Client, subject: &'a str) -> Self {
        Self { client, subject, id: client.new_inbox(), sent: 0 }
    }

    /// Sends one that is not the last.
    ///
    /// # Errors
    /// When the client has ended.
    pub async fn send(&mut self, body: Bytes) -> Result<()> {
        let headers = self.headers();
        Ok(self.client.publish_with_headers(self.subject.to_owned(), headers, body).await?)
    }

    /// Sends the last one, and waits until all are stored.
    ///
    /// # Errors
    /// When none is.
    pub async fn commit(mut self, body: Bytes) -> Result<()> {
        let mut headers = self.headers();
        headers.insert(batch::COMMIT, "1");
        let answer = self.client.request_with_headers(self.subject.to_owned(), headers, body).await?;
        match serde_json::from_slice::<Response<PublishAck>>(&answer.payload)? {
            Response::Ok(_) => Ok(()),
            Response::Err { error } => bail!("a batch was not stored: {error}"),
        }
    }

    fn headers(&mut self) -> HeaderMap {
        self.sent += 1;
        let mut headers = HeaderMap::new();
        headers.insert(MESSAGE_ID, format!("{}-{}", self.id, self.sent));
        headers.insert(batch::ID, self.id.as_str());
        headers.insert(batch::SEQUENCE, self.sent.to_string());
        headers
    }
}
