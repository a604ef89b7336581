//! A service that is being called: its replicas, looked up anew for as long as
//! it is called.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use murmur_mesh::name::ServiceName;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::dns::Dns;
use super::replicas::{Ended, Replicas};

/// How often the replicas are looked up.
const INTERVAL: Duration = Duration::from_secs(5);
/// The same while there are none, or the lookup fails.
const EMPTY_INTERVAL: Duration = Duration::from_secs(1);
/// Without a call for this long, they are looked up no more.
const IDLE: Duration = Duration::from_secs(60);

/// What the last lookup found.
#[derive(Debug, Clone)]
enum Found {
    /// It has not ended yet.
    Nothing,
    /// What the replicas say holds.
    Replicas,
    /// It failed, and there is nothing from before.
    Failed(String),
}

/// One service.
#[derive(Debug)]
pub(super) struct Target {
    replicas: Mutex<Replicas>,
    found: watch::Sender<Found>,
    last_call: Mutex<Instant>,
}

/// A call under way to one replica; dropping it ends it.
#[derive(Debug)]
pub(super) struct Lease {
    target: Arc<Target>,
    pub(super) address: IpAddr,
    ended: Ended,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Target {
    /// One whose replicas are not known yet.
    pub(super) fn new() -> Self {
        Self {
            replicas: Mutex::default(),
            found: watch::Sender::new(Found::Nothing),
            last_call: Mutex::new(Instant::now()),
        }
    }

    /// Looks its replicas up again and again, until it is called no more.
    pub(super) async fn follow(&self, dns: &Dns, service: &ServiceName) {
        while lock(&self.last_call).elapsed() < IDLE {
            let interval = match dns.pods(service).await {
                Ok(addresses) => {
                    lock(&self.replicas).update(&addresses);
                    self.found.send_replace(Found::Replicas);
                    if addresses.is_empty() { EMPTY_INTERVAL } else { INTERVAL }
                }
                // What was found before is better than nothing.
                Err(error) => {
                    tracing::warn!(%service, %error, "cannot look up the replicas of a service");
                    if lock(&self.replicas).len() == 0 {
                        self.found.send_replace(Found::Failed(error.to_string()));
                    }
                    EMPTY_INTERVAL
                }
            };
            sleep(interval).await;
        }
    }

    /// Waits until its replicas are known; then how many there are, or why that is not known.
    pub(super) async fn known(&self) -> Result<usize, String> {
        *lock(&self.last_call) = Instant::now();
        let mut found = self.found.subscribe();
        // The sender lives as long as self.
        let found = found.wait_for(|found| !matches!(found, Found::Nothing)).await;
        match found.as_deref() {
            Ok(Found::Failed(cause)) => Err(cause.clone()),
            _ => Ok(lock(&self.replicas).len()),
        }
    }

    /// A replica for a call, other than those that were tried for it.
    pub(super) fn lease(self: &Arc<Self>, tried: &[IpAddr]) -> Option<Lease> {
        let address = lock(&self.replicas).pick(Instant::now(), tried)?;
        Some(Lease { target: self.clone(), address, ended: Ended::Abandoned })
    }
}

impl Lease {
    /// What is known of its end so far.
    pub(super) fn ends(&mut self, ended: Ended) {
        self.ended = ended;
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        lock(&self.target.replicas).ended(self.address, self.ended, Instant::now());
    }
}
