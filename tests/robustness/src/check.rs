//! Which promises a history breaks. Pure.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;

use crate::history::{Answer, Delivery, Fate, History, Order, Published, Stored, Subscription};

/// A promise that was broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Violation {
    /// An answer that no fault explains.
    Unexpected {
        /// The event.
        id: String,
        /// The answer.
        answer: String,
    },
    /// Publishing did not go on although all was well again.
    NeverAccepted {
        /// The event.
        id: String,
        /// What was answered.
        answers: Vec<Answer>,
    },
    /// Answered with 200, and not in the store, or elsewhere, or with other data.
    Lost {
        /// The event.
        id: String,
    },
    /// Stored more than once.
    StoredTwice {
        /// The event.
        id: String,
    },
    /// Every answer said that it was not stored, and it was.
    StoredAfterAll {
        /// The event.
        id: String,
    },
    /// In the store, but published by nobody.
    FromNowhere {
        /// The event.
        id: String,
    },
    /// Published after another one of its publisher, and stored before it.
    StoredOutOfOrder {
        /// The later event.
        id: String,
    },
    /// A subscription never got it, or no service ever took it.
    NotDelivered {
        /// The subscription.
        subscription: String,
        /// The event.
        id: String,
    },
    /// What the service got is not what is stored.
    Changed {
        /// The request.
        delivery: String,
    },
    /// An event began before one that it must wait for was over.
    OutOfOrder {
        /// The subscription.
        subscription: String,
        /// Its request.
        delivery: String,
        /// The sequences that were not over.
        before: Vec<u64>,
    },
    /// It must have become a dead letter, once and for this reason.
    NoDeadLetter {
        /// The subscription.
        subscription: String,
        /// The event.
        id: String,
        /// The reasons of those that there are.
        found: Vec<String>,
    },
    /// It became a dead letter although its service was only away.
    NeedlessDeadLetter {
        /// The subscription.
        subscription: String,
        /// The event.
        id: String,
        /// Its reason.
        reason: String,
    },
    /// A durable was not done although all was well again.
    Left {
        /// The durable.
        durable: String,
        /// How many events.
        events: u64,
    },
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unexpected { id, answer } => write!(f, "{id}: unexpected answer {answer}"),
            Self::NeverAccepted { id, answers } => write!(f, "{id}: never accepted: {answers:?}"),
            Self::Lost { id } => write!(f, "{id}: answered with 200 but not stored as it was sent"),
            Self::StoredTwice { id } => write!(f, "{id}: stored more than once"),
            Self::StoredAfterAll { id } => write!(f, "{id}: stored, but every answer said notStored"),
            Self::FromNowhere { id } => write!(f, "{id}: stored, but published by nobody"),
            Self::StoredOutOfOrder { id } => {
                write!(f, "{id}: stored before the event that its publisher sent before")
            }
            Self::NotDelivered { subscription, id } => write!(f, "{id}: never taken from {subscription}"),
            Self::Changed { delivery } => write!(f, "delivered otherwise than stored: {delivery}"),
            Self::OutOfOrder { subscription, delivery, before } => {
                write!(f, "{subscription}: out of order: {delivery}, before {before:?} were over")
            }
            Self::NoDeadLetter { subscription, id, found } => {
                write!(f, "{id}: should be one dead letter of {subscription}, found {found:?}")
            }
            Self::NeedlessDeadLetter { subscription, id, reason } => {
                write!(f, "{id}: a dead letter of {subscription} ({reason}) without need")
            }
            Self::Left { durable, events } => write!(f, "{durable} still waits for {events} events"),
        }
    }
}

/// Every promise that the history breaks.
pub fn check(history: &History) -> Vec<Violation> {
    let mut violations = Vec::new();
    publishing(history, &mut violations);
    store(history, &mut violations);
    for subscription in &history.subscriptions {
        deliveries(history, subscription, &mut violations);
        order(history, subscription, &mut violations);
        dead_letters(history, subscription, &mut violations);
    }
    let left = history.left.iter();
    violations
        .extend(left.map(|(durable, events)| Violation::Left { durable: durable.clone(), events: *events }));
    violations
}

