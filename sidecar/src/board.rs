//! Where each subscription writes how it stands: for `/v1/status`, for the
//! operator's report and for the drain.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use murmur_mesh::name::SubscriptionName;
use murmur_mesh::report::{OutboxReport, Released, SubscriptionReport};
use serde::Serialize;
use tokio::sync::Notify;
use tokio::time::Instant;

/// How long it is said that a durable was let go of: less than the pin of who had it
/// next takes to time out.
const RELEASED_FOR: Duration = Duration::from_secs(10);

/// All subscriptions.
#[derive(Debug, Default)]
pub(crate) struct Board {
    entries: Mutex<BTreeMap<SubscriptionName, Arc<Entry>>>,
    released: Mutex<BTreeMap<String, (Instant, u64)>>,
    outbox: Mutex<Option<OutboxReport>>,
    /// Told when a subscription begins or ends to hold, comes or goes.
    pub(crate) changed: Notify,
}

/// One subscription.
#[derive(Debug, Default)]
pub(crate) struct Entry {
    pub(crate) in_flight: AtomicUsize,
    pub(crate) buffered: AtomicUsize,
    pub(crate) pending: AtomicU64,
    pub(crate) last_sequence: AtomicU64,
    timeout_milliseconds: AtomicU64,
    held: Mutex<Option<Held>>,
}

/// Why a subscription delivers nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Held {
    /// One of `murmur_mesh::report::held`.
    pub(crate) reason: &'static str,
    pub(crate) cause: String,
}

/// One subscription as `/v1/status` shows it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Standing {
    name: String,
    in_flight: usize,
    buffered: usize,
    pending: u64,
    last_delivered_sequence: u64,
    held: Option<String>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Board {
    /// The entry of a subscription, made when there is none.
    pub(crate) fn entry(&self, name: &SubscriptionName) -> Arc<Entry> {
        let entry = lock(&self.entries).entry(name.clone()).or_default().clone();
        self.changed.notify_one();
        entry
    }

    /// Takes a subscription off.
    pub(crate) fn remove(&self, name: &SubscriptionName) {
        lock(&self.entries).remove(name);
        self.changed.notify_one();
    }

    /// Says why a subscription delivers nothing, or that it does again. `true`: that is news.
    pub(crate) fn hold(&self, entry: &Entry, reason: Option<Held>) -> bool {
        let mut held = lock(&entry.held);
        let news = held.is_some() != reason.is_some();
        if *held != reason {
            *held = reason;
            self.changed.notify_one();
        }
        news
    }

    /// All, as `/v1/status` shows them.
    pub(crate) fn standings(&self) -> Vec<Standing> {
        let standing = |(name, entry): (&SubscriptionName, &Arc<Entry>)| Standing {
            name: name.to_string(),
            in_flight: entry.in_flight.load(Ordering::Relaxed),
            buffered: entry.buffered.load(Ordering::Relaxed),
            pending: entry.pending.load(Ordering::Relaxed),
            last_delivered_sequence: entry.last_sequence.load(Ordering::Relaxed),
            held: lock(&entry.held).as_ref().map(|held| held.cause.clone()),
        };
        lock(&self.entries).iter().map(standing).collect()
    }

    /// All, as the operator hears of them.
    pub(crate) fn reports(&self, most: usize) -> Vec<SubscriptionReport> {
        let report = |(name, entry): (&SubscriptionName, &Arc<Entry>)| {
            let held = lock(&entry.held).clone();
            let reason = held.as_ref().map(|held| held.reason.to_owned());
            SubscriptionReport { name: name.clone(), held: held.map(|held| held.cause), reason }
        };
        lock(&self.entries).iter().take(most).map(report).collect()
    }

    /// A pinned durable was let go of, with nothing of it left here.
    pub(crate) fn release(&self, durable: &str, up_to: u64) {
        lock(&self.released).insert(durable.to_owned(), (Instant::now(), up_to));
        self.changed.notify_one();
    }

    /// What was let go of is taken again.
    pub(crate) fn take_again(&self, durable: &str) {
        lock(&self.released).remove(durable);
    }

    /// What was let go of a moment ago.
    pub(crate) fn released(&self) -> Vec<Released> {
        let mut released = lock(&self.released);
        released.retain(|_, (at, _)| at.elapsed() < RELEASED_FOR);
        let one = |(durable, (_, up_to)): (&String, &(Instant, u64))| Released {
            durable: durable.clone(),
            up_to: *up_to,
        };
        released.iter().map(one).collect()
    }

    /// How the outbox stands, if this sidecar relays it.
    pub(crate) fn outbox(&self) -> Option<OutboxReport> {
        lock(&self.outbox).clone()
    }

    /// Says how the outbox stands.
    pub(crate) fn set_outbox(&self, report: Option<OutboxReport>) {
        let mut outbox = lock(&self.outbox);
        if *outbox != report {
            *outbox = report;
            self.changed.notify_one();
        }
    }

    /// Events that are with the service.
    pub(crate) fn deliveries_in_flight(&self) -> usize {
        lock(&self.entries).values().map(|entry| entry.in_flight.load(Ordering::Relaxed)).sum()
    }

    /// The longest that a delivery may take.
    pub(crate) fn longest_timeout(&self) -> Duration {
        let milliseconds = |entry: &Arc<Entry>| entry.timeout_milliseconds.load(Ordering::Relaxed);
        Duration::from_millis(lock(&self.entries).values().map(milliseconds).max().unwrap_or(0))
    }
}

impl Entry {
    /// How long a delivery of this subscription may take.
    pub(crate) fn set_timeout(&self, timeout: Duration) {
        let milliseconds = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
        self.timeout_milliseconds.store(milliseconds, Ordering::Relaxed);
    }
}
