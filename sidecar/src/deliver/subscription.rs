//! One subscription: one task that pulls, sends, judges and acknowledges.
//!
//! An event is acknowledged only after the service's 2xx, or once its dead
//! letter is stored. While it waits here, for its turn, for a retry or for a
//! slow service, the broker is told so, and does not deliver it to another.
//!
//! How often an event was tried is kept in memory: after a restart of the
//! sidecar, or a loss of the broker for longer than the ack wait, the count
//! starts anew. The broker's own count of deliveries is no count of attempts.

mod barrier;
mod batching;
mod ending;
mod handing_over;
mod intake;
mod outcome;
mod passing;
mod projecting;
mod reconnecting;
mod rewinding;
mod showing;

use std::collections::hash_map::RandomState;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use async_nats::{Message, Subject, Subscriber};
use futures::StreamExt;
use futures::stream::{FuturesUnordered, SelectAll};
use http::HeaderValue;
use jiff::Timestamp;
use murmur_filter::Filter;
use murmur_mesh::config::Ordering;
use murmur_mesh::durable::ACK_WAIT;
use murmur_mesh::event::attribute;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use self::projecting::{Projecting, Turn};
use super::Terms;
use super::client::Client;
use super::hold::{Hold, May};
use super::inbox::Inboxes;
use super::lanes::{Lanes, Position};
use super::pull::Pull;
use super::rate::Rate;
use super::request::{self, Replay, Target};
use super::verdict::Answer;
use crate::board::{Board, Entry};
use crate::bus::Bus;
use crate::bus::delivered::IN_PROGRESS;
use crate::database::DatabaseSettings;
use crate::metrics::{DeadReason, Metrics, SubscriptionMetrics};
use crate::peers::Peers;
use crate::project::{Applied, Standing, Store, Trouble};
use crate::publish::Publisher;
use crate::trace::Tracer;

/// `max_ack_pending` of a pinned durable: more would never come.
const PINNED_WINDOW: usize = 512;
/// Before a pull that could not be sent is tried again.
const RETRY: Duration = Duration::from_millis(100);
/// How soon to look again where something is due that may not be done yet.
const BLOCKED: Duration = Duration::from_millis(20);
/// How often the marks of progress are looked at.
const MARK_INTERVAL: Duration = Duration::from_secs(1);
/// An event is marked when its last mark is older, so at least every third of the ack wait.
const MARK_AFTER: Duration = Duration::from_millis(ACK_WAIT.as_millis() as u64 / 3 - 1000);
/// What a message has beside payload and headers: its subject and where its acknowledgement goes.
const ROUTING: usize = 4 << 10;
/// How long another replica that receives now may wait for what is held here.
const LET_GO: Duration = Duration::from_secs(1);
/// How long the broker may take to say what was lost on its way here, before a pin is given up without its word.
const PARTING: Duration = Duration::from_millis(500);
/// How often the broker is asked for a sign of life where no pull brings one.
const SIGN_INTERVAL: Duration = Duration::from_secs(2);
/// The same while nothing may be pulled before it answers.
const SHORT_SIGN_INTERVAL: Duration = Duration::from_millis(500);
/// The longest that the end waits for dead letters to be stored; the bus delivers those events again.
const LONGEST_BURIAL: Duration = Duration::from_secs(5);
/// The longest that the end waits for what the broker still sends.
const END: Duration = Duration::from_secs(1);

/// What a subscription's task needs.
pub(super) struct Runner {
    pub(super) bus: Bus,
    pub(super) publisher: Publisher,
    pub(super) authorization: HeaderValue,
    pub(super) tracer: Tracer,
    pub(super) metrics: Arc<Metrics>,
    pub(super) board: Arc<Board>,
    pub(super) terms: watch::Receiver<Terms>,
    pub(super) peers: watch::Receiver<Arc<Peers>>,
    pub(super) database: Option<DatabaseSettings>,
    /// From where the durable is to deliver again, before anything else.
    pub(super) rewind: Option<u64>,
    /// The position for which that was done last.
    pub(super) rewound: Option<u64>,
    pub(super) stop: CancellationToken,
}

/// An event that is held.
struct Held {
    message: Arc<Message>,
    /// Where its acknowledgement goes.
    reply: Subject,
    /// The last time the broker was told that it is worked on.
    marked: Instant,
    /// It was handed to someone before.
    again: bool,
    /// A batch with it failed: it is sent alone.
    alone: bool,
    attempts: u32,
    first_attempt: Option<Timestamp>,
    last_attempt: Option<Timestamp>,
}

