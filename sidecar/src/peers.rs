//! The other pods of the service, as they report themselves, and which of them
//! receives which shard.
//!
//! Every pod comes to the same result from the same reports. While their views
//! differ, a shard has two who want it, or none: pins, fences and barriers keep
//! the order then. A pod that hears not even itself knows nothing of the others,
//! and wants all.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use murmur_mesh::durable::ACK_WAIT;
use murmur_mesh::name::{ServiceName, SubscriptionName};
use murmur_mesh::report::{PEER_STALE_AFTER, Report};
use murmur_mesh::subject;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval};
use xxhash_rust::xxh3::xxh3_64;

use crate::board::Board;
use crate::bus::Bus;

/// How often it is looked who has fallen silent.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// At most so many pods share the shards; further ones get none.
const MOST_PODS: usize = 1024;
/// A pod that hears of another one for the first time has reported itself by then.
const ANSWERED: Duration = Duration::from_secs(1);

/// The pods that receive, and what pods have let go of.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Peers {
    /// This pod's place among them; `None` while it does not hear itself.
    place: Option<usize>,
    number: usize,
    released: BTreeMap<String, u64>,
    /// Since when no other pod was heard, while this one is.
    alone_since: Option<Instant>,
    /// When this pod last heard itself.
    echoed: Option<Instant>,
}

impl Peers {
    /// How many pods receive; one when that is not known.
    pub(crate) fn number(&self) -> usize {
        self.number.max(1)
    }

    /// Whether this pod receives a shard of a subscription.
    pub(crate) fn is_ours(&self, subscription: &SubscriptionName, shard: u16) -> bool {
        let Some(place) = self.place else { return true };
        // Else the first pods would have more than the last ones with many subscriptions of few shards.
        let shift = xxh3_64(subscription.as_str().as_bytes()) % self.number() as u64;
        (u64::from(shard) + shift) % self.number() as u64 == place as u64
    }

    /// Whether there is no other pod: none was heard for as long as one that fell silent may
    /// have events, and since a moment at which all were asked none has answered.
    pub(crate) fn is_alone(&self, since: Instant, now: Instant) -> bool {
        self.alone_since.is_some_and(|alone| alone + ACK_WAIT <= now)
            && self.echoed.is_some_and(|echoed| echoed > since)
            && since + ANSWERED <= now
    }

    /// The last event of a durable that a pod had been given which then let go of it cleanly.
    pub(crate) fn released(&self, durable: &str) -> Option<u64> {
        self.released.get(durable).copied()
    }
}

/// The last report of each pod. Pure.
#[derive(Debug, Default)]
struct Heard {
    reports: BTreeMap<String, Last>,
    alone_since: Option<Instant>,
}

#[derive(Debug)]
struct Last {
    came: Instant,
    /// From when on its silence counts.
    at: Instant,
    report: Report,
}

impl Heard {
    /// Takes in a report. `true`: from a pod that was not known.
    fn take(&mut self, report: Report, now: Instant) -> bool {
        if self.reports.len() >= MOST_PODS && !self.reports.contains_key(&report.pod) {
            return false;
        }
        self.reports.insert(report.pod.clone(), Last { came: now, at: now, report }).is_none()
    }

    /// Forgets who has fallen silent.
    fn prune(&mut self, now: Instant) {
        self.reports.retain(|_, last| now.duration_since(last.at) < PEER_STALE_AFTER);
    }

    /// Nobody could be heard for a while: all have their time again.
    fn excuse(&mut self, now: Instant) {
        for last in self.reports.values_mut() {
            last.at = now;
        }
    }

    fn peers(&mut self, own: &str, now: Instant) -> Peers {
        let echoed = self.reports.get(own).map(|last| last.came);
        let is_alone = echoed.is_some() && self.reports.len() == 1;
        self.alone_since = is_alone.then(|| self.alone_since.unwrap_or(now));
        let receiving = || self.reports.iter().filter(|(_, last)| !last.report.leaving);
        let released = self.reports.values().flat_map(|last| &last.report.released);
        Peers {
            place: receiving().position(|(pod, _)| pod == own),
            number: receiving().count(),
            released: released.map(|one| (one.durable.clone(), one.up_to)).collect(),
            alone_since: self.alone_since,
            echoed,
        }
    }
}

/// Listens for as long as it is polled.
pub(crate) async fn run(
    bus: Bus,
    board: Arc<Board>,
    service: ServiceName,
    pod: String,
    peers: watch::Sender<Arc<Peers>>,
) {
    let mut reports = match bus.client().subscribe(subject::report_permission(&service)).await {
        Ok(reports) => reports,
        Err(error) => return tracing::error!(%error, "cannot hear the other pods of the service"),
    };
    let (mut heard, mut link) = (Heard::default(), bus.watch());
    // From now on this pod hears itself.
    board.changed.notify_one();
    let mut ticks = interval(LOOK_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            message = reports.next() => {
                let Some(message) = message else { return };
                let Ok(report) = serde_json::from_slice::<Report>(&message.payload) else { continue };
                // Who is new shall know of this pod at once.
                if heard.take(report, Instant::now()) {
                    board.changed.notify_one();
                }
            }
            changed = link.changed() => match changed {
                Ok(()) => heard.excuse(Instant::now()),
                Err(_) => return,
            },
            _ = ticks.tick() => if bus.link().connected { heard.prune(Instant::now()) },
        }
        let new = heard.peers(&pod, Instant::now());
        peers.send_if_modified(|current| {
            let changes = **current != new;
            if changes {
                *current = Arc::new(new);
            }
            changes
        });
    }
}

