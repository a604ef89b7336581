//! What goes wrong and when, drawn from a seed. Pure: the same seed, the same
//! scenario; how it ends is up to the machine.

use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

/// Pods of the one service.
const PODS: usize = 3;
/// Longer than a pin lives (13 s): what a sidecar that stands still so long held is another's.
const PAST_THE_PIN: Duration = Duration::from_secs(15);

/// A run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scenario {
    /// Everything below is drawn from it.
    pub seed: u64,
    /// One server or a cluster of three.
    pub servers: usize,
    /// How long faults begin.
    pub length: Duration,
    /// What happens to the bus, one after another.
    pub bus: Vec<Step<BusFault>>,
    /// What happens to the sidecar of each pod.
    pub sidecars: Vec<Vec<Step<SidecarFault>>>,
    /// What happens to the service of each pod.
    pub services: Vec<Vec<Step<ServiceFault>>>,
}

/// A fault, after a time in which all is well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step<F> {
    /// The good time before.
    pub after: Duration,
    /// What happens.
    pub fault: F,
    /// For how long.
    pub lasts: Duration,
}

/// What happens to brokers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BusFault {
    /// SIGKILL of the one that leads the event store.
    KillLeader,
    /// SIGKILL of one of them.
    Kill(usize),
    /// SIGKILL of all at once.
    KillAll,
    /// SIGSTOP of the one that leads the event store.
    StopLeader,
    /// SIGSTOP of one of them.
    Stop(usize),
    /// The leader of the event store gives the lead away.
    StepDown,
}

/// What happens to a sidecar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SidecarFault {
    /// SIGKILL.
    Kill,
    /// SIGSTOP.
    Stop,
    /// SIGTERM.
    Leave,
}

/// What happens to a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServiceFault {
    /// It is gone, with every connection to it.
    Crash,
    /// It says 503.
    Unavailable,
    /// It takes its time.
    Slow,
}

impl Scenario {
    /// Draws one; no outage of the bus is longer than `longest`.
    pub fn draw(seed: u64, length: Duration, longest: Duration) -> Self {
        let mut random = SmallRng::seed_from_u64(seed);
        let servers = if random.random() { 3 } else { 1 };
        let bus = steps(&mut random, length, longest, 8, |random| bus_fault(random, servers));
        let sidecar = |random: &mut SmallRng| match random.random_range(0..3) {
            0 => SidecarFault::Kill,
            1 => SidecarFault::Stop,
            _ => SidecarFault::Leave,
        };
        let service = |random: &mut SmallRng| match random.random_range(0..3) {
            0 => ServiceFault::Crash,
            1 => ServiceFault::Unavailable,
            _ => ServiceFault::Slow,
        };
        let sidecars = (0..PODS).map(|_| steps(&mut random, length, PAST_THE_PIN * 2, 10, sidecar)).collect();
        let services = (0..PODS).map(|_| steps(&mut random, length, PAST_THE_PIN, 10, service)).collect();
        Self { seed, servers, length, bus, sidecars, services }
    }

    /// How many faults there are.
    pub fn faults(&self) -> usize {
        self.bus.len()
            + self.sidecars.iter().map(Vec::len).sum::<usize>()
            + self.services.iter().map(Vec::len).sum::<usize>()
    }
}

fn bus_fault(random: &mut SmallRng, servers: usize) -> BusFault {
    let one = random.random_range(0..servers);
    match random.random_range(0..if servers == 1 { 4 } else { 8 }) {
        0 | 1 => BusFault::Kill(one),
        2 | 3 => BusFault::Stop(one),
        4 => BusFault::KillLeader,
        5 => BusFault::KillAll,
        6 => BusFault::StopLeader,
        _ => BusFault::StepDown,
    }
}

/// Faults one after another, `pause` seconds apart on average, each short, past
/// the pin, or as long as `longest` allows.
fn steps<F>(
    random: &mut SmallRng,
    length: Duration,
    longest: Duration,
    pause: u64,
    fault: impl Fn(&mut SmallRng) -> F,
) -> Vec<Step<F>> {
    let mut steps = Vec::new();
    let mut at = Duration::ZERO;
    loop {
        let after = Duration::from_millis(random.random_range(500..pause * 2000));
        let lasts = match random.random_range(0..10) {
            0..6 => Duration::from_millis(random.random_range(100..4000)),
            6..9 => PAST_THE_PIN.mul_f64(random.random_range(0.3..1.3)),
            _ => longest.mul_f64(random.random_range(0.5..1.0)),
        };
        let step = Step { after, fault: fault(random), lasts: lasts.min(longest) };
        at += step.after;
        if at >= length {
            return steps;
        }
        at += step.lasts;
        steps.push(step);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn the_same_seed_draws_the_same_scenario() {
        assert_eq!(Scenario::draw(7, MINUTE, MINUTE), Scenario::draw(7, MINUTE, MINUTE));
        assert_ne!(Scenario::draw(7, MINUTE, MINUTE), Scenario::draw(8, MINUTE, MINUTE));
    }

    #[test]
    fn all_kinds_of_faults_are_drawn_and_none_is_longer_than_allowed() {
        let all: Vec<_> = (0..200).map(|seed| Scenario::draw(seed, MINUTE, MINUTE * 5)).collect();
        let has = |what: BusFault| all.iter().any(|one| one.bus.iter().any(|step| step.fault == what));
        assert!(has(BusFault::KillAll) && has(BusFault::StopLeader) && has(BusFault::StepDown));
        assert!(all.iter().all(|one| one.bus.iter().all(|step| step.lasts <= MINUTE * 5)));
        assert!(all.iter().any(|one| one.bus.iter().any(|step| step.lasts > MINUTE * 2)));
        assert!(all.iter().any(|one| one.servers == 1) && all.iter().any(|one| one.servers == 3));
    }
}