/// Something that went on beside the loop and has ended.
enum Ended {
    Attempt(Position, Answer, Duration),
    Batch(Vec<Position>, Answer, Duration),
    Burial(Position, DeadReason),
    /// An acknowledgement that had to wait for room.
    Sent,
    /// The database of a projection was opened.
    Opened(Result<(Store, Standing), Trouble>),
    /// Events were applied to it.
    Applied(Vec<Turn>, Result<(Store, Applied), Trouble>, Duration),
    /// What was built beside has taken its place.
    Swapped(Result<(), Trouble>),
}

type Work = FuturesUnordered<Pin<Box<dyn Future<Output = Ended> + Send>>>;

struct Subscription {
    runner: Runner,
    terms: Terms,
    peers: Arc<Peers>,
    entry: Arc<Entry>,
    metrics: SubscriptionMetrics,
    client: Arc<Client>,
    target: Arc<Target>,
    hasher: RandomState,
    inboxes: Inboxes,
    /// Where the bus tells that a durable has a new leader.
    elections: SelectAll<Subscriber>,
    pulls: Vec<Pull>,
    /// Durables that are to be let go of, by their index, and whether they are pinned here.
    leaving: Vec<(usize, bool)>,
    /// Durables that are to be received again, by their index.
    returning: Vec<usize>,
    lanes: Lanes<Held>,
    hold: Hold<Position>,
    /// What there is where events go to the database.
    projecting: Option<Projecting>,
    rate: Rate,
    /// When the rate lets something out again that waits for it.
    next_token: Option<Instant>,
    /// When a batch goes out although it is not full.
    batch_due: Option<Instant>,
    /// What is passed over; an expression that does not compile holds all up.
    filter: Result<Option<Filter>, String>,
    work: Work,
    next_marks: Instant,
    connects: u64,
    /// Until when burials may hold up the end, once it is to end.
    stopping: Option<Instant>,
    /// A durable is another one than before: all starts over.
    is_replaced: bool,
}

impl Runner {
    /// Runs until it is stopped and all is finished or given back.
    pub(super) async fn run(self) {
        let terms = self.terms.borrow().clone();
        let name = terms.subscription.name.clone();
        let (board, metrics) = (self.board.clone(), self.metrics.clone());
        let mut next = Some((self, terms));
        while let Some((mut runner, terms)) = next {
            if !runner.rewinds(&terms).await {
                break;
            }
            let durables = terms.subscription.durables().count();
            match Inboxes::open(runner.bus.client().clone(), durables).await {
                Ok(inboxes) => next = Subscription::new(runner, terms, inboxes).run().await,
                Err(error) => {
                    tracing::error!(subscription = %name, %error, "cannot receive");
                    next = None;
                }
            }
        }
        board.remove(&name);
        metrics.deliveries.forget(name.as_str());
    }
}

impl Subscription {
    fn new(runner: Runner, terms: Terms, inboxes: Inboxes) -> Self {
        let now = Instant::now();
        let subscription = &terms.subscription;
        let peers = runner.peers.borrow().clone();
        let entry = runner.board.entry(&subscription.name);
        let client = Arc::new(Client::new(terms.port()));
        let is_ordered = subscription.ordering != Ordering::None;
        let pull = |(shard, durable)| Pull::new(durable, shard, is_ordered, now);
        let pulls: Vec<_> = subscription.durables().map(pull).collect();
        let mut lanes = Lanes::new();
        for (index, _) in pulls.iter().enumerate().filter(|(_, pull)| !pull.barrier.is_open()) {
            lanes.shut(index);
        }
        entry.set_timeout(terms.timeout());
        entry.in_flight.store(0, Relaxed);
        Self {
            target: Arc::new(target(&terms, &client, &runner.authorization)),
            metrics: runner.metrics.deliveries.subscription(subscription.name.as_str()),
            connects: runner.bus.link().connects,
            peers,
            runner,
            entry,
            client,
            hasher: RandomState::new(),
            inboxes,
            elections: SelectAll::new(),
            pulls,
            leaving: Vec::new(),
            returning: Vec::new(),
            lanes,
            hold: Hold::new(),
            projecting: Projecting::of(&terms, now),
            rate: Rate::new(now),
            next_token: None,
            batch_due: None,
            filter: Ok(None),
            work: Work::new(),
            next_marks: now,
            stopping: None,
            is_replaced: false,
            terms,
        }
    }

