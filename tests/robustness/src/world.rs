//! A whole mesh with one service in several pods: real brokers, real sidecars.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use murmur_mesh::config::{Ordering, Subscription};
use murmur_test_support::{Sidecar, mesh};
use tokio::time::{Instant, sleep};

use crate::bed::Bed;
use crate::history::{self, History, Log, Order, Published};
use crate::service::{Behaviour, Service};

/// After how many failures an event is given up. A stopped sidecar may count a
/// time-out that was none, so it must not be too few.
const ATTEMPTS: u32 = 6;

/// A pod: a sidecar, and the service that it delivers to.
pub struct Pod {
    /// The sidecar.
    pub sidecar: Sidecar,
    /// The service.
    pub service: Service,
}

/// The mesh.
pub struct World {
    /// The bus.
    pub bed: Bed,
    /// The pods of the one service.
    pub pods: Vec<Pod>,
    /// What reached the services.
    pub log: Arc<Log>,
}

/// One subscription of each order, to every event.
///
/// # Errors
/// None in fact: the names are valid.
pub fn subscriptions() -> Result<Vec<Subscription>> {
    let orders =
        [("key", Ordering::Key { shards: 2 }), ("strict", Ordering::Strict), ("free", Ordering::None)];
    let subscription = |(name, ordering)| {
        let mut subscription = mesh::subscription(name, 1)?;
        subscription.ordering = ordering;
        if let Some(deliver) = subscription.deliver_mut() {
            deliver.timeout = Duration::from_secs(10);
        }
        subscription.retry.max_attempts = ATTEMPTS;
        subscription.retry.initial_delay = Duration::from_millis(50);
        subscription.retry.max_delay = Duration::from_millis(500);
        Ok(subscription)
    };
    orders.into_iter().map(subscription).collect()
}

impl World {
    /// Starts so many servers and pods; `behaviour` of the pod's number.
    ///
    /// # Errors
    /// When something does not start.
    pub async fn start(
        binary: &Path,
        servers: usize,
        pods: usize,
        behaviour: impl Fn(usize) -> Arc<Behaviour>,
    ) -> Result<Self> {
        let bed = Bed::start(servers, "", subscriptions()?).await?;
        let mut world = Self { bed, pods: Vec::new(), log: Arc::default() };
        for number in 0..pods {
            let service = Service::start(number, world.log.clone(), behaviour(number)).await?;
            let pod = format!("tested-{number}");
            let sidecar = world.bed.sidecar(binary, &pod, service.port()).await?;
            world.pods.push(Pod { sidecar, service });
        }
        Ok(world)
    }

    /// Where publishers reach the sidecars.
    pub fn ports(&self) -> Vec<u16> {
        self.pods.iter().map(|pod| pod.sidecar.port).collect()
    }

    /// Waits until all is delivered, or there has not become less to deliver for so long; then what happened.
    ///
    /// # Errors
    /// When the broker does not answer.
    pub async fn history(&self, published: Vec<Published>, patience: Duration) -> Result<History> {
        let (mut least, mut deadline) = (u64::MAX, Instant::now() + patience);
        let left = loop {
            let left = self.bed.left().await;
            // A busy machine takes its time for a long backlog in strict order: what becomes less is not lost.
            let now = left.as_ref().map_or(u64::MAX, |left| left.iter().map(|(_, number)| number).sum());
            if now < least {
                (least, deadline) = (now, Instant::now() + patience);
            }
            match left {
                Ok(left) if left.is_empty() || Instant::now() > deadline => break left,
                Err(error) if Instant::now() > deadline => return Err(error),
                Ok(_) | Err(_) => sleep(Duration::from_millis(200)).await,
            }
        };
        let order = |ordering| match ordering {
            Ordering::Key { .. } => Order::Key,
            Ordering::Strict => Order::Strict,
            Ordering::None => Order::None,
        };
        let subscription = |one: Subscription| history::Subscription {
            name: one.name.to_string(),
            order: order(one.ordering),
            attempts: one.retry.max_attempts as usize,
        };
        Ok(History {
            published,
            stored: self.bed.stored().await?,
            subscriptions: subscriptions()?.into_iter().map(subscription).collect(),
            deliveries: self.log.deliveries(),
            dead_letters: self.bed.dead_letters().await?,
            left,
        })
    }
}
