//! From the event store to the service: each subscription by itself.
//!
//! [`Deliveries`] starts, changes and stops subscriptions as the configuration
//! says. One [`subscription`] is one task. It pulls from its durables
//! ([`pull`]), keeps what it got in lanes, one for each key ([`lanes`]), posts
//! to the service ([`client`], [`request`]), judges the answer ([`verdict`]),
//! holds everything while the service is unavailable ([`hold`]) and gives up
//! what the service will not take ([`dead_letter`]). [`fence`] keeps it from
//! delivering what may be another's by now, [`barrier`] from delivering before all
//! that comes first is here, and [`recall`] asks back what was lost on its way.
//! The events of a projection go to the database instead (`crate::project`). Lanes,
//! verdict, hold, barrier and recall are pure.

mod barrier;
mod batch;
mod client;
mod dead_letter;
pub(crate) mod fence;
mod hold;
mod inbox;
mod lanes;
mod pull;
mod rate;
mod recall;
mod request;
mod said;
mod subscription;
mod verdict;

pub(crate) use request::{attributes, own_headers};

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use murmur_mesh::config::{Batch, Ordering, Projection, SidecarConfig, StreamIdentity, Subscription};
use murmur_mesh::name::{ServiceName, SubscriptionName};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::board::Board;
use crate::bus::Bus;
use crate::database::DatabaseSettings;
use crate::drain::Drain;
use crate::limits::Limits;
use crate::metrics::Metrics;
use crate::peers::Peers;
use crate::publish::Publisher;
use crate::trace::Tracer;

/// Runs the subscriptions of the configuration, whatever it becomes.
pub(crate) struct Deliveries {
    pub(crate) bus: Bus,
    pub(crate) publisher: Publisher,
    pub(crate) authorization: HeaderValue,
    pub(crate) tracer: Tracer,
    pub(crate) limits: Limits,
    pub(crate) database: Option<DatabaseSettings>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) board: Arc<Board>,
    pub(crate) drain: Drain,
    pub(crate) configuration: watch::Receiver<Arc<SidecarConfig>>,
    pub(crate) peers: watch::Receiver<Arc<Peers>>,
}

/// What a subscription's task follows while it runs.
#[derive(Debug, Clone, PartialEq)]
struct Terms {
    subscription: Subscription,
    service: ServiceName,
    event_store: Option<StreamIdentity>,
    /// How many bytes of events it may keep.
    bytes: usize,
}

/// What a delivery may take where nothing is posted: projections bound their transactions themselves.
const NO_DELIVERY: Duration = Duration::from_secs(30);

impl Terms {
    /// How many deliveries there may be at once.
    fn concurrency(&self) -> usize {
        self.subscription.deliver().map_or(1, |deliver| usize::from(deliver.concurrency))
    }

    /// How long one may take.
    fn timeout(&self) -> Duration {
        self.subscription.deliver().map_or(NO_DELIVERY, |deliver| deliver.timeout)
    }

    fn batch(&self) -> Option<&Batch> {
        self.subscription.deliver()?.batch.as_ref()
    }

    fn max_per_second(&self) -> Option<u32> {
        self.subscription.deliver()?.max_per_second
    }

    /// The port of the service; none for a projection.
    fn port(&self) -> u16 {
        self.subscription.deliver().map_or(0, |deliver| deliver.port)
    }

    /// What makes another subscription of it: other durables, or other tables.
    fn character(&self) -> Character {
        let subscription = &self.subscription;
        let projection = subscription.projection().cloned();
        Character {
            ordering: subscription.ordering,
            replay: subscription.replay.as_ref().map(|replay| replay.id.clone()),
            event_store: self.event_store.clone().filter(|_| projection.is_some()),
            projection,
        }
    }
}

/// What does not change in place.
#[derive(Debug, Clone, PartialEq)]
struct Character {
    ordering: Ordering,
    replay: Option<String>,
    projection: Option<Projection>,
    /// Where positions are kept here, they belong to an event store.
    event_store: Option<StreamIdentity>,
}

