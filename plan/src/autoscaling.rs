//! How many pods a service should have by the events that wait for it: more at
//! once, fewer after five minutes in which fewer would have done.

use std::time::{Duration, Instant};

/// How long fewer pods must have been enough before there are fewer.
pub const PATIENCE: Duration = Duration::from_secs(300);

/// What a user asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Autoscaling {
    /// The fewest pods.
    pub min_replicas: i32,
    /// The most.
    pub max_replicas: i32,
    /// How many waiting events are one pod's share.
    pub pending_events_per_replica: u32,
}

/// What was decided last, and what has been enough since.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scale {
    /// How many pods there should be.
    pub replicas: i32,
    /// Since when fewer would have been enough, and the most that were needed
    /// in that time.
    fewer: Option<(Instant, i32)>,
}

impl Scale {
    /// The pods that are there when nothing is known of before.
    pub fn of(replicas: i32) -> Self {
        Self { replicas, fewer: None }
    }

    /// When to look again although nothing has changed; `None`: only then.
    pub fn again(&self, now: Instant) -> Option<Duration> {
        self.fewer.map(|(since, _)| PATIENCE.saturating_sub(now.duration_since(since)))
    }

    /// The next decision. `pending` is how many events wait, `None` while the
    /// bus cannot be asked: then the number stays, but for the bounds.
    #[must_use]
    pub fn next(self, autoscaling: &Autoscaling, pending: Option<u64>, now: Instant) -> Self {
        let current = self.replicas.clamp(autoscaling.min_replicas, autoscaling.max_replicas);
        let Some(pending) = pending else { return Self { replicas: current, ..self } };
        let needed = autoscaling.needed(pending);
        if needed >= current {
            return Self::of(needed);
        }
        let (since, most) = self.fewer.unwrap_or((now, needed));
        let most = most.max(needed);
        if now.duration_since(since) < PATIENCE {
            return Self { replicas: current, fewer: Some((since, most)) };
        }
        // Most of the time that was enough; less than that must prove itself anew.
        Self { replicas: most, fewer: (needed < most).then_some((now, needed)) }
    }
}

impl Autoscaling {
    /// How many pods so many waiting events need.
    fn needed(&self, pending: u64) -> i32 {
        let shares = pending.div_ceil(u64::from(self.pending_events_per_replica.max(1)));
        i32::try_from(shares).unwrap_or(i32::MAX).clamp(self.min_replicas, self.max_replicas)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SPEC: Autoscaling =
        Autoscaling { min_replicas: 1, max_replicas: 10, pending_events_per_replica: 1000 };

    /// The numbers of pods decided for what waits at these seconds, from 1 pod.
    fn decided(looks: &[(u64, u64)]) -> Vec<i32> {
        let start = Instant::now();
        let mut scale = Scale::of(1);
        let decide = |(second, pending): &(u64, u64)| {
            scale = scale.next(&SPEC, Some(*pending), start + Duration::from_secs(*second));
            scale.replicas
        };
        looks.iter().map(decide).collect()
    }

    #[test]
    fn more_events_than_the_pods_share_bring_more_pods_at_once() {
        assert_eq!(decided(&[(0, 0), (5, 1000), (10, 1001), (15, 2500), (20, u64::MAX)]), [1, 1, 2, 3, 10]);
    }

    #[test]
    fn fewer_pods_come_after_five_minutes_in_which_fewer_were_enough() {
        assert_eq!(decided(&[(0, 5000), (5, 0), (304, 0), (305, 0)]), [5, 5, 5, 1]);
    }

    #[test]
    fn a_peak_within_the_five_minutes_is_what_it_goes_down_to() {
        let looks = [(0, 5000), (5, 0), (100, 2500), (200, 0), (305, 0), (400, 0), (605, 0)];
        assert_eq!(decided(&looks), [5, 5, 5, 5, 3, 3, 1]);
    }

    #[test]
    fn what_is_needed_again_begins_the_five_minutes_anew() {
        assert_eq!(
            decided(&[(0, 5000), (5, 0), (200, 5000), (305, 0), (504, 0), (605, 0)]),
            [5, 5, 5, 5, 5, 1]
        );
    }

    #[test]
    fn while_the_bus_is_away_the_number_stays_within_its_bounds() {
        let now = Instant::now();
        assert_eq!(Scale::of(5).next(&SPEC, None, now).replicas, 5);
        assert_eq!(Scale::of(0).next(&SPEC, None, now).replicas, 1);
        assert_eq!(Scale::of(50).next(&SPEC, None, now).replicas, 10);
    }

    #[test]
    fn it_is_looked_at_again_when_the_five_minutes_are_over() {
        let start = Instant::now();
        let scale = Scale::of(5).next(&SPEC, Some(0), start);
        assert_eq!(scale.again(start + Duration::from_secs(100)), Some(Duration::from_secs(200)));
        assert_eq!(Scale::of(1).next(&SPEC, Some(0), start).again(start), None);
    }

    proptest! {
        #[test]
        fn there_are_never_fewer_pods_than_needed_nor_any_beyond_the_bounds(
            looks in prop::collection::vec((0_u64..400, 0_u64..20_000), 1..50),
        ) {
            let (mut now, mut scale) = (Instant::now(), Scale::of(1));
            for (seconds, pending) in looks {
                now += Duration::from_secs(seconds);
                scale = scale.next(&SPEC, Some(pending), now);
                prop_assert!(scale.replicas >= SPEC.needed(pending));
                prop_assert!((1..=10).contains(&scale.replicas));
            }
        }
    }
}
