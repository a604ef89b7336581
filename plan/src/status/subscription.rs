//! The status of an EventSubscription.

use jiff::Timestamp;
use murmur_crds::EventSubscriptionStatus;
use murmur_crds::subscription::{ReplayPhase, ReplayStatus};
use murmur_mesh::config::parts_of_run;

use super::conditions::{CAUGHT_UP, DELIVERING, Finding, Problem, READY, State, merge};
use super::event_store::{EventStore, replaced};

/// The reason of the conditions of a subscription whose delivery rests.
const SUSPENDED: &str = "Suspended";

/// A durable as the broker describes it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DurablePosition {
    /// Events that match and have not been handed out yet.
    pub pending: u64,
    /// Events that are out and not acknowledged.
    pub ack_pending: u64,
    /// The stream sequence up to which all that was handed out is acknowledged.
    pub ack_floor: u64,
    /// The stream sequence of the last event that was handed out.
    pub delivered: u64,
    /// How often an event was handed out so far (the broker's consumer sequence).
    pub deliveries: u64,
    /// Of these, up to which one all are acknowledged.
    pub deliveries_floor: u64,
}

impl DurablePosition {
    fn outstanding(&self) -> u64 {
        self.pending.saturating_add(self.ack_pending)
    }
}

/// A durable at two looks in a row. One look alone cannot tell an event that
/// waits from one that came in this instant and is on its way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DurableProgress {
    /// How it was a look ago; `None` at the first.
    pub before: Option<DurablePosition>,
    /// How it is.
    pub now: DurablePosition,
}

impl DurableProgress {
    /// How many events wait: none as long as all that was there a look ago is done.
    pub fn waiting(&self) -> u64 {
        // Events are handed out in order, and one that is handed out again keeps its number.
        let done = self.before.is_some_and(|before| {
            let there = before.deliveries.saturating_add(before.pending);
            before.outstanding() == 0 || self.now.deliveries_floor >= there
        });
        if done { 0 } else { self.now.outstanding() }
    }

    fn rests(&self) -> bool {
        self.before.is_none_or(|before| before == self.now)
    }
}

/// What the sidecars say about delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delivery {
    /// At least one pod delivers, and none is held up.
    Going,
    /// A pod is held up.
    Held {
        /// What kind of reason it is.
        reason: String,
        /// Why.
        cause: String,
    },
    /// No pod has reported lately.
    Unreported,
}

/// A run of a subscription that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObservedRun {
    /// The event store that its durables are in.
    pub event_store: EventStore,
    /// The id of the replay that it is, or that counted as done at its making.
    pub id: Option<String>,
    /// The last sequence when the replay began; `None` in the first run.
    pub boundary: Option<u64>,
    /// The types that are delivered only from when they were added, sorted.
    pub added_later: Vec<String>,
}

/// What was observed of a subscription.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observed {
    /// Its durables; `None` while the bus cannot be asked.
    pub durables: Option<Vec<DurableProgress>>,
    /// How many dead letters are stored; `None` while the bus cannot be asked.
    pub dead_letters: Option<u64>,
    /// What its sidecars say.
    pub delivery: Delivery,
    /// The run that its durables are; `None` while it is not known.
    pub run: Option<ObservedRun>,
    /// Whether delivery rests because the user says so.
    pub suspended: bool,
    /// Why it does not run, such as `MicroserviceNotFound`.
    pub blocked: Option<Problem>,
}

/// The status of a subscription.
pub fn of(
    generation: i64,
    previous: Option<&EventSubscriptionStatus>,
    observed: &Observed,
    now: Timestamp,
) -> EventSubscriptionStatus {
    let known = previous.cloned().unwrap_or_default();
    let durables = observed.durables.as_deref();
    let pending = durables.map(pending);
    let event_store = observed.run.as_ref().map(|run| &run.event_store);
    let mut findings = vec![ready(observed), caught_up(pending, observed.suspended), delivering(observed)];
    let before = known.event_store.as_deref();
    findings.extend(replaced(&known.conditions, before, event_store, generation));
    EventSubscriptionStatus {
        observed_generation: Some(generation),
        // What cannot be asked for now stays as it was last seen; the conditions say so.
        pending: pending.map(number).or(known.pending),
        dead_letters: observed.dead_letters.map(number).or(known.dead_letters),
        last_delivered_sequence: last_delivered(durables, pending, known.last_delivered_sequence),
        replay: match &observed.run {
            Some(run) => replay(run, durables, known.replay.as_ref()),
            None => known.replay,
        },
        event_store: event_store.map(|store| store.created.clone()).or(known.event_store),
        conditions: merge(&known.conditions, findings, generation, now),
    }
}