#[cfg(test)]
mod tests {
    use murmur_mesh::report::Released;

    use super::*;

    fn report(pod: &str, leaving: bool) -> Report {
        Report {
            pod: pod.to_owned(),
            version: "0.1.0".to_owned(),
            generation: 1,
            subscriptions: Vec::new(),
            leaving,
            released: Vec::new(),
            outbox: None,
        }
    }

    fn heard(pods: &[&str], now: Instant) -> Heard {
        let mut heard = Heard::default();
        for pod in pods {
            heard.take(report(pod, false), now);
        }
        heard
    }

    fn shards(peers: &Peers, subscription: &str) -> Vec<u16> {
        let subscription = subscription.parse().unwrap();
        (0..4).filter(|shard| peers.is_ours(&subscription, *shard)).collect()
    }

    #[test]
    fn every_shard_has_one_pod_and_every_pod_its_share() {
        let now = Instant::now();
        let mut heard = heard(&["a", "b", "c"], now);
        for subscription in ["x", "y", "history-catalog"] {
            let shares: Vec<_> =
                ["a", "b", "c"].map(|pod| shards(&heard.peers(pod, now), subscription)).into_iter().collect();
            let mut all: Vec<_> = shares.iter().flatten().copied().collect();
            all.sort_unstable();
            assert_eq!(all, [0, 1, 2, 3]);
            assert!(shares.iter().all(|share| (1..=2).contains(&share.len())), "{shares:?}");
        }
    }

    #[test]
    fn who_hears_nobody_wants_all() {
        assert_eq!(shards(&Peers::default(), "x"), [0, 1, 2, 3]);
        let deaf = heard(&["b"], Instant::now()).peers("a", Instant::now());
        assert_eq!(shards(&deaf, "x"), [0, 1, 2, 3]);
    }

    #[test]
    fn who_leaves_or_falls_silent_shares_no_longer() {
        let now = Instant::now();
        let mut heard = heard(&["a", "b"], now);
        assert_eq!(heard.peers("a", now).number(), 2);
        heard.take(report("b", true), now);
        assert_eq!(shards(&heard.peers("a", now), "x"), [0, 1, 2, 3]);
        heard.take(report("b", false), now);
        let later = now + PEER_STALE_AFTER;
        heard.take(report("a", false), later);
        heard.prune(later);
        assert_eq!(heard.peers("a", now).number(), 1);
    }

    #[test]
    fn a_pod_is_alone_once_no_other_was_heard_for_long_and_none_answered() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let mut heard = heard(&["a"], start);
        assert!(!heard.peers("a", start).is_alone(start, after(60)), "it has not heard itself since");
        heard.take(report("a", false), after(11));
        let peers = heard.peers("a", after(11));
        assert!(!peers.is_alone(after(10), after(9)), "another may have been there a moment ago");
        assert!(!peers.is_alone(after(10), after(10)), "another may be about to answer");
        assert!(peers.is_alone(after(10), after(11)));
        assert!(!peers.is_alone(after(11), after(13)));
        heard.excuse(after(14));
        assert!(!heard.peers("a", after(14)).is_alone(after(13), after(15)), "that was no report");
        heard.take(report("b", true), after(16));
        heard.take(report("a", false), after(16));
        assert!(!heard.peers("a", after(16)).is_alone(after(15), after(17)), "who leaves may have events");
        assert!(!Peers::default().is_alone(start, after(60)));
        let b_is_gone = after(16) + PEER_STALE_AFTER;
        heard.take(report("a", false), b_is_gone);
        heard.prune(b_is_gone);
        let peers = heard.peers("a", b_is_gone);
        let since = b_is_gone - Duration::from_secs(2);
        assert!(!peers.is_alone(since, b_is_gone));
        assert!(peers.is_alone(since, b_is_gone + ACK_WAIT));
    }

    #[test]
    fn what_a_pod_let_go_of_is_known_as_long_as_it_says_so() {
        let now = Instant::now();
        let mut heard = heard(&["a"], now);
        let released = vec![Released { durable: "x-0".to_owned(), up_to: 7 }];
        heard.take(Report { released, ..report("b", true) }, now);
        assert_eq!(heard.peers("a", now).released("x-0"), Some(7));
        heard.take(report("b", true), now);
        assert_eq!(heard.peers("a", now).released("x-0"), None);
    }
}
