//! What happened in a run: published, stored, delivered, given up.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};

/// All that a check needs to know.
#[derive(Debug, Clone, Default)]
pub struct History {
    /// The events that were published, in the order in which each publisher sent them.
    pub published: Vec<Published>,
    /// The event store at the end, in its order.
    pub stored: Vec<Stored>,
    /// The subscriptions, each to every event.
    pub subscriptions: Vec<Subscription>,
    /// The requests that reached a service, in the order in which they began.
    pub deliveries: Vec<Delivery>,
    /// The dead letters at the end.
    pub dead_letters: Vec<DeadLetter>,
    /// Events that a durable still waits for although all is well again: durable and number.
    pub left: Vec<(String, u64)>,
}

/// What is to become of an event, as its data say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// The service takes it.
    Taken,
    /// The service fails the first time and takes it then.
    TakenAtLast,
    /// The service says 422.
    Rejected,
    /// The service says 500, always.
    Exhausted,
}

impl Fate {
    const ALL: [(Self, &'static str); 4] = [
        (Self::Taken, "taken"),
        (Self::TakenAtLast, "taken at last"),
        (Self::Rejected, "rejected"),
        (Self::Exhausted, "exhausted"),
    ];

    /// The data of an event of this fate.
    pub fn data(self, id: &str) -> String {
        let fate = Self::ALL.iter().find(|(fate, _)| *fate == self).map(|(_, text)| *text);
        json!({"id": id, "fate": fate, "text": "größer – \u{1f600}"}).to_string()
    }

    /// The fate that the data name.
    pub fn of(data: &[u8]) -> Option<Self> {
        let data: Value = serde_json::from_slice(data).ok()?;
        Self::ALL.iter().find(|(_, text)| data["fate"] == *text).map(|(fate, _)| *fate)
    }

    /// The reason of its dead letter, if it must become one.
    pub fn dead_reason(self) -> Option<&'static str> {
        match self {
            Self::Taken | Self::TakenAtLast => None,
            Self::Rejected => Some("rejected"),
            Self::Exhausted => Some("exhausted"),
        }
    }
}

/// An event and all answers to the requests that published it.
#[derive(Debug, Clone)]
pub struct Published {
    /// Who published it: one after another, each only once the one before was answered or given up.
    pub publisher: usize,
    /// Its id.
    pub id: String,
    /// Its key.
    pub key: String,
    /// Its data.
    pub data: String,
    /// What is to become of it.
    pub fate: Fate,
    /// What the sidecars said.
    pub answers: Vec<Answer>,
}

impl Published {
    /// Its place in the store, if an answer was 200.
    pub fn sequence(&self) -> Option<u64> {
        self.answers.iter().find_map(|answer| match answer {
            Answer::Stored { sequence } => Some(*sequence),
            _ => None,
        })
    }
}

/// What a sidecar said to a publish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// 200.
    Stored {
        /// The place in the store.
        sequence: u64,
    },
    /// It was certainly not stored by this request.
    NotStored(u16),
    /// It may have been.
    Unknown(u16),
    /// No answer: the sidecar died, or stands still.
    None,
    /// An answer that no fault explains: the status and the body.
    Unexpected(u16, String),
}

/// An event in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Its place.
    pub sequence: u64,
    /// Its id.
    pub id: String,
    /// Its key.
    pub key: String,
    /// Its data.
    pub data: String,
}

/// A subscription.
#[derive(Debug, Clone)]
pub struct Subscription {
    /// Its name.
    pub name: String,
    /// Its order.
    pub order: Order,
    /// After how many failures an event is given up.
    pub attempts: usize,
}

/// Which events wait for which.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// None for any.
    None,
    /// Those of one key.
    Key,
    /// All.
    Strict,
}

/// A request that reached a service. Moments are places in one order of all
/// that was seen, not times.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// The pod of the service.
    pub pod: usize,
    /// The subscription.
    pub subscription: String,
    /// `murmur-sequence`.
    pub sequence: u64,
    /// The event's id.
    pub id: String,
    /// The event's key.
    pub key: String,
    /// The event's data.
    pub data: String,
    /// When it began.
    pub began: u64,
    /// When the service answered, and with which status; `None` if it crashed before.
    pub answered: Option<(u64, u16)>,
}

/// A dead letter.
#[derive(Debug, Clone)]
pub struct DeadLetter {
    /// The subscription.
    pub subscription: String,
    /// The event's id.
    pub id: String,
    /// Why.
    pub reason: String,
}

impl fmt::Display for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:>6} pod {} {} seq {} id {} key {}",
            self.began, self.pod, self.subscription, self.sequence, self.id, self.key
        )?;
        match self.answered {
            Some((moment, status)) => write!(f, " -> {status} at {moment}"),
            None => f.write_str(" -> no answer"),
        }
    }
}

/// Where services write down what reaches them, all into one order.
#[derive(Debug, Default)]
pub struct Log(Mutex<Entries>);

#[derive(Debug, Default)]
struct Entries {
    clock: u64,
    deliveries: Vec<Delivery>,
    requests: HashMap<(String, String), u32>,
}

impl Log {
    /// A request begins: its number, and how many there were before it for this
    /// event and subscription.
    pub fn begins(&self, mut delivery: Delivery) -> (usize, u32) {
        let mut entries = self.lock();
        entries.clock += 1;
        delivery.began = entries.clock;
        let requests =
            entries.requests.entry((delivery.subscription.clone(), delivery.id.clone())).or_default();
        let before = *requests;
        *requests += 1;
        entries.deliveries.push(delivery);
        (entries.deliveries.len() - 1, before)
    }

    /// The service answers.
    pub fn ends(&self, number: usize, status: u16) {
        let mut entries = self.lock();
        entries.clock += 1;
        let moment = entries.clock;
        if let Some(delivery) = entries.deliveries.get_mut(number) {
            delivery.answered = Some((moment, status));
        }
    }

    /// All that was written down.
    pub fn deliveries(&self) -> Vec<Delivery> {
        self.lock().deliveries.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