fn publishing(history: &History, violations: &mut Vec<Violation>) {
    for event in &history.published {
        for answer in &event.answers {
            if let Answer::Unexpected(status, body) = answer {
                let answer = format!("{status} {body}");
                violations.push(Violation::Unexpected { id: event.id.clone(), answer });
            }
        }
        if event.sequence().is_none() {
            let answers = event.answers.clone();
            violations.push(Violation::NeverAccepted { id: event.id.clone(), answers });
        }
    }
}

fn store(history: &History, violations: &mut Vec<Violation>) {
    let mut stored: HashMap<&str, Vec<&Stored>> = HashMap::new();
    for event in &history.stored {
        stored.entry(&event.id).or_default().push(event);
    }
    let mut last: HashMap<usize, u64> = HashMap::new();
    for event in &history.published {
        let found = stored.remove(event.id.as_str()).unwrap_or_default();
        let id = || event.id.clone();
        if found.len() > 1 {
            violations.push(Violation::StoredTwice { id: id() });
        }
        let certainly_not = |answer: &Answer| matches!(answer, Answer::NotStored(_));
        if !found.is_empty() && event.answers.iter().all(certainly_not) {
            violations.push(Violation::StoredAfterAll { id: id() });
        }
        let Some(sequence) = event.sequence() else { continue };
        if !found.iter().any(|stored| stored.sequence == sequence && is_same(event, stored)) {
            violations.push(Violation::Lost { id: id() });
        }
        if last.insert(event.publisher, sequence).is_some_and(|before| before >= sequence) {
            violations.push(Violation::StoredOutOfOrder { id: id() });
        }
    }
    violations.extend(stored.into_keys().map(|id| Violation::FromNowhere { id: id.to_owned() }));
}

fn is_same(event: &Published, stored: &Stored) -> bool {
    (&event.id, &event.key, &event.data) == (&stored.id, &stored.key, &stored.data)
}

fn of<'a>(history: &'a History, subscription: &Subscription) -> impl Iterator<Item = &'a Delivery> {
    let name = subscription.name.clone();
    history.deliveries.iter().filter(move |delivery| delivery.subscription == name)
}

fn deliveries(history: &History, subscription: &Subscription, violations: &mut Vec<Violation>) {
    let stored: HashMap<u64, &Stored> = history.stored.iter().map(|event| (event.sequence, event)).collect();
    let mut over = Ends::default();
    for delivery in of(history, subscription) {
        let is_same = stored.get(&delivery.sequence).is_some_and(|stored| {
            (&stored.id, &stored.key, &stored.data) == (&delivery.id, &delivery.key, &delivery.data)
        });
        if !is_same {
            violations.push(Violation::Changed { delivery: delivery.to_string() });
        }
        over.see(delivery, subscription);
    }
    for event in history.stored.iter().filter(|event| !over.moments.contains_key(&event.sequence)) {
        let (subscription, id) = (subscription.name.clone(), event.id.clone());
        violations.push(Violation::NotDelivered { subscription, id });
    }
}

/// When each event was over for the first time: taken, rejected, or failed as
/// often as the subscription tries.
#[derive(Default)]
struct Ends {
    failures: HashMap<u64, usize>,
    moments: HashMap<u64, u64>,
}

impl Ends {
    fn see(&mut self, delivery: &Delivery, subscription: &Subscription) {
        let Some((moment, status)) = delivery.answered else { return };
        let is_over = match status {
            200..300 | 400 | 410 | 413 | 415 | 422 => true,
            425 | 429 | 503 => false,
            _ => {
                let failures = self.failures.entry(delivery.sequence).or_default();
                *failures += 1;
                *failures >= subscription.attempts
            }
        };
        if is_over {
            let first = self.moments.entry(delivery.sequence).or_insert(moment);
            *first = moment.min(*first);
        }
    }
}

