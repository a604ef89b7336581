//! Whether the service is there at all. Pure.
//!
//! While it is not, the subscription holds: nothing is sent but one event at a
//! time, as a probe, further and further apart. A service that is merely away
//! must not turn events into dead letters, so what fails meanwhile is no attempt.

use std::collections::HashSet;
use std::hash::Hash;
use std::time::Duration;

use tokio::time::Instant;

use super::verdict::Verdict;

/// So many different events failing in a row mean that it is the service, not the events.
pub(super) const FAILURES_IN_A_ROW: usize = 20;
/// The wait before the first probe.
const FIRST_PROBE: Duration = Duration::from_millis(250);
/// The longest wait between probes that the sidecar chooses itself.
const LONGEST_PROBE: Duration = Duration::from_secs(10);
/// The longest wait that the service may ask for with `Retry-After`.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(600);

/// The state of one subscription's service; `P` names an event.
#[derive(Debug)]
pub(super) struct Hold<P> {
    /// Different events that failed since the last success.
    failed: HashSet<P>,
    held: Option<Held<P>>,
}

#[derive(Debug)]
struct Held<P> {
    cause: String,
    /// A failing service answers, so only a success ends that hold; one that
    /// was not there is back with any answer.
    failing: bool,
    probe: Option<P>,
    next: Instant,
    delay: Duration,
}

/// What may be sent now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum May {
    /// Whatever is ready.
    SendAll,
    /// One event, as a probe.
    Probe,
    /// Nothing before this moment.
    WaitUntil(Instant),
    /// Nothing before the probe under way is answered.
    WaitForProbe,
}

/// Whether a failure counts as an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Counts {
    /// It does.
    Yes,
    /// It does not: the service is unavailable.
    No,
}

impl<P: Eq + Hash + Copy> Hold<P> {
    /// The service is taken to be there.
    pub(super) fn new() -> Self {
        Self { failed: HashSet::new(), held: None }
    }

    /// Why the subscription holds, if it does.
    pub(super) fn cause(&self) -> Option<&str> {
        self.held.as_ref().map(|held| held.cause.as_str())
    }

    /// What may be sent.
    pub(super) fn may(&self, now: Instant) -> May {
        match &self.held {
            None => May::SendAll,
            Some(held) if held.probe.is_some() => May::WaitForProbe,
            Some(held) if now < held.next => May::WaitUntil(held.next),
            Some(_) => May::Probe,
        }
    }

    /// An event was sent as the probe.
    pub(super) fn probing(&mut self, event: P) {
        if let Some(held) = &mut self.held {
            held.probe = Some(event);
        }
    }

    /// The service answered for an event.
    pub(super) fn judged(&mut self, event: P, verdict: &Verdict, now: Instant) -> Counts {
        let was_probe = self.held.as_ref().is_some_and(|held| held.probe == Some(event));
        match verdict {
            Verdict::Done | Verdict::Rejected(_) => {
                self.open();
                Counts::Yes
            }
            Verdict::Unavailable { cause, retry_after } => {
                let wait = retry_after.map(|wait| wait.min(LONGEST_RETRY_AFTER));
                self.hold(cause, false, was_probe, wait, now);
                Counts::No
            }
            Verdict::Failed(cause) => self.failed(event, cause, was_probe, now),
        }
    }

    fn failed(&mut self, event: P, cause: &str, was_probe: bool, now: Instant) -> Counts {
        match &self.held {
            // It answers again, if not well: the event's own attempts count from here.
            Some(held) if was_probe && !held.failing => {
                self.open();
                self.failed.insert(event);
                Counts::Yes
            }
            Some(_) if was_probe => {
                self.hold(cause, true, true, None, now);
                Counts::No
            }
            // Sent before the hold began.
            Some(_) => Counts::No,
            None => {
                self.failed.insert(event);
                if self.failed.len() < FAILURES_IN_A_ROW {
                    return Counts::Yes;
                }
                let cause = format!("the last {FAILURES_IN_A_ROW} events have all failed: {cause}");
                self.hold(&cause, true, false, None, now);
                Counts::No
            }
        }
    }

    fn open(&mut self) {
        self.failed.clear();
        self.held = None;
    }

