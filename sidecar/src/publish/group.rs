//! Group commit: publishes alone while few wait, together when many do and it
//! is quicker so.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout_at};

use super::answer::{Committed, Outcome, PublishError, Stored};
use super::gathering::{Gathering, Next};
use super::waves::in_waves;
use super::{Outgoing, Publisher, Whole};
use crate::metrics::{Grouped, Metrics};

/// Publishes events, alone or together.
#[derive(Debug)]
pub(crate) struct GroupCommit {
    publisher: Publisher,
    state: Mutex<State>,
    highest: AtomicU64,
    metrics: Arc<Metrics>,
}

#[derive(Debug, Default)]
struct State {
    gathering: Gathering<Waiting>,
    /// Where the members go of the batch that is being filled: no more than a batch takes.
    filling: Option<mpsc::UnboundedSender<Waiting>>,
}

/// An event that waits for others.
#[derive(Debug)]
struct Waiting {
    event: Arc<Outgoing>,
    turn: oneshot::Sender<Turn>,
}

/// What the wait led to.
#[derive(Debug)]
enum Turn {
    /// It is stored, with others.
    Stored(Stored),
    /// It goes alone now.
    Alone(Single),
}

/// A single that is under way; dropping it lets those go who waited for it.
#[derive(Debug)]
struct Single {
    group: Arc<GroupCommit>,
    stored: bool,
    /// It may be stored already: it was in a batch of which that is not known.
    perhaps_stored: bool,
}

