//! One mesh on the bus, as the controllers see it; its [`Actor`](super::actor)
//! keeps it up to date.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use async_nats::Client;
use murmur_mesh::config::StreamIdentity;
use murmur_plan::status::event_store::EventStore;
use murmur_plan::status::room::Figures;
use murmur_plan::subscription::{Found, Runs, ValidSubscription};
use serde_json::Value;
use tokio::sync::{Notify, watch};

use super::consumers::{Consumers, Owner};
use super::dead_letters;
use super::error::BusError;
use super::reports::Reports;
use crate::trust::Account;

/// How long the first attempt is waited for.
const FIRST_ATTEMPT: Duration = Duration::from_secs(3);

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
    /// Whether it was restored from a backup.
    pub restored: bool,
    /// Why a stream is not as the Mesh asks, although it can be used.
    pub refused: Option<BusError>,
}

impl Ready {
    /// The event store, as statuses know it.
    pub fn store(&self) -> EventStore {
        EventStore { created: self.event_store.0.clone(), restored: self.restored }
    }
}

/// What was read on the bus last.
#[derive(Debug, Default)]
pub struct Observed {
    /// The durables, and whether they were read since the bus was last ready.
    pub consumers: Option<Consumers>,
    /// Dead letters by (service, subscription), and the stream's mark when they were counted.
    dead_letters: Option<((u64, u64), dead_letters::Counts)>,
    /// The event store, and whether it is nearly full; `None` before the first look.
    pub event_store: Option<(Figures, bool)>,
    /// What sidecars report.
    pub reports: Reports,
}

/// What a look at the bus is news about.
#[derive(Debug, Default)]
pub(super) struct News {
    /// Subscriptions: how far they are, or that a durable came, changed or went.
    pub(super) subscriptions: BTreeSet<String>,
    /// Services: that the durable of their outbox did.
    pub(super) services: BTreeSet<String>,
}

fn now_config<'a>(consumers: &'a Option<Consumers>, name: &str) -> Option<&'a Value> {
    Some(&consumers.as_ref()?.get(name)?.config)
}

impl Observed {
    /// Takes in what was read; returns what it is news about.
    pub(super) fn take(
        &mut self,
        mut consumers: Consumers,
        counted: Option<((u64, u64), dead_letters::Counts)>,
    ) -> News {
        for (name, consumer) in self.consumers.iter().flatten() {
            if let Some(now) = consumers.get_mut(name) {
                now.progress.before = Some(consumer.progress.now);
            }
        }
        let before = self.consumers.replace(consumers).unwrap_or_default();
        let now = self.consumers.iter().flatten();
        let changed = now.filter(|(name, consumer)| before.get(*name) != Some(*consumer));
        let gone =
            before.iter().filter(|(name, _)| self.consumers.iter().all(|now| !now.contains_key(*name)));
        let mut news = News::default();
        for (name, consumer) in changed.chain(gone) {
            match consumer.owner() {
                Some(Owner::Subscription(subscription)) => {
                    news.subscriptions.insert(subscription.to_owned());
                }
                // How far it is says nothing: its service sets it to a place each time.
                Some(Owner::Microservice(service))
                    if before.get(name).map(|before| &before.config) != now_config(&self.consumers, name) =>
                {
                    news.services.insert(service.to_owned());
                }
                Some(Owner::Microservice(_)) | None => {}
            }
        }
        if let Some((mark, counts)) = counted {
            let before = self.dead_letters.replace((mark, counts.clone())).map(|(_, counts)| counts);
            let before = before.unwrap_or_default();
            let changed = counts.iter().filter(|(key, count)| before.get(*key) != Some(*count));
            let gone = before.iter().filter(|(key, _)| !counts.contains_key(*key));
            news.subscriptions.extend(changed.chain(gone).map(|((_, subscription), _)| subscription.clone()));
        }
        news
    }

    /// The mark of the dead letters that were counted last.
    pub(super) fn dead_letter_mark(&self) -> Option<(u64, u64)> {
        self.dead_letters.as_ref().map(|(mark, _)| *mark)
    }

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
    /// Held while a durable is changed, and while all are read: between the look
    /// at its owner and its removal, no other may take its name; and what was
    /// made meanwhile must not look as if it were gone.
    changing: tokio::sync::Mutex<()>,
}

impl Mesh {
    /// A mesh of which nothing is known yet.
    pub(super) fn new(
        name: String,
        account: Account,
        streams: Vec<Value>,
        state: watch::Receiver<MeshState>,
    ) -> Self {
        Self {
            name,
            account,
            state,
            observed: Mutex::default(),
            streams: watch::Sender::new(streams),
            orphaned: Notify::new(),
            changing: tokio::sync::Mutex::default(),
        }
    }

    /// What the streams should be, and word of each change.
    pub(super) fn planned_streams(&self) -> watch::Receiver<Vec<Value>> {
        self.streams.subscribe()
    }

    /// Waits until someone asks for a sweep.
    pub(super) async fn sweep_wanted(&self) {
        self.orphaned.notified().await;
    }

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

    /// The runs of a subscription as the bus showed them last; `None` before it has.
    pub fn runs(&self, subscription: &ValidSubscription) -> Option<Runs> {
        let observed = self.observed();
        let owned = observed.consumers.as_ref()?.iter();
        let owned = owned.filter(|(_, consumer)| consumer.owner_uid() == Some(&subscription.uid));
        let found: Vec<Found> = owned.map(|(name, consumer)| consumer.found(name)).collect();
        Some(Runs::of(subscription, &found))
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