    fn hold(&mut self, cause: &str, failing: bool, was_probe: bool, wait: Option<Duration>, now: Instant) {
        match &mut self.held {
            None => {
                let next = now + wait.unwrap_or(FIRST_PROBE).max(FIRST_PROBE);
                self.held =
                    Some(Held { cause: cause.to_owned(), failing, probe: None, next, delay: FIRST_PROBE });
            }
            Some(held) => {
                if was_probe {
                    held.probe = None;
                    held.delay = (held.delay * 2).min(LONGEST_PROBE);
                    held.next = now + held.delay;
                    held.failing = failing;
                    if !failing {
                        cause.clone_into(&mut held.cause);
                    }
                }
                if let Some(wait) = wait {
                    held.next = held.next.max(now + wait);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unavailable(retry_after: Option<u64>) -> Verdict {
        Verdict::Unavailable { cause: "refused".into(), retry_after: retry_after.map(Duration::from_secs) }
    }

    fn failed() -> Verdict {
        Verdict::Failed("500".into())
    }

    /// The moments at which a service that stays away is probed, in milliseconds.
    fn probes(verdict: &Verdict, number: usize) -> Vec<u128> {
        let start = Instant::now();
        let mut hold = Hold::new();
        hold.judged(1, verdict, start);
        let mut now = start;
        let mut moments = Vec::new();
        for _ in 0..number {
            let May::WaitUntil(next) = hold.may(now) else { panic!("it must wait") };
            now = next;
            assert_eq!(hold.may(now), May::Probe);
            moments.push((now - start).as_millis());
            hold.probing(1);
            assert_eq!(hold.may(now), May::WaitForProbe);
            assert_eq!(hold.judged(1, verdict, now), Counts::No);
        }
        moments
    }

    #[test]
    fn a_service_that_is_away_is_probed_further_and_further_apart_up_to_ten_seconds() {
        assert_eq!(probes(&unavailable(None), 8), [250, 750, 1750, 3750, 7750, 15750, 25750, 35750]);
    }

    #[test]
    fn the_service_may_ask_to_be_left_alone_for_longer_but_not_for_ever() {
        assert_eq!(probes(&unavailable(Some(30)), 2), [30_000, 60_000]);
        assert_eq!(probes(&unavailable(Some(86_400)), 1), [600_000]);
    }

    #[test]
    fn any_answer_ends_the_hold_of_a_service_that_was_away() {
        for (answer, counts) in [
            (Verdict::Done, Counts::Yes),
            (Verdict::Rejected(String::new()), Counts::Yes),
            (failed(), Counts::Yes),
        ] {
            let now = Instant::now();
            let mut hold = Hold::new();
            hold.judged(1, &unavailable(None), now);
            hold.probing(1);
            assert_eq!(hold.judged(1, &answer, now), counts);
            assert_eq!(hold.may(now), May::SendAll);
        }
    }

    #[test]
    fn twenty_different_events_failing_in_a_row_are_the_services_fault() {
        let now = Instant::now();
        let mut hold = Hold::new();
        for event in 1..20 {
            assert_eq!(hold.judged(event, &failed(), now), Counts::Yes);
        }
        assert_eq!(hold.judged(1, &failed(), now), Counts::Yes, "one of them again is no other one");
        assert_eq!(hold.may(now), May::SendAll);
        assert_eq!(hold.judged(20, &failed(), now), Counts::No);
        assert!(matches!(hold.may(now), May::WaitUntil(_)));
        // Another failure does not end that hold, a success does.
        let later = now + Duration::from_secs(1);
        hold.probing(7);
        assert_eq!(hold.judged(7, &failed(), later), Counts::No);
        assert!(hold.cause().is_some());
        hold.probing(8);
        assert_eq!(hold.judged(8, &Verdict::Done, later), Counts::Yes);
        assert_eq!(hold.cause(), None);
    }

    #[test]
    fn a_success_between_failures_starts_the_count_anew() {
        let now = Instant::now();
        let mut hold = Hold::new();
        for event in 1..=100 {
            assert_eq!(hold.judged(event, &failed(), now), Counts::Yes);
            if event % 19 == 0 {
                hold.judged(1000 + event, &Verdict::Done, now);
            }
        }
    }

    #[test]
    fn what_was_sent_before_the_hold_and_fails_during_it_is_no_attempt() {
        let now = Instant::now();
        let mut hold = Hold::new();
        hold.judged(1, &unavailable(None), now);
        assert_eq!(hold.judged(2, &failed(), now), Counts::No);
        assert_eq!(hold.judged(3, &unavailable(None), now), Counts::No);
        assert_eq!(hold.may(now), May::WaitUntil(now + FIRST_PROBE), "they do not lengthen the wait");
    }
}