impl GroupCommit {
    /// Group commit over `publisher`.
    pub(crate) fn new(publisher: Publisher, metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self { publisher, state: Mutex::default(), highest: AtomicU64::new(0), metrics })
    }

    /// The highest place in the event store that an event has been given here; 0 before the first.
    pub(crate) fn highest(&self) -> u64 {
        self.highest.load(Ordering::Relaxed)
    }

    /// Another event store begins: the places of the one before say nothing of it.
    pub(crate) fn forget_highest(&self) {
        self.highest.store(0, Ordering::Relaxed);
    }

    fn stored(&self, sequence: u64) {
        self.highest.fetch_max(sequence, Ordering::Relaxed);
    }

    /// Stores the event, in whatever company.
    pub(crate) async fn publish(self: &Arc<Self>, event: &Arc<Outgoing>) -> Result<Stored, PublishError> {
        let deadline = self.publisher.deadline();
        let mut single = match self.enter(event) {
            Ok(single) => single,
            Err(turn) => match timeout_at(deadline, turn).await {
                Ok(Ok(Turn::Stored(stored))) => return Ok(stored),
                Ok(Ok(Turn::Alone(single))) => single,
                // Its batch was given up with the process, or has not been answered: it may be stored.
                Ok(Err(_)) => return Err(PublishError::Lost),
                Err(_) => return Err(PublishError::TimedOut),
            },
        };
        let (subject, headers) = (event.subject(), || event.headers());
        let perhaps_stored = single.perhaps_stored;
        let publish =
            self.publisher.publish_before(deadline, perhaps_stored, subject, headers, event.payload());
        let stored = publish.await?;
        single.stored = true;
        self.stored(stored.sequence);
        Ok(stored)
    }

    /// Stores all of `events`, or none.
    pub(crate) async fn publish_all(&self, events: &[Outgoing]) -> Result<Whole, PublishError> {
        let whole = self.publisher.publish_all(events).await?;
        if let Whole::Stored(places) = &whole {
            places.iter().for_each(|stored| self.stored(stored.sequence));
        }
        Ok(whole)
    }

    /// Goes alone, or waits for its turn.
    fn enter(self: &Arc<Self>, event: &Arc<Outgoing>) -> Result<Single, oneshot::Receiver<Turn>> {
        let now = Instant::now();
        let mut state = self.lock();
        if state.gathering.enter(now) {
            return Ok(self.single(false));
        }
        let (turn, receiver) = oneshot::channel();
        state.gathering.wait(Waiting { event: event.clone(), turn }, event.weight());
        drop(state);
        self.go_on();
        Err(receiver)
    }

    fn single(self: &Arc<Self>, perhaps_stored: bool) -> Single {
        Single { group: self.clone(), stored: false, perhaps_stored }
    }

    /// Lets go whoever may, now that something has changed.
    fn go_on(self: &Arc<Self>) {
        loop {
            let now = Instant::now();
            let mut state = self.lock();
            match state.gathering.next(now) {
                Next::Nobody => return,
                Next::Alone(members) => {
                    drop(state);
                    self.alone(members, false);
                }
                Next::Together { members, complete } => {
                    let batch = state.filling.take().unwrap_or_else(|| {
                        let (batch, members) = mpsc::unbounded_channel();
                        let group = self.clone();
                        tokio::spawn(async move { group.together(members).await });
                        batch
                    });
                    for one in members {
                        // Not there any more only while the process ends.
                        let _ = batch.send(one);
                    }
                    state.filling = (!complete).then_some(batch);
                }
            }
        }
    }

    fn alone(self: &Arc<Self>, members: Vec<Waiting>, perhaps_stored: bool) {
        for one in members {
            // Whoever does not wait any more gives its place back at once.
            let _ = one.turn.send(Turn::Alone(self.single(perhaps_stored)));
        }
    }

    /// Stores those who come, until nobody does any more, as one batch.
    async fn together(self: &Arc<Self>, mut joining: mpsc::UnboundedReceiver<Waiting>) {
        // Half of the time for the batch: what is left is for going alone after all.
        let (began, deadline) = (Instant::now(), self.publisher.half_deadline());
        let mut members = Vec::new();
        let storing = timeout_at(deadline, self.store(&mut joining, &mut members));
        let result = storing.await.unwrap_or(Err(PublishError::TimedOut));
        if !joining.is_closed() {
            // It has failed before it was complete.
            let mut state = self.lock();
            state.gathering.stop_filling();
            state.filling = None;
        }
        while let Ok(one) = joining.try_recv() {
            members.push(one);
        }
        if members.is_empty() {
            self.not_together(members, false, false, began);
            return self.go_on();
        }
        let now = Instant::now();
        match result.map(|committed| committed.and_then(|committed| committed.members(members.len()))) {
            Ok(Some(places)) => {
                self.count(Grouped::Stored);
                self.lock().gathering.batch_stored(members.len(), now);
                let stored = members.into_iter().zip(places).collect();
                in_waves(stored, |(one, stored): (Waiting, Stored)| {
                    self.stored(stored.sequence);
                    let _ = one.turn.send(Turn::Stored(stored));
                })
                .await;
            }
            // Which of its events was stored before is not said, nor, when the answer is lost,
            // whether all are by now: alone, each gets its own true answer under its message id.
            Err(error) if error.is_duplicate_in_batch() => {
                self.count(Grouped::Duplicate);
                self.not_together(members, false, true, now);
            }
            Ok(None) => self.not_together(members, true, true, now),
            Err(error) => {
                tracing::debug!(%error, events = members.len(), "a batch was not stored: its events go one by one");
                self.count(Grouped::Failed);
                self.not_together(members, true, error.outcome() != Outcome::NotStored, now);
            }
        }
        self.go_on();
        let expected_until = self.lock().gathering.expected_until();
        if let Some(until) = expected_until {
            tokio::time::sleep_until(until).await;
            self.go_on();
        }
    }

    /// Sends each member once the next one is there, and the last one with the word to store them all. `None`: nobody came.
    async fn store(
        &self,
        joining: &mut mpsc::UnboundedReceiver<Waiting>,
        members: &mut Vec<Waiting>,
    ) -> Result<Option<Committed>, PublishError> {
        if !self.publisher.bus.link().connected {
            return Err(PublishError::Away);
        }
        let mut batch = self.publisher.begin_batch();
        while let Some(one) = joining.recv().await {
            if one.turn.is_closed() {
                continue;
            }
            members.push(one);
            if let [.., before, _] = &members[..] {
                batch.send(&before.event).await?;
            }
        }
        match members.last() {
            Some(last) => batch.commit(&last.event).await.map(Some),
            None => Ok(None),
        }
    }

    fn not_together(
        self: &Arc<Self>,
        members: Vec<Waiting>,
        refused: bool,
        perhaps_stored: bool,
        now: Instant,
    ) {
        self.lock().gathering.batch_failed(members.len(), refused, now);
        self.alone(members, perhaps_stored);
    }

    fn count(&self, outcome: Grouped) {
        self.metrics.publishes.count_batch(outcome);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Single {
    fn drop(&mut self) {
        self.group.lock().gathering.single_ended(self.stored, Instant::now());
        self.group.go_on();
    }
}
