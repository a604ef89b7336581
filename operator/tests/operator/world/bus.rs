//! The broker: lost, asked, connected to.

use std::sync::Arc;
use std::time::Duration;

use murmur_operator::trust::{self, Account, User};
use serde_json::Value;

use super::{SYSTEM, World};

impl World {
    /// Kills NATS and starts it again with nothing that it had.
    pub async fn nats_loses_everything(&self) -> anyhow::Result<()> {
        let mut broker = self.broker.lock().await;
        broker.kill().await?;
        std::fs::remove_dir_all(broker.folder().join("jetstream"))?;
        for entry in std::fs::read_dir(self.jwt.path())? {
            std::fs::remove_file(entry?.path())?;
        }
        broker.resume().await
    }

    /// A connection with all rights in a mesh.
    pub async fn administrator(&self, namespace: &str) -> anyhow::Result<async_nats::Client> {
        let account = self.account(namespace).await?;
        let user = account.administrator()?;
        connect(&self.nats_url, user.jwt, &user.seed, "_INBOX").await
    }

    pub async fn account(&self, namespace: &str) -> anyhow::Result<Account> {
        Ok(trust::load_account(&self.client, SYSTEM, namespace).await?)
    }

    pub fn nats_url(&self) -> &str {
        &self.nats_url
    }

    /// Asks the JetStream API of a mesh.
    pub async fn jetstream(&self, namespace: &str, request: &str, body: &Value) -> anyhow::Result<Value> {
        let client = self.administrator(namespace).await?;
        let subject = format!("$JS.API.{request}");
        // Some requests must have no body at all.
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let answer = client.request(subject, body.into()).await?;
        Ok(serde_json::from_slice(&answer.payload)?)
    }
}

/// Connects as a user.
pub async fn connect(url: &str, jwt: String, seed: &str, inbox: &str) -> anyhow::Result<async_nats::Client> {
    let pair = Arc::new(nkeys::KeyPair::from_seed(seed)?);
    let options = async_nats::ConnectOptions::with_jwt(jwt, move |nonce| {
        let pair = pair.clone();
        async move { pair.sign(&nonce).map_err(async_nats::AuthError::new) }
    });
    let options = options.custom_inbox_prefix(inbox).request_timeout(Some(Duration::from_secs(1)));
    Ok(options.connect(url).await?)
}

/// A user with everything but rights.
pub fn nobody(account: &Account, public_key: String) -> User {
    User {
        name: "nobody".to_owned(),
        public_key,
        account: account.public_key(),
        publish: vec![],
        subscribe: vec!["_INBOX.>".to_owned()],
    }
}
