//! Which replica a call goes to. Pure.
//!
//! The one with the fewest calls under way, in turn among equals. A replica
//! that fails is avoided for a moment, longer each time; but an avoided one is
//! still better than none, so avoiding can never make a service unreachable.

use std::net::IpAddr;
use std::time::Duration;

use tokio::time::Instant;

/// For how long a replica is avoided the first time; then twice as long, and so on.
const FIRST_AVOIDANCE: Duration = Duration::from_secs(1);
/// The longest that a replica is avoided without being tried.
const LONGEST_AVOIDANCE: Duration = Duration::from_secs(30);
/// So many failures in a row and a replica that still answers is avoided.
const FAILURES: u32 = 5;

/// How a call to a replica ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    /// It answered.
    Well,
    /// It answered 5xx, or not in time.
    Failed,
    /// There is no connection to it.
    Unreachable,
    /// The caller gave up: that says nothing about the replica.
    Abandoned,
}

/// The replicas of one service.
#[derive(Debug, Default)]
pub(super) struct Replicas {
    all: Vec<Replica>,
    /// Where the next look begins.
    turn: usize,
}

#[derive(Debug)]
struct Replica {
    address: IpAddr,
    under_way: usize,
    failures: u32,
    avoidances: u32,
    avoided_until: Option<Instant>,
}

impl Replicas {
    /// These are the replicas now; what is known of those that stay is kept.
    pub(super) fn update(&mut self, addresses: &[IpAddr]) {
        self.all.retain(|replica| addresses.contains(&replica.address));
        for address in addresses {
            if !self.all.iter().any(|replica| replica.address == *address) {
                self.all.push(Replica {
                    address: *address,
                    under_way: 0,
                    failures: 0,
                    avoidances: 0,
                    avoided_until: None,
                });
            }
        }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    /// The replica for the next call, other than those that were tried for it;
    /// [`Self::ended`] must follow.
    pub(super) fn pick(&mut self, now: Instant, tried: &[IpAddr]) -> Option<IpAddr> {
        let number = self.all.len();
        let turn = self.turn;
        let best = (0..number)
            .map(|step| (turn + step) % number)
            .filter(|index| !tried.contains(&self.all[*index].address))
            .min_by_key(|index| {
                let replica = &self.all[*index];
                (replica.avoided_until.filter(|until| *until > now), replica.under_way)
            })?;
        self.turn = best + 1;
        self.all[best].under_way += 1;
        Some(self.all[best].address)
    }

    /// A call to this replica is over.
    pub(super) fn ended(&mut self, address: IpAddr, ended: Ended, now: Instant) {
        let Some(replica) = self.all.iter_mut().find(|replica| replica.address == address) else { return };
        replica.under_way = replica.under_way.saturating_sub(1);
        match ended {
            Ended::Abandoned => return,
            Ended::Well => {
                (replica.failures, replica.avoidances, replica.avoided_until) = (0, 0, None);
                return;
            }
            Ended::Failed => replica.failures += 1,
            Ended::Unreachable => replica.failures = FAILURES,
        }
        // Calls that were sent to it together fail together: that counts once.
        let is_avoided = replica.avoided_until.is_some_and(|until| until > now);
        if replica.failures >= FAILURES && !is_avoided {
            let doubled = FIRST_AVOIDANCE.saturating_mul(2_u32.saturating_pow(replica.avoidances));
            replica.avoided_until = Some(now + doubled.min(LONGEST_AVOIDANCE));
            replica.avoidances += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(last: u8) -> IpAddr {
        [10, 0, 0, last].into()
    }

    fn three() -> (Replicas, Instant) {
        let mut replicas = Replicas::default();
        replicas.update(&[ip(1), ip(2), ip(3)]);
        (replicas, Instant::now())
    }

    /// The replicas of the next calls, each over before the next.
    fn next(replicas: &mut Replicas, now: Instant, number: usize) -> Vec<IpAddr> {
        let mut picked = Vec::new();
        for _ in 0..number {
            let address = replicas.pick(now, &[]).unwrap();
            replicas.ended(address, Ended::Abandoned, now);
            picked.push(address);
        }
        picked
    }

    #[test]
    fn calls_one_after_another_go_round() {
        let (mut replicas, now) = three();
        assert_eq!(next(&mut replicas, now, 4), [ip(1), ip(2), ip(3), ip(1)]);
    }

    #[test]
    fn a_slow_replica_gets_fewer_calls() {
        let (mut replicas, now) = three();
        assert_eq!(replicas.pick(now, &[]), Some(ip(1)), "it stays busy");
        let others = next(&mut replicas, now, 10);
        assert!(!others.contains(&ip(1)), "{others:?}");
    }

    #[test]
    fn a_replica_that_cannot_be_reached_is_avoided_for_a_moment_and_longer_each_time() {
        let (mut replicas, now) = three();
        let mut later = now;
        for seconds in [1, 2, 4, 8, 16, 30, 30] {
            replicas.ended(ip(2), Ended::Unreachable, later);
            replicas.ended(ip(2), Ended::Unreachable, later);
            let last = later + Duration::from_secs(seconds) - Duration::from_millis(1);
            assert!(!next(&mut replicas, last, 6).contains(&ip(2)), "{seconds}");
            later += Duration::from_secs(seconds);
            assert!(next(&mut replicas, later, 6).contains(&ip(2)), "{seconds}");
        }
        replicas.ended(ip(2), Ended::Well, later);
        replicas.ended(ip(2), Ended::Unreachable, later);
        assert!(next(&mut replicas, later + FIRST_AVOIDANCE, 6).contains(&ip(2)), "it starts anew");
    }

    #[test]
    fn a_replica_that_answers_is_avoided_only_after_failures_in_a_row() {
        let (mut replicas, now) = three();
        for _ in 1..FAILURES {
            replicas.ended(ip(1), Ended::Failed, now);
        }
        assert!(next(&mut replicas, now, 3).contains(&ip(1)));
        replicas.ended(ip(1), Ended::Failed, now);
        assert!(!next(&mut replicas, now, 6).contains(&ip(1)));
    }

    #[test]
    fn when_all_are_avoided_the_one_whose_time_is_up_first_is_taken() {
        let (mut replicas, now) = three();
        for (last, after) in [(1, 20), (2, 0), (3, 10)] {
            replicas.ended(ip(last), Ended::Unreachable, now + Duration::from_millis(after));
        }
        assert_eq!(replicas.pick(now + Duration::from_millis(30), &[]), Some(ip(2)));
        assert_eq!(replicas.pick(now + Duration::from_millis(30), &[ip(2)]), Some(ip(3)));
        assert_eq!(replicas.pick(now, &[ip(1), ip(2), ip(3)]), None);
    }

    #[test]
    fn replicas_come_and_go_and_those_that_stay_are_known() {
        let (mut replicas, now) = three();
        replicas.ended(ip(1), Ended::Unreachable, now);
        replicas.update(&[ip(1), ip(4)]);
        assert_eq!(replicas.len(), 2);
        assert_eq!(next(&mut replicas, now, 2), [ip(4), ip(4)]);
        // A call to one that has gone may still end.
        replicas.ended(ip(3), Ended::Well, now);
        replicas.update(&[]);
        assert_eq!(replicas.pick(now, &[]), None);
    }
}