/// No event reaches the service for the first time before those that it must
/// wait for were over. A request that was already on its way when another pod
/// took over cannot be called back: it is no first one, or its own turn.
fn order(history: &History, subscription: &Subscription, violations: &mut Vec<Violation>) {
    if subscription.order == Order::None {
        return;
    }
    let mut ends = Ends::default();
    let mut first: BTreeMap<u64, &Delivery> = BTreeMap::new();
    for delivery in of(history, subscription) {
        ends.see(delivery, subscription);
        first.entry(delivery.sequence).or_insert(delivery);
    }
    let mut lanes: HashMap<&str, Lane> = HashMap::new();
    for event in &history.stored {
        let lane = if subscription.order == Order::Key { event.key.as_str() } else { "" };
        let lane = lanes.entry(lane).or_default();
        if let Some(delivery) = first.get(&event.sequence) {
            let before = lane.open_at(delivery.began);
            if !before.is_empty() {
                let (subscription, delivery) = (subscription.name.clone(), delivery.to_string());
                violations.push(Violation::OutOfOrder { subscription, delivery, before });
            }
        }
        let end = ends.moments.get(&event.sequence).copied().unwrap_or(u64::MAX);
        lane.events.push((event.sequence, end));
        lane.last_end = lane.last_end.max(end);
    }
}

/// Events that wait for each other, in the order of the store, and when each was over.
#[derive(Default)]
struct Lane {
    events: Vec<(u64, u64)>,
    last_end: u64,
}

impl Lane {
    fn open_at(&self, moment: u64) -> Vec<u64> {
        if self.last_end < moment {
            return Vec::new();
        }
        let open = self.events.iter().filter(|(_, end)| *end > moment);
        open.map(|(sequence, _)| *sequence).collect()
    }
}

fn dead_letters(history: &History, subscription: &Subscription, violations: &mut Vec<Violation>) {
    let mut found: HashMap<&str, Vec<String>> = HashMap::new();
    for letter in history.dead_letters.iter().filter(|letter| letter.subscription == subscription.name) {
        found.entry(&letter.id).or_default().push(letter.reason.clone());
    }
    let stored: BTreeSet<&str> = history.stored.iter().map(|event| event.id.as_str()).collect();
    for event in history.published.iter().filter(|event| stored.contains(event.id.as_str())) {
        let found = found.remove(event.id.as_str()).unwrap_or_default();
        let (subscription, id) = (subscription.name.clone(), event.id.clone());
        match event.fate.dead_reason() {
            Some(reason) if found != [reason] => {
                violations.push(Violation::NoDeadLetter { subscription, id, found });
            }
            None if !found.is_empty() => {
                let reason = found.join(", ");
                violations.push(Violation::NeedlessDeadLetter { subscription, id, reason });
            }
            _ => {}
        }
    }
}

/// What a run was like, beside right or wrong.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Figures {
    /// Events that were published.
    pub events: usize,
    /// Answers other than 200.
    pub refusals: usize,
    /// Requests that reached services.
    pub deliveries: usize,
    /// Those of an event that the service had taken before.
    pub repeats: usize,
    /// Dead letters.
    pub dead_letters: usize,
}

/// Counts.
pub fn figures(history: &History) -> Figures {
    let is_refusal = |answer: &&Answer| !matches!(answer, Answer::Stored { .. });
    let mut taken = BTreeSet::new();
    let mut repeats = 0;
    for delivery in &history.deliveries {
        let place = (&delivery.subscription, delivery.sequence);
        if taken.contains(&place) {
            repeats += 1;
        }
        if delivery.answered.is_some_and(|(_, status)| status < 300) {
            taken.insert(place);
        }
    }
    Figures {
        events: history.published.len(),
        refusals: history.published.iter().flat_map(|event| &event.answers).filter(is_refusal).count(),
        deliveries: history.deliveries.len(),
        repeats,
        dead_letters: history.dead_letters.len(),
    }
}

/// Whether an event of this fate is answered with this status, the so-many-th time.
pub fn status_for(fate: Fate, before: u32) -> u16 {
    match fate {
        Fate::Taken => 204,
        Fate::TakenAtLast if before == 0 => 500,
        Fate::TakenAtLast => 200,
        Fate::Rejected => 422,
        Fate::Exhausted => 500,
    }
}

#[cfg(test)]
mod tests;