    /// Returns what the next one needs, when all starts over.
    async fn run(mut self) -> Option<(Runner, Terms)> {
        let mut link = self.runner.bus.watch();
        let stop = self.runner.stop.clone();
        self.watch_elections().await;
        self.compile();
        self.assign(Instant::now());
        self.show_hold();
        loop {
            self.leave().await;
            self.come_back().await;
            let now = Instant::now();
            self.part_overdue(now);
            self.let_go(now);
            self.pull(now);
            self.look(now);
            self.send(now);
            self.mark(now);
            self.show();
            if self.stopping.is_some() && !self.is_busy(now) {
                break;
            }
            let wake = self.next_wake(now);
            tokio::select! {
                biased;
                Some(ended) = self.work.next() => self.ended(ended),
                arrival = self.inboxes.next() => {
                    // Without one the client is gone.
                    let mut next = Some(arrival?);
                    // What else is there is taken at once.
                    while let Some(message) = next {
                        if !self.arrived(message) {
                            self.start_anew().await;
                        }
                        next = self.inboxes.next_now();
                    }
                },
                Some(elected) = self.elections.next() => self.is_led_anew(&elected.subject),
                changed = link.changed() => if changed.is_ok() { self.relink() } else { return None },
                () = stop.cancelled(), if self.stopping.is_none() => {
                    self.stopping = Some(Instant::now() + LONGEST_BURIAL);
                    self.assign(Instant::now());
                }
                Ok(()) = self.runner.terms.changed() => self.new_terms(),
                Ok(()) = self.runner.peers.changed() => {
                    self.peers = self.runner.peers.borrow_and_update().clone();
                    self.assign(Instant::now());
                }
                () = sleep_until(wake) => {}
            }
            if self.is_replaced {
                tracing::error!(
                    subscription = %self.terms.subscription.name, held = self.lanes.len(),
                    "the event store or a durable was replaced: what was held is let go of, and delivery starts over"
                );
                return Some((self.runner, self.terms));
            }
            if self.runner.rewind.is_some() {
                return Some((self.runner, self.terms));
            }
            if !self.fenced() {
                self.start_anew().await;
            }
        }
        self.release().await;
        None
    }

    /// When something must be done although nothing happens.
    fn next_wake(&self, now: Instant) -> Instant {
        let mut wake = now + Duration::from_secs(3600);
        if self.may_ask() {
            wake = self.pulls.iter().filter_map(Pull::next_look).fold(wake, Instant::min);
        }
        if let May::WaitUntil(probe) = self.hold.may(now) {
            wake = wake.min(probe);
        }
        for pull in &self.pulls {
            wake = pull
                .next_question()
                .into_iter()
                .chain(pull.give_back_at)
                .chain(pull.parts_by)
                .fold(wake, Instant::min);
        }
        let concurrency = self.terms.concurrency();
        if let (May::SendAll | May::Probe, Some(due)) = (self.hold.may(now), self.lanes.next_due())
            && self.entry.in_flight.load(Relaxed) < concurrency
        {
            wake = wake.min(due);
        }
        let projecting = self.projecting.as_ref().and_then(|it| it.next_wake(now));
        for next in [self.next_token, self.batch_due, projecting].into_iter().flatten() {
            wake = wake.min(next);
        }
        if let Some(end) = self.stopping {
            wake = wake.min(end);
        }
        if self.lanes.len() > 0 {
            wake = wake.min(self.next_marks);
        }
        if let Some(prune) = self.client.prune(now) {
            wake = wake.min(prune);
        }
        // What is due and was not done waits for something that wakes this loop by itself.
        if wake <= now { now + BLOCKED } else { wake }
    }

    /// Tells the broker about all that is held and was not told about for a while.
    fn mark(&mut self, now: Instant) {
        // A mark for what may be another's would hold that one up.
        if now < self.next_marks || !self.runner.bus.link().connected || !self.fenced() {
            return;
        }
        self.next_marks = now + MARK_INTERVAL;
        let mut due = Vec::new();
        for (_, held) in self.lanes.iter_mut() {
            if now.duration_since(held.marked) >= MARK_AFTER {
                held.marked = now;
                due.push(held.reply.clone());
            }
        }
        for reply in due {
            self.say(reply, IN_PROGRESS);
        }
    }
}

fn target(terms: &Terms, client: &Client, authorization: &HeaderValue) -> Target {
    let subscription = &terms.subscription;
    let head = request::fixed(
        subscription.deliver().map_or("", |deliver| &deliver.path),
        &[
            ("host", &client.address().to_string()),
            ("authorization", authorization.to_str().unwrap_or_default()),
            ("murmur-subscription", subscription.name.as_str()),
        ],
    );
    // A replay's id may hold any character; it is written as attributes of events are.
    let replay = subscription
        .replay
        .as_ref()
        .map(|replay| Replay { id: attribute::encode(&replay.id).into_owned(), boundary: replay.boundary });
    Target { head, replay }
}
