//! The connection to the system account: it pushes the accounts of meshes and
//! checks that the server holds them.

use async_nats::Client;
use nats_jwt_rs::Claims;
use nats_jwt_rs::account::Account as AccountClaims;
use serde_json::Value;
use tokio::sync::Mutex;

use super::connect::connect;
use super::error::BusError;
use super::request;
use crate::trust::{Trust, same_account};

/// A connection that is opened when it is first needed, and mends itself.
pub struct SystemConnection {
    url: String,
    trust: Trust,
    client: Mutex<Option<Client>>,
}

impl SystemConnection {
    /// A connection not yet opened.
    pub fn new(url: String, trust: Trust) -> Self {
        Self { url, trust, client: Mutex::new(None) }
    }

    async fn client(&self) -> Result<Client, BusError> {
        let mut client = self.client.lock().await;
        if let Some(client) = &*client {
            return Ok(client.clone());
        }
        let opened = connect(&self.url, "murmur-operator system", &self.trust.system_user).await?;
        Ok(client.insert(opened).clone())
    }

    /// What the server says of itself, once it has answered a look-up.
    ///
    /// # Errors
    /// When NATS is away, or does not trust the keys.
    pub async fn server(&self) -> Result<async_nats::ServerInfo, BusError> {
        let client = self.client().await?;
        // A key that no account has: an empty answer is one too.
        lookup(&client, &nkeys::KeyPair::new_account().public_key()).await?;
        Ok(client.server_info())
    }

    /// Makes the server hold the account that `claims` describe; nothing is
    /// pushed when it already does. Returns whether something was pushed.
    ///
    /// The server's "200" to a push proves nothing: it is looked up afterwards.
    ///
    /// # Errors
    /// When NATS is away, or holds something else after the push.
    pub async fn ensure_account(&self, claims: &Claims<AccountClaims>) -> Result<bool, BusError> {
        let mesh = claims.name.clone().unwrap_or_default();
        let issuer = self.trust.signer.public_key();
        let client = self.client().await?;
        if same_account(&lookup(&client, &claims.sub).await?, claims, &issuer) {
            return Ok(false);
        }
        let jwt = claims
            .encode(&self.trust.signer)
            .map_err(|error| BusError::Keys { mesh: mesh.clone(), cause: error.to_string() })?;
        let subject = "$SYS.REQ.CLAIMS.UPDATE";
        let answer = request::raw(&client, subject, jwt.clone().into_bytes()).await?;
        let answer: Value = serde_json::from_slice(&answer)
            .map_err(|error| BusError::Answer { subject: subject.to_owned(), cause: error.to_string() })?;
        let not_stored = |cause: String| BusError::AccountNotStored { mesh: mesh.clone(), cause };
        if let Some(error) = answer.get("error") {
            return Err(not_stored(error["description"].as_str().unwrap_or("refused").to_owned()));
        }
        if lookup(&client, &claims.sub).await? != jwt {
            return Err(not_stored("a look-up after the push returned another one".to_owned()));
        }
        tracing::info!(mesh, account = claims.sub, "pushed the account of the mesh to NATS");
        Ok(true)
    }
}

/// The JWT that the server holds; empty when it holds none.
async fn lookup(client: &Client, account: &str) -> Result<String, BusError> {
    let subject = format!("$SYS.REQ.ACCOUNT.{account}.CLAIMS.LOOKUP");
    let answer = request::raw(client, &subject, Vec::new()).await?;
    Ok(String::from_utf8_lossy(&answer).trim().to_owned())
}
