//! The service's configuration as the operator publishes it, while it changes.
//!
//! It listens first and then asks for the last one, so that no change falls
//! between; it asks again after each reconnect, and now and then, since what is
//! sent while there is no connection reaches nobody.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use murmur_mesh::config::SidecarConfig;
use murmur_mesh::subject;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

use super::Bus;
use super::credentials::Credentials;
use crate::settings::parse_config;

/// How often it asks without a reason: the last resort against a lost message.
const ASK_INTERVAL: Duration = Duration::from_secs(30);

/// Follows the configuration and hands each newer one on.
pub(crate) struct Follower {
    pub(crate) bus: Bus,
    pub(crate) credentials: Arc<Credentials>,
    pub(crate) file: PathBuf,
    pub(crate) current: watch::Sender<Arc<SidecarConfig>>,
}

impl Follower {
    /// Runs until the client is gone.
    pub(crate) async fn run(self) {
        let service = self.current.borrow().service.clone();
        let subject = subject::config(&service);
        let request = subject::config_request(&service);
        let mut changes = match self.bus.client().subscribe(subject).await {
            Ok(changes) => changes,
            Err(error) => return tracing::error!(%error, "cannot follow the configuration"),
        };
        let mut link = self.bus.watch();
        let mut ticks = interval(ASK_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                change = changes.next() => match change {
                    Some(message) => self.offer(&message.payload).await,
                    None => return,
                },
                changed = link.changed() => match changed {
                    Ok(()) => self.ask(&request).await,
                    Err(_) => return,
                },
                _ = ticks.tick() => self.ask(&request).await,
            }
        }
    }

    /// Asks the bus for the last one, or reads the file while the bus is away.
    async fn ask(&self, request: &str) {
        if !self.bus.link().connected {
            if let Ok(text) = std::fs::read(&self.file) {
                self.offer(&text).await;
            }
            return;
        }
        match self.bus.client().request(request.to_owned(), Bytes::new()).await {
            // A status instead of a message: the operator has published none yet.
            Ok(message) if message.status.is_some_and(|status| status.as_u16() >= 300) => {
                tracing::debug!(status = ?message.status, "no configuration on the bus yet");
            }
            Ok(message) => self.offer(&message.payload).await,
            Err(error) => tracing::debug!(%error, "cannot ask the bus for the configuration"),
        }
    }

    /// Takes a configuration if it is this service's and newer than the current one.
    async fn offer(&self, json: &[u8]) {
        let new = match parse_config(json) {
            Ok(new) => new,
            Err(cause) => {
                tracing::error!(%cause, "the new configuration cannot be used; the current one stays");
                return;
            }
        };
        // The JWT goes first: new subscriptions need its permissions.
        if let Some(jwt) = &new.user_jwt
            && self.credentials.receive(jwt)
        {
            tracing::info!("the bus user has new permissions; connecting again");
            let pulls = !self.current.borrow().subscriptions.is_empty();
            self.bus.connect_again(pulls).await;
        }
        let accepted = self.current.send_if_modified(|current| {
            let wins = new.generation > current.generation
                && new.service == current.service
                && new.mesh == current.mesh;
            if wins {
                *current = Arc::new(new);
            }
            wins
        });
        if accepted {
            tracing::info!(generation = self.current.borrow().generation, "new configuration");
        }
    }
}
