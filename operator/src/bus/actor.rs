//! The task behind a mesh: it brings the account and the streams into being,
//! keeps them so, and reads what durables and sidecars do.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_nats::{Client, Subscriber};
use futures::StreamExt;
use murmur_mesh::config::StreamIdentity;
use murmur_mesh::{restoring, stream, subject};
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

use super::changes::{Changed, Changes};
use super::connect::connect;
use super::consumers;
use super::dead_letters;
use super::error::BusError;
use super::mesh::{Mesh, MeshState, Ready};
use super::stand_by::{being_restored, stand_by};
use super::store::StoreWatch;
use super::streams::{ensure_stream, is_there};
use super::sweep::Sweep;
use super::system::SystemConnection;
use crate::trust::{Account, account_claims};

/// How often the durables are read.
const POLL: Duration = Duration::from_secs(5);
/// How often account and streams are checked and orphaned durables removed.
const CHECK: Duration = Duration::from_secs(60);
/// Waits between attempts while NATS is away.
const RETRY: [Duration; 4] =
    [Duration::from_millis(500), Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(4)];

/// What a mesh's task works with.
pub(super) struct With {
    /// Where NATS listens.
    pub(super) url: String,
    /// The connection that pushes accounts.
    pub(super) system: Arc<SystemConnection>,
    /// Where news go.
    pub(super) changes: Changes,
    /// Removes what nobody owns.
    pub(super) sweep: Sweep,
    /// Watches the event store.
    pub(super) store: StoreWatch,
}

/// The task behind a [`Mesh`].
pub(super) struct Actor {
    mesh: Arc<Mesh>,
    state: watch::Sender<MeshState>,
    url: String,
    system: Arc<SystemConnection>,
    changes: Changes,
    sweep: Sweep,
    store: StoreWatch,
    client: Option<Client>,
}

impl Actor {
    /// A mesh and its task, not yet started.
    pub(super) fn new(name: String, account: Account, streams: Vec<Value>, with: With) -> Self {
        let With { url, system, changes, sweep, store } = with;
        let (state, receiver) = watch::channel(MeshState::Starting);
        let mesh = Arc::new(Mesh::new(name, account, streams, receiver));
        Self { mesh, state, url, system, changes, sweep, store, client: None }
    }

    pub(super) fn mesh(&self) -> Arc<Mesh> {
        self.mesh.clone()
    }

    /// Runs until it is dropped.
    pub(super) async fn run(mut self) {
        let mut failures = 0;
        loop {
            let began = Instant::now();
            let Err(error) = self.session().await;
            if began.elapsed() > CHECK {
                failures = 0;
            }
            let cause = error.to_string();
            tracing::warn!(mesh = self.mesh.name, cause, "the bus of the mesh is away");
            self.enter(MeshState::Away(cause));
            let delay = RETRY.get(failures).or(RETRY.last()).copied().unwrap_or(POLL);
            failures += 1;
            tokio::time::sleep(delay).await;
        }
    }

    fn enter(&self, state: MeshState) {
        let same = match (&*self.state.borrow(), &state) {
            (MeshState::Away(before), MeshState::Away(now)) => before == now,
            (MeshState::Ready(before), MeshState::Ready(now)) => {
                before.event_store == now.event_store && before.refused == now.refused
            }
            _ => false,
        };
        self.state.send_replace(state);
        if !same {
            self.changes.send(Changed::Mesh(self.mesh.name.clone()));
        }
    }

