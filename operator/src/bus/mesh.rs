//! One mesh on the bus: a task that brings its account and its streams into
//! being, keeps them so, and reads what its durables and sidecars do.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use async_nats::{Client, Subscriber};
use futures::StreamExt;
use murmur_mesh::config::StreamIdentity;
use murmur_mesh::{stream, subject};
use serde_json::Value;
use tokio::sync::{Notify, watch};
use tokio::time::{MissedTickBehavior, interval};

use super::changes::{Changed, Changes};
use super::connect::connect;
use super::consumers::{self, Consumers};
use super::dead_letters;
use super::error::BusError;
use super::reports::Reports;
use super::streams::ensure_stream;
use super::sweep::Sweep;
use super::system::SystemConnection;
use crate::trust::{Account, account_claims};

/// How often the durables are read.
const POLL: Duration = Duration::from_secs(5);
/// How often account and streams are checked and orphaned durables removed.
const CHECK: Duration = Duration::from_secs(60);
/// How long the first attempt is waited for.
const FIRST_ATTEMPT: Duration = Duration::from_secs(3);
/// Waits between attempts while NATS is away.
const RETRY: [Duration; 4] =
    [Duration::from_millis(500), Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(4)];

/// How a mesh's bus is.
#[derive(Debug, Clone)]
pub enum MeshState {
    /// Not yet tried.
    Starting,
    /// Not usable, for this cause.
    Away(String),
    /// Account pushed and verified, streams there.
    Ready(Box<Ready>),
}

/// A mesh's bus that can be used.
#[derive(Debug, Clone)]
pub struct Ready {
    /// A connection with all rights in the account.
    pub client: Client,
    /// Which event store it is.
    pub event_store: StreamIdentity,
    /// Why a stream is not as the Mesh asks, although it can be used.
    pub refused: Option<BusError>,
}

/// What was read on the bus last.
#[derive(Debug, Default)]
pub struct Observed {
    /// The durables, and whether they were read since the bus was last ready.
    pub consumers: Option<Consumers>,
    /// Dead letters by (service, subscription), and the stream's mark when they were counted.
    dead_letters: Option<((u64, u64), dead_letters::Counts)>,
    /// What sidecars report.
    pub reports: Reports,
}

impl Observed {
    /// How many dead letters a subscription has; `None` before the first count.
    pub fn dead_letters(&self, service: &str, subscription: &str) -> Option<u64> {
        let (_, counts) = self.dead_letters.as_ref()?;
        Some(counts.get(&(service.to_owned(), subscription.to_owned())).copied().unwrap_or_default())
    }
}

/// A mesh as the controllers see it.
#[derive(Debug)]
pub struct Mesh {
    /// The namespace.
    pub name: String,
    /// Its account's keys.
    pub account: Account,
    state: watch::Receiver<MeshState>,
    observed: Mutex<Observed>,
    streams: watch::Sender<Vec<Value>>,
    orphaned: Notify,
    /// Held while a durable is changed: between the look at its owner and its
    /// removal, no other may take its name.
    changing: tokio::sync::Mutex<()>,
}

impl Mesh {
    /// How its bus is now.
    pub fn state(&self) -> MeshState {
        self.state.borrow().clone()
    }

    /// Its bus, after waiting briefly for the first attempt to come to an end:
    /// that a connection is still being made is no news about the bus.
    ///
    /// # Errors
    /// As [`ready`](Self::ready).
    pub async fn settled(&self) -> Result<Ready, BusError> {
        let mut state = self.state.clone();
        let began = state.wait_for(|state| !matches!(state, MeshState::Starting));
        // Whether it came to an end or not: what is known then is the answer.
        let _ = tokio::time::timeout(FIRST_ATTEMPT, began).await;
        self.ready()
    }

    /// Its bus, if it can be used now.
    ///
    /// # Errors
    /// With the cause, while it cannot.
    pub fn ready(&self) -> Result<Ready, BusError> {
        match &*self.state.borrow() {
            MeshState::Starting => Err(BusError::Starting),
            MeshState::Away(cause) => Err(BusError::Away(cause.clone())),
            MeshState::Ready(ready) => Ok(Ready::clone(ready)),
        }
    }

    /// What was read on the bus last. Hold it briefly, never across an await.
    pub fn observed(&self) -> MutexGuard<'_, Observed> {
        // A panic while holding it leaves plain data, which is still true.
        self.observed.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Waits for the right to change durables.
    pub async fn changing(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.changing.lock().await
    }

    /// Has durables without an owner removed now instead of at the next check.
    pub fn sweep_now(&self) {
        self.orphaned.notify_one();
    }

