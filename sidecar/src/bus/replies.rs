//! Who waits for which answer: one subscription for the answers to all publishes.
//!
//! The client's own request mechanism keeps an entry for ever when no answer
//! comes; here the one who waits takes it away, and a lost connection ends all
//! waits at once.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use async_nats::{Message, Subscriber};
use futures::StreamExt;
use tokio::sync::oneshot;

/// All who wait.
#[derive(Debug, Default)]
pub(crate) struct Replies {
    prefix: OnceLock<String>,
    places: Mutex<Places>,
}

/// Places are used again; the turn tells an answer to an earlier user apart. It is drawn by lot: whoever is
/// asked sees his own, and cannot answer for another.
#[derive(Debug, Default)]
struct Places {
    places: Vec<Place>,
    free: Vec<u32>,
}

#[derive(Debug)]
struct Place {
    turn: u64,
    waiter: Option<oneshot::Sender<Message>>,
}

/// One who waits; dropping it gives its place away.
pub(crate) struct Ticket<'a> {
    replies: &'a Replies,
    place: u32,
    turn: u64,
    answer: oneshot::Receiver<Message>,
}

impl Replies {
    /// Starts routing answers, for as long as the client lives.
    pub(crate) fn start(self: &Arc<Self>, prefix: String, mut answers: Subscriber) {
        if self.prefix.set(prefix).is_err() {
            return;
        }
        let replies = self.clone();
        tokio::spawn(async move {
            while let Some(message) = answers.next().await {
                replies.route(message);
            }
        });
    }

    /// A place to wait in.
    pub(crate) fn wait(&self) -> Ticket<'_> {
        let (sender, answer) = oneshot::channel();
        let mut places = self.lock();
        let place = match places.free.pop() {
            Some(place) => place,
            None => {
                places.places.push(Place { turn: 0, waiter: None });
                // Bounded by the limits on what is in flight, far below u32::MAX.
                (places.places.len() - 1) as u32
            }
        };
        let slot = &mut places.places[place as usize];
        slot.turn = rand::random();
        slot.waiter = Some(sender);
        Ticket { replies: self, place, turn: slot.turn, answer }
    }

    /// Ends all waits: their answers were lost with the connection.
    pub(crate) fn forget(&self) {
        for place in &mut self.lock().places {
            place.waiter = None;
        }
    }

    fn route(&self, message: Message) {
        let token = message.subject.rsplit('.').next().unwrap_or_default();
        let Some((place, turn)) = token.split_once('-') else { return };
        let (Ok(place), Ok(turn)) = (place.parse::<usize>(), turn.parse::<u64>()) else { return };
        let waiter = match self.lock().places.get_mut(place) {
            Some(slot) if slot.turn == turn => slot.waiter.take(),
            _ => None,
        };
        if let Some(waiter) = waiter {
            // Nobody waits any more: then nobody misses it.
            let _ = waiter.send(message);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Places> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ticket<'_> {
    /// Where the answer must go.
    pub(crate) fn subject(&self) -> String {
        let prefix = self.replies.prefix.get().map_or("", String::as_str);
        format!("{prefix}.{}-{}", self.place, self.turn)
    }

    /// Waits for it. `None`: the connection was lost first.
    pub(crate) async fn answer(&mut self) -> Option<Message> {
        (&mut self.answer).await.ok()
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        let mut places = self.replies.lock();
        places.places[self.place as usize].waiter = None;
        places.free.push(self.place);
    }
}