    async fn session(&mut self) -> Result<std::convert::Infallible, BusError> {
        let new = self.ensure_account().await?;
        let client = match &self.client {
            Some(client) => client.clone(),
            None => {
                let keys = |error: crate::trust::ClaimsError| BusError::Keys {
                    mesh: self.mesh.name.clone(),
                    cause: error.to_string(),
                };
                let user = self.mesh.account.administrator().map_err(keys)?;
                let name = format!("murmur-operator {}", self.mesh.name);
                self.client.insert(connect(&self.url, &name, &user).await?).clone()
            }
        };
        let mut words = subscribe(&client, restoring::SUBJECT).await?;
        // Missing although the account is not new: they may be on their way back from a backup.
        if !new
            && !is_there(&client, stream::EVENTS).await?
            && let Some(word) = being_restored(&mut words).await
        {
            self.make_way(&client, &mut words, word).await;
        }
        let mut streams = self.mesh.planned_streams();
        let ready = self.ensure_streams(&client).await?;
        let mut reports = subscribe(&client, subject::ALL_REPORTS).await?;
        self.mesh.observed().reports.listen(Instant::now());
        self.poll(&client).await?;
        // Only now: whoever looks finds the durables that are there.
        self.enter(ready);

        let (mut poll, mut check) = (interval(POLL), interval(CHECK));
        poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
        check.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = poll.tick() => self.poll(&client).await?,
                () = self.mesh.sweep_wanted() => self.sweep.run(&self.mesh, &client).await?,
                _ = check.tick() => {
                    self.ensure_account().await?;
                    self.settle(&client).await?;
                    self.sweep.run(&self.mesh, &client).await?;
                }
                // The sender lives in the mesh, which lives as long as this task.
                Ok(()) = streams.changed() => self.settle(&client).await?,
                message = reports.next() => match message {
                    Some(message) => self.take_report(&message),
                    None => reports = subscribe(&client, subject::ALL_REPORTS).await?,
                },
                word = words.next() => match word {
                    Some(word) if word.payload == restoring::DONE => {}
                    Some(word) => {
                        self.make_way(&client, &mut words, word).await;
                        self.settle(&client).await?;
                    }
                    None => words = subscribe(&client, restoring::SUBJECT).await?,
                },
            }
        }
    }

    /// Puts the streams right. Of another event store than before the durables
    /// are read first: whoever looks must not take its for none.
    async fn settle(&mut self, client: &Client) -> Result<(), BusError> {
        let ready = self.ensure_streams(client).await?;
        let unread = self.mesh.observed().consumers.is_none();
        if unread {
            self.poll(client).await?;
        }
        self.enter(ready);
        Ok(())
    }

    /// Whether the broker did not hold it before.
    async fn ensure_account(&self) -> Result<bool, BusError> {
        self.system.ensure_account(&account_claims(&self.mesh.name, &self.mesh.account)).await
    }

    /// Keeps hands off the streams until a restore has ended.
    async fn make_way(&self, client: &Client, words: &mut Subscriber, word: async_nats::Message) {
        tracing::info!(mesh = self.mesh.name, "the event store is being restored; making way");
        self.enter(MeshState::Away("the event store is being restored from a backup".to_owned()));
        stand_by(client, words, word).await;
        tracing::info!(mesh = self.mesh.name, "the restore has ended; taking over");
    }

    async fn ensure_streams(&self, client: &Client) -> Result<MeshState, BusError> {
        let planned = self.mesh.planned_streams().borrow().clone();
        let (mut event_store, mut refused) = (None, None);
        for config in &planned {
            let found = ensure_stream(client, config).await?;
            refused = refused.or(found.refused);
            if config["name"] == stream::EVENTS {
                event_store = Some((StreamIdentity(found.created), found.restored));
            }
        }
        let (event_store, restored) =
            event_store.ok_or_else(|| BusError::Away("no event store is planned".to_owned()))?;
        let lost = match &*self.state.borrow() {
            MeshState::Ready(before) => before.event_store != event_store,
            _ => true,
        };
        if lost {
            // What was read before may be of another event store.
            self.mesh.observed().consumers = None;
        }
        Ok(MeshState::Ready(Box::new(Ready { client: client.clone(), event_store, restored, refused })))
    }

    async fn poll(&mut self, client: &Client) -> Result<(), BusError> {
        let known = self.mesh.observed().dead_letter_mark();
        let counted = dead_letters::count(client, known).await?;
        let (figures, nearly_full) = self.store.look(client).await?;
        let before = self.mesh.observed().event_store.replace((figures, nearly_full));
        if before.is_none_or(|(_, was)| was != nearly_full) {
            self.changes.send(Changed::Mesh(self.mesh.name.clone()));
        }
        let news = {
            let _alone = self.mesh.changing().await;
            let consumers = consumers::list(client).await?;
            self.mesh.observed().take(consumers, counted)
        };
        for subscription in news.subscriptions {
            self.changes.send(Changed::Subscription { mesh: self.mesh.name.clone(), subscription });
        }
        for service in news.services {
            self.changes.send(Changed::Service { mesh: self.mesh.name.clone(), service });
        }
        Ok(())
    }

    fn take_report(&self, message: &async_nats::Message) {
        let news = self.mesh.observed().reports.take(&message.subject, &message.payload, Instant::now());
        if let Some(service) = news {
            self.changes.send(Changed::Service { mesh: self.mesh.name.clone(), service });
        }
    }
}

async fn subscribe(client: &Client, subject: &'static str) -> Result<Subscriber, BusError> {
    client
        .subscribe(subject)
        .await
        .map_err(|error| BusError::Request { subject: subject.to_owned(), cause: error.to_string() })
}