/// How far the replay is. Once done it stays so: a durable in which an event
/// waits may have passed the boundary although its last event is older.
fn replay(
    run: &ObservedRun,
    durables: Option<&[DurableProgress]>,
    known: Option<&ReplayStatus>,
) -> Option<ReplayStatus> {
    let id = shown(run)?;
    let boundary_sequence = run.boundary.map(number);
    let same = known.filter(|known| known.id == id && known.boundary_sequence == boundary_sequence);
    let passed = run.boundary.is_none_or(|boundary| {
        durables.is_some_and(|durables| {
            durables.iter().all(|it| it.now.ack_floor >= boundary || it.now.outstanding() == 0)
        })
    });
    let done = passed || same.is_some_and(|known| known.phase == ReplayPhase::Done);
    let phase = if done { ReplayPhase::Done } else { ReplayPhase::Running };
    Some(ReplayStatus { id, boundary_sequence, phase })
}

/// A run's id as people see it: that of their replay, or that of a rebuild that a changed definition
/// made. One that was asked for by nobody has none.
fn shown(run: &ObservedRun) -> Option<String> {
    match parts_of_run(run.id.as_deref()?) {
        Some(("", definition)) => run.boundary.map(|_| format!("rebuild-{definition}")),
        Some((user, _)) => Some(user.to_owned()),
        None => run.id.clone(),
    }
}

/// How many events wait, those in delivery included.
fn pending(durables: &[DurableProgress]) -> u64 {
    durables.iter().map(DurableProgress::waiting).fold(0, u64::saturating_add)
}

/// The position to show. While events are delivered as they come it moves all
/// the time and says nothing: it is written again once it rests, or when events wait.
fn last_delivered(
    durables: Option<&[DurableProgress]>,
    pending: Option<u64>,
    known: Option<i64>,
) -> Option<i64> {
    let Some(durables) = durables else { return known };
    let flows = pending == Some(0) && !durables.iter().all(DurableProgress::rests);
    known.filter(|_| flows).or_else(|| Some(number(position(durables))))
}

/// The sequence up to which nothing waits. A durable that has nothing waiting
/// holds nothing back, however long ago its last event was.
fn position(durables: &[DurableProgress]) -> u64 {
    let positions = || durables.iter().map(|durable| durable.now);
    match positions().filter(|now| now.outstanding() > 0).map(|now| now.ack_floor).min() {
        Some(floor) => floor,
        None => positions().map(|now| now.delivered).max().unwrap_or(0),
    }
}

fn number(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn ready(observed: &Observed) -> Finding {
    match (&observed.blocked, &observed.durables) {
        (Some(problem), _) => Finding::new(READY, false, problem.reason.clone(), problem.message.clone()),
        (None, None) => {
            Finding::new(READY, State::Unknown, "BusUnavailable", "the bus cannot be asked for the durables")
        }
        (None, Some(_)) => {
            let later = observed.run.as_ref().map(|run| run.added_later.join(", ")).unwrap_or_default();
            let message = match later.as_str() {
                "" => "the bus keeps the subscription's events".to_owned(),
                later => format!(
                    "the bus keeps the subscription's events; added later, and delivered from then on: {later} \
                     (spec.replay brings the events from before)"
                ),
            };
            Finding::new(READY, true, "DurablesReady", message)
        }
    }
}

fn caught_up(pending: Option<u64>, suspended: bool) -> Finding {
    match pending {
        None => Finding::new(CAUGHT_UP, State::Unknown, "BusUnavailable", "the bus cannot be asked"),
        Some(0) => Finding::new(CAUGHT_UP, true, "NothingPending", "every event has been delivered"),
        Some(_) if suspended => {
            Finding::new(CAUGHT_UP, false, SUSPENDED, "events wait: spec.suspend is true")
        }
        Some(_) => {
            Finding::new(CAUGHT_UP, false, "EventsPending", "events wait to be delivered: status.pending")
        }
    }
}

fn delivering(observed: &Observed) -> Finding {
    if let Some(problem) = &observed.blocked {
        return Finding::new(DELIVERING, false, problem.reason.clone(), problem.message.clone());
    }
    if observed.suspended {
        return Finding::new(DELIVERING, false, SUSPENDED, "delivery rests: spec.suspend is true");
    }
    match &observed.delivery {
        Delivery::Going => Finding::new(DELIVERING, true, "Delivering", "events reach the service"),
        Delivery::Held { reason, cause } => Finding::new(DELIVERING, false, reason.clone(), cause.clone()),
        Delivery::Unreported => {
            Finding::new(DELIVERING, State::Unknown, "NoReport", "no pod of the service has reported lately")
        }
    }
}

#[cfg(test)]
mod tests;