    /// Sets what the streams should be; they are put right at once if that is new.
    pub fn plan_streams(&self, planned: Vec<Value>) {
        self.streams.send_if_modified(|current| {
            let changed = *current != planned;
            *current = planned;
            changed
        });
    }
}

/// The task behind a [`Mesh`].
pub(super) struct Actor {
    mesh: Arc<Mesh>,
    state: watch::Sender<MeshState>,
    url: String,
    system: Arc<SystemConnection>,
    changes: Changes,
    sweep: Sweep,
    client: Option<Client>,
}

impl Actor {
    /// A mesh and its task, not yet started.
    pub(super) fn new(
        name: String,
        account: Account,
        streams: Vec<Value>,
        url: String,
        system: Arc<SystemConnection>,
        changes: Changes,
        sweep: Sweep,
    ) -> Self {
        let (state, receiver) = watch::channel(MeshState::Starting);
        let mesh = Arc::new(Mesh {
            name,
            account,
            state: receiver,
            observed: Mutex::default(),
            streams: watch::Sender::new(streams),
            orphaned: Notify::new(),
            changing: tokio::sync::Mutex::default(),
        });
        Self { mesh, state, url, system, changes, sweep, client: None }
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
        self.ensure_account().await?;
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
        let mut streams = self.mesh.streams.subscribe();
        let ready = self.ensure_streams(&client).await?;
        let mut reports = subscribe(&client).await?;
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
                () = self.mesh.orphaned.notified() => self.sweep.run(&self.mesh, &client).await?,
                _ = check.tick() => {
                    self.ensure_account().await?;
                    self.enter(self.ensure_streams(&client).await?);
                    self.sweep.run(&self.mesh, &client).await?;
                }
                // The sender lives in the mesh, which lives as long as this task.
                Ok(()) = streams.changed() => self.enter(self.ensure_streams(&client).await?),
                message = reports.next() => match message {
                    Some(message) => self.take_report(&message),
                    None => reports = subscribe(&client).await?,
                },
            }
        }
    }

    async fn ensure_account(&self) -> Result<(), BusError> {
        self.system.ensure_account(&account_claims(&self.mesh.name, &self.mesh.account)).await?;
        Ok(())
    }

    async fn ensure_streams(&self, client: &Client) -> Result<MeshState, BusError> {
        let planned = self.mesh.streams.borrow().clone();
        let (mut event_store, mut refused) = (None, None);
        for config in &planned {
            let found = ensure_stream(client, config).await?;
            refused = refused.or(found.refused);
            if config["name"] == stream::EVENTS {
                event_store = Some(StreamIdentity(found.created));
            }
        }
        let event_store =
            event_store.ok_or_else(|| BusError::Away("no event store is planned".to_owned()))?;
        let lost = match &*self.state.borrow() {
            MeshState::Ready(before) => before.event_store != event_store,
            _ => true,
        };
        if lost {
            // What was read before may be of another event store.
            self.mesh.observed().consumers = None;
        }
        Ok(MeshState::Ready(Box::new(Ready { client: client.clone(), event_store, refused })))
    }

    async fn poll(&self, client: &Client) -> Result<(), BusError> {
        let consumers = consumers::list(client).await?;
        let known = self.mesh.observed().dead_letters.as_ref().map(|(mark, _)| *mark);
        let counted = dead_letters::count(client, known).await?;
        let mut news = Vec::new();
        {
            let mut observed = self.mesh.observed();
            let before = observed.consumers.replace(consumers);
            let before = before.unwrap_or_default();
            let now = observed.consumers.iter().flatten();
            let changed = now.filter(|(name, consumer)| before.get(*name) != Some(*consumer));
            let gone = before
                .iter()
                .filter(|(name, _)| observed.consumers.as_ref().is_some_and(|now| !now.contains_key(*name)));
            news.extend(
                changed.chain(gone).filter_map(|(_, consumer)| Some(consumer.owner_name()?.to_owned())),
            );
            if let Some((mark, counts)) = counted {
                let before = observed.dead_letters.replace((mark, counts.clone())).map(|(_, counts)| counts);
                let before = before.unwrap_or_default();
                let changed = counts.iter().filter(|(key, count)| before.get(*key) != Some(*count));
                let gone = before.iter().filter(|(key, _)| !counts.contains_key(*key));
                news.extend(changed.chain(gone).map(|((_, subscription), _)| subscription.clone()));
            }
        }
        news.sort_unstable();
        news.dedup();
        for subscription in news {
            self.changes.send(Changed::Subscription { mesh: self.mesh.name.clone(), subscription });
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

async fn subscribe(client: &Client) -> Result<Subscriber, BusError> {
    client.subscribe(subject::ALL_REPORTS).await.map_err(|error| BusError::Request {
        subject: subject::ALL_REPORTS.to_owned(),
        cause: error.to_string(),
    })
}