/// A subscription that runs.
struct Running {
    character: Character,
    terms: watch::Sender<Terms>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Deliveries {
    /// Runs until the drain, and tells it when all have stopped.
    pub(crate) async fn run(mut self) {
        let mut running: BTreeMap<SubscriptionName, Running> = BTreeMap::new();
        let mut ending: BTreeMap<SubscriptionName, JoinHandle<()>> = BTreeMap::new();
        let drain = self.drain.clone();
        loop {
            let config = self.configuration.borrow_and_update().clone();
            self.apply(&config, &mut running, &mut ending);
            tokio::select! {
                changed = self.configuration.changed() => if changed.is_err() { break },
                () = drain.started() => break,
            }
        }
        for one in running.values() {
            one.stop.cancel();
        }
        let tasks = running.into_iter().map(|(name, one)| (name, one.task));
        for (name, task) in ending.into_iter().chain(tasks) {
            if task.await.is_err() {
                tracing::error!(subscription = %name, "its task failed");
            }
        }
        if self.bus.link().connected {
            // What was acknowledged or given back must be on its way before the pod may end.
            let _ = tokio::time::timeout(self.limits.shutdown, self.bus.client().flush()).await;
        }
        drain.finish();
    }

    fn apply(
        &self,
        config: &SidecarConfig,
        running: &mut BTreeMap<SubscriptionName, Running>,
        ending: &mut BTreeMap<SubscriptionName, JoinHandle<()>>,
    ) {
        ending.retain(|_, task| !task.is_finished());
        let wanted = |name: &SubscriptionName| config.subscriptions.iter().any(|one| one.name == *name);
        let gone: Vec<_> = running.keys().filter(|name| !wanted(name)).cloned().collect();
        for name in gone {
            if let Some(one) = running.remove(&name) {
                tracing::info!(subscription = %name, "is gone; what it has in flight is finished");
                one.stop.cancel();
                ending.insert(name, one.task);
            }
        }
        let durables: usize = config.subscriptions.iter().map(|one| one.durables().count()).sum();
        for subscription in &config.subscriptions {
            let terms = Terms {
                subscription: subscription.clone(),
                service: config.service.clone(),
                event_store: config.event_store.clone(),
                bytes: self.limits.delivery_bytes / durables.max(1) * subscription.durables().count(),
            };
            self.start_or_change(terms, running, ending);
        }
    }

    /// All but its character changes in place: nothing is lost, nothing comes twice. With
    /// another one the old task ends first.
    fn start_or_change(
        &self,
        terms: Terms,
        running: &mut BTreeMap<SubscriptionName, Running>,
        ending: &mut BTreeMap<SubscriptionName, JoinHandle<()>>,
    ) {
        let name = terms.subscription.name.clone();
        let character = terms.character();
        let before = match running.remove(&name) {
            Some(one) if one.character == character => {
                one.terms.send_if_modified(|current| {
                    let changes = *current != terms;
                    *current = terms;
                    changes
                });
                running.insert(name, one);
                return;
            }
            Some(one) => {
                one.stop.cancel();
                Some(one.task)
            }
            // It was taken away a moment ago and may still be ending.
            None => ending.remove(&name),
        };
        let (sender, receiver) = watch::channel(terms);
        let stop = CancellationToken::new();
        let runner = subscription::Runner {
            bus: self.bus.clone(),
            publisher: self.publisher.clone(),
            authorization: self.authorization.clone(),
            tracer: self.tracer.clone(),
            metrics: self.metrics.clone(),
            board: self.board.clone(),
            terms: receiver,
            peers: self.peers.clone(),
            database: self.database.clone(),
            rewind: None,
            rewound: None,
            stop: stop.clone(),
        };
        let task = tokio::spawn(async move {
            if let Some(before) = before {
                let _ = before.await;
            }
            runner.run().await;
        });
        running.insert(name, Running { character, terms: sender, stop, task });
    }
}
