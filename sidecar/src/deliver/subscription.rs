//! One subscription: one task that pulls, sends, judges and acknowledges.
//!
//! An event is acknowledged only after the service's 2xx, or once its dead
//! letter is stored. While it waits here, for its turn, for a retry or for a
//! slow service, the broker is told so, and does not deliver it to another.
//!
//! How often an event was tried is kept in memory: after a restart of the
//! sidecar, or a loss of the broker for longer than the ack wait, the count
//! starts anew. The broker's own count of deliveries is no count of attempts.

use std::collections::hash_map::RandomState;
use std::future::Future;
use std::hash::BuildHasher;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use async_nats::{Message, Subject, Subscriber};
use bytes::Bytes;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use http::HeaderValue;
use jiff::Timestamp;
use murmur_mesh::config::{DeadLetterPolicy, Ordering};
use murmur_mesh::durable::{ACK_WAIT, PIN_GROUP};
use murmur_mesh::subject;
use rand::Rng;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::Terms;
use super::client::Client;
use super::dead_letter::DeadLetter;
use super::fence::Moment;
use super::hold::{Counts, Hold, May};
use super::lanes::{Lanes, Position};
use super::pull::{Pull, Status, Window};
use super::request::{self, Target};
use super::verdict::{Answer, Verdict, verdict};
use crate::board::{Board, Entry};
use crate::bus::Bus;
use crate::bus::delivered::{ACK, Delivered, GIVE_BACK, IN_PROGRESS, terminate};
use crate::metrics::{DeadLabels, DeadReason, Metrics, SubscriptionMetrics};
use crate::publish::Publisher;

/// `max_ack_pending` of a pinned durable: more would never come.
const PINNED_WINDOW: usize = 512;
/// Before a pull that could not be sent is tried again.
const RETRY: Duration = Duration::from_millis(100);
/// How often the marks of progress are looked at.
const MARK_INTERVAL: Duration = Duration::from_secs(1);
/// An event is marked when its last mark is older, so at least every third of the ack wait.
const MARK_AFTER: Duration = Duration::from_millis(ACK_WAIT.as_millis() as u64 / 3 - 1000);
/// What a message has beside payload and headers: its subject and where its acknowledgement goes.
const ROUTING: usize = 4 << 10;
/// The longest that the end waits for dead letters to be stored; the bus delivers those events again.
const LONGEST_BURIAL: Duration = Duration::from_secs(5);
/// The longest that the end waits for what the broker still sends.
const END: Duration = Duration::from_secs(1);

/// What a subscription's task needs.
pub(super) struct Runner {
    pub(super) bus: Bus,
    pub(super) publisher: Publisher,
    pub(super) authorization: HeaderValue,
    pub(super) metrics: Arc<Metrics>,
    pub(super) board: Arc<Board>,
    pub(super) terms: watch::Receiver<Terms>,
    pub(super) stop: CancellationToken,
}

/// An event that is held.
struct Held {
    message: Arc<Message>,
    /// Where its acknowledgement goes.
    reply: Subject,
    /// The last time the broker was told that it is worked on.
    marked: Instant,
    attempts: u32,
    first_attempt: Option<Timestamp>,
    last_attempt: Option<Timestamp>,
}

/// Something that went on beside the loop and has ended.
enum Ended {
    Attempt(Position, Answer, Duration),
    Burial(Position, DeadReason),
    /// An acknowledgement that had to wait for room.
    Sent,
}

type Work = FuturesUnordered<Pin<Box<dyn Future<Output = Ended> + Send>>>;

struct Subscription {
    runner: Runner,
    terms: Terms,
    entry: Arc<Entry>,
    metrics: SubscriptionMetrics,
    client: Arc<Client>,
    target: Arc<Target>,
    hasher: RandomState,
    inbox: String,
    pulls: Vec<Pull>,
    lanes: Lanes<Held>,
    hold: Hold<Position>,
    work: Work,
    next_marks: Instant,
    connects: u64,
    /// Until when burials may hold up the end, once it is to end.
    stopping: Option<Instant>,
}

impl Runner {
    /// Runs until it is stopped and all is finished or given back.
    pub(super) async fn run(self) {
        let terms = self.terms.borrow().clone();
        let name = terms.subscription.name.clone();
        let (board, metrics) = (self.board.clone(), self.metrics.clone());
        let inbox = self.bus.client().new_inbox();
        match self.bus.client().subscribe(format!("{inbox}.*.*")).await {
            Ok(arrivals) => Subscription::new(self, terms, inbox).run(arrivals).await,
            Err(error) => tracing::error!(subscription = %name, %error, "cannot receive"),
        }
        board.remove(&name);
        metrics.forget(name.as_str());
    }
}

impl Subscription {
    fn new(runner: Runner, terms: Terms, inbox: String) -> Self {
        let now = Instant::now();
        let subscription = &terms.subscription;
        let entry = runner.board.entry(&subscription.name);
        let client = Arc::new(Client::new(subscription.deliver.port));
        let pulls = subscription.durables().map(|(shard, durable)| Pull::new(durable, shard, now)).collect();
        entry.set_timeout(subscription.deliver.timeout);
        Self {
            target: Arc::new(target(&terms, &client, &runner.authorization)),
            metrics: runner.metrics.subscription(subscription.name.as_str()),
            connects: runner.bus.link().connects,
            runner,
            entry,
            client,
            hasher: RandomState::new(),
            inbox,
            pulls,
            lanes: Lanes::new(),
            hold: Hold::new(),
            work: Work::new(),
            next_marks: now,
            stopping: None,
            terms,
        }
    }

    async fn run(mut self, mut arrivals: Subscriber) {
        let mut link = self.runner.bus.watch();
        let stop = self.runner.stop.clone();
        loop {
            let now = Instant::now();
            self.pull(now);
            self.send(now);
            self.mark(now);
            self.show();
            if self.stopping.is_some() && (self.may_release_early() || !self.is_busy(now)) {
                break;
            }
            let wake = self.next_wake(now);
            tokio::select! {
                biased;
                Some(ended) = self.work.next() => self.ended(ended),
                arrival = arrivals.next() => match arrival {
                    Some(message) => {
                        if !self.arrived(message) {
                            self.start_anew(&mut arrivals).await;
                        }
                        // What else is there is taken at once.
                        while let Some(Some(message)) = arrivals.next().now_or_never() {
                            if !self.arrived(message) {
                                self.start_anew(&mut arrivals).await;
                            }
                        }
                    }
                    // The client is gone.
                    None => return,
                },
                changed = link.changed() => if changed.is_ok() { self.relink() } else { return },
                () = stop.cancelled(), if self.stopping.is_none() => {
                    self.stopping = Some(Instant::now() + LONGEST_BURIAL);
                }
                Ok(()) = self.runner.terms.changed() => self.new_terms(),
                () = sleep_until(wake) => {}
            }
            if !self.fenced() {
                self.start_anew(&mut arrivals).await;
            }
        }
        self.release(arrivals).await;
    }

    // ---- pulling

    fn window(&self) -> Window {
        let events = match self.terms.subscription.ordering {
            Ordering::Key { .. } => PINNED_WINDOW,
            // Without pins the replicas share: what one holds, the others cannot have.
            Ordering::None => {
                (usize::from(self.terms.subscription.deliver.concurrency) * 4).clamp(16, PINNED_WINDOW)
            }
        };
        // A whole payload and what comes with it must fit, or it would never come.
        let least = self.runner.bus.client().max_payload() + ROUTING;
        Window { events, bytes: (self.terms.bytes / self.pulls.len().max(1)).max(least) }
    }

    fn may_ask(&self) -> bool {
        self.runner.bus.link().connected && !self.runner.bus.is_quiet()
    }

    fn pull(&mut self, now: Instant) {
        if !self.may_ask() {
            return;
        }
        let window = self.window();
        let filling = self.stopping.is_none();
        for index in 0..self.pulls.len() {
            let Some(ask) = self.pulls[index].ask(now, window, filling) else { continue };
            let reply = format!("{}.{index}.{}", self.inbox, ask.number);
            let asking = self.runner.bus.client().publish_with_reply(ask.subject, reply, ask.payload);
            // No room on the way to the bus, or no client any more: later.
            if !matches!(asking.now_or_never(), Some(Ok(()))) {
                self.pulls[index].restart(now + RETRY);
            }
        }
    }

    /// `false`: what is in the inbox is too old to be ours.
    fn arrived(&mut self, message: Message) -> bool {
        let moment = Moment::now();
        match message.status {
            None => {
                let Some(reply) = message.reply.clone() else { return true };
                let Some(delivered) = Delivered::parse(&reply) else { return true };
                let index = self.pulls.iter().position(|pull| pull.durable.as_str() == delivered.durable);
                let Some(index) = index else { return true };
                if !self.pulls[index].fence.holds(moment) {
                    return false;
                }
                self.pulls[index].fence.heard(moment);
                self.entry.pending.store(delivered.pending, Relaxed);
                if self.pulls[index].event(message.headers.as_ref()) {
                    self.took_over(index);
                }
                let position = Position { durable: index, sequence: delivered.sequence };
                self.admit(position, reply, message);
            }
            Some(status) => {
                let mut tokens = message.subject.rsplit('.');
                let number = tokens.next().and_then(|token| token.parse().ok());
                let index = tokens.next().and_then(|token| token.parse::<usize>().ok());
                let (Some(number), Some(index)) = (number, index) else { return true };
                let Some(pull) = self.pulls.get_mut(index) else { return true };
                if !pull.fence.holds(moment) {
                    return false;
                }
                pull.fence.heard(moment);
                let was_missing = pull.is_missing();
                match pull.status(number, status, &message, Instant::now()) {
                    Status::Fine => {}
                    Status::PinLost => self.drop_durable(index, "another replica receives these events now"),
                    Status::Missing if !was_missing => {
                        tracing::info!(durable = %self.pulls[index].durable, "is not there yet");
                    }
                    Status::Missing => {}
                    Status::Refused(cause) => {
                        tracing::warn!(durable = %self.pulls[index].durable, %cause, "the bus refused a pull");
                    }
                }
            }
        }
        true
    }

    /// This replica receives the durable's events from now on.
    ///
    /// This is where the barrier of ordered delivery goes: what the holder
    /// before had must be waited for and sorted in before anything is sent.
    fn took_over(&mut self, index: usize) {
        tracing::debug!(durable = %self.pulls[index].durable, "this replica receives its events");
    }

    fn admit(&mut self, position: Position, reply: Subject, message: Message) {
        if let Some(known) = self.lanes.get_mut(position) {
            // Delivered again: the new acknowledgement is the one that counts.
            known.reply = reply.clone();
            known.marked = Instant::now();
        }
        let malformed = request::check(&message).err();
        let lane = match self.terms.subscription.ordering {
            Ordering::Key { .. } if malformed.is_none() => {
                request::key(&message).map(|key| self.hasher.hash_one(key))
            }
            _ => None,
        };
        let bytes = message.length;
        let held = Held {
            message: Arc::new(message),
            reply,
            marked: Instant::now(),
            attempts: 0,
            first_attempt: None,
            last_attempt: None,
        };
        if self.lanes.len() == 0 {
            self.next_marks = held.marked + MARK_INTERVAL;
        }
        if self.lanes.admit(position, lane, held).is_some() {
            return;
        }
        self.pulls[position.durable].takes(bytes);
        if let Some(cause) = malformed {
            self.lanes.take_out(position);
            self.give_up(position, DeadReason::Malformed, cause);
        }
    }

    // ---- sending

    /// Sends what may be sent now.
    fn send(&mut self, now: Instant) {
        if self.stopping.is_some() {
            return;
        }
        let concurrency = usize::from(self.terms.subscription.deliver.concurrency);
        while self.entry.in_flight.load(Relaxed) < concurrency {
            let may = self.hold.may(now);
            if !matches!(may, May::SendAll | May::Probe) || !self.fenced() {
                return;
            }
            let Some(position) = self.lanes.next(now) else { return };
            if may == May::Probe {
                self.hold.probing(position);
            }
            self.attempt(position);
        }
    }

    fn attempt(&mut self, position: Position) {
        let Some(held) = self.lanes.get_mut(position) else { return };
        let moment = Timestamp::now();
        held.first_attempt.get_or_insert(moment);
        held.last_attempt = Some(moment);
        let message = held.message.clone();
        let attempt = held.attempts + 1;
        let (client, target) = (self.client.clone(), self.target.clone());
        let timeout = self.terms.subscription.deliver.timeout;
        self.entry.in_flight.fetch_add(1, Relaxed);
        self.work.push(Box::pin(async move {
            let started = Instant::now();
            let build = || request::build(&message, position.sequence, attempt, &target);
            let answer = client.post(build, timeout).await;
            Ended::Attempt(position, answer, started.elapsed())
        }));
    }

    fn ended(&mut self, ended: Ended) {
        match ended {
            Ended::Attempt(position, answer, took) => {
                self.entry.in_flight.fetch_sub(1, Relaxed);
                self.metrics.seconds.observe(took.as_secs_f64());
                self.answered(position, verdict(answer));
            }
            Ended::Burial(position, reason) => {
                self.finish(position, terminate(reason.as_str()));
            }
            Ended::Sent => {}
        }
    }

    fn answered(&mut self, position: Position, verdict: Verdict) {
        let now = Instant::now();
        let counter = match &verdict {
            Verdict::Done => &self.metrics.done,
            Verdict::Rejected(_) => &self.metrics.rejected,
            Verdict::Unavailable { .. } => &self.metrics.unavailable,
            Verdict::Failed(_) => &self.metrics.failed,
        };
        counter.inc();
        let counts = self.hold.judged(position, &verdict, now);
        self.show_hold();
        match verdict {
            Verdict::Done => {
                self.entry.last_sequence.fetch_max(position.sequence, Relaxed);
                self.finish(position, ACK);
            }
            Verdict::Rejected(cause) => {
                self.count_attempt(position);
                self.give_up(position, DeadReason::Rejected, cause);
            }
            Verdict::Failed(cause) if counts == Counts::Yes => self.failed(position, cause, now),
            Verdict::Unavailable { .. } | Verdict::Failed(_) => {
                self.lanes.put_back(position);
                self.recount();
            }
        }
    }

    fn failed(&mut self, position: Position, cause: String, now: Instant) {
        let retry = &self.terms.subscription.retry;
        let most = retry.max_attempts;
        let attempts = self.count_attempt(position);
        if attempts >= most {
            return self.give_up(position, DeadReason::Exhausted, cause);
        }
        tracing::debug!(
            subscription = %self.terms.subscription.name, sequence = position.sequence, attempts, %cause,
            "an event failed and is tried again"
        );
        // Jitter shortens, so that the configured delays are the longest ones.
        let delay = self.terms.subscription.retry.delay_after(attempts);
        self.lanes.put_off(position, now + delay.mul_f64(rand::rng().random_range(0.8..1.0)));
        self.recount();
    }

    fn count_attempt(&mut self, position: Position) -> u32 {
        self.lanes.get_mut(position).map_or(0, |held| {
            held.attempts += 1;
            held.attempts
        })
    }

    /// Stores the dead letter first; the event stays out, and its lane waits, until that is done.
    fn give_up(&mut self, position: Position, reason: DeadReason, cause: String) {
        let Some(held) = self.lanes.get_mut(position) else { return };
        let subscription = &self.terms.subscription;
        tracing::warn!(
            subscription = %subscription.name, sequence = position.sequence, attempts = held.attempts, %cause,
            reason = reason.as_str(), policy = ?subscription.dead_letter, "an event is given up"
        );
        let labels = DeadLabels { subscription: subscription.name.to_string(), reason };
        self.runner.metrics.dead_letters.get_or_create(&labels).inc();
        if subscription.dead_letter == DeadLetterPolicy::Discard {
            return self.finish(position, terminate(reason.as_str()));
        }
        let letter = DeadLetter {
            service: self.terms.service.clone(),
            subscription: subscription.name.clone(),
            shard: self.pulls[position.durable].shard,
            sequence: position.sequence,
            event_store: self.terms.event_store.clone(),
            reason,
            cause,
            attempts: held.attempts,
            first_attempt: held.first_attempt,
            last_attempt: held.last_attempt,
        };
        let (message, publisher) = (held.message.clone(), self.runner.publisher.clone());
        self.work.push(Box::pin(async move {
            letter.bury(message, publisher).await;
            Ended::Burial(position, reason)
        }));
    }

    /// An event is over: the broker is told, and its lane goes on.
    fn finish(&mut self, position: Position, word: Bytes) {
        if let Some(held) = self.lanes.finish(position) {
            self.pulls[position.durable].lets_go(held.message.length);
            self.say(held.reply, word);
        }
    }

    /// Counts what is held anew, after the lanes may have let something go.
    fn recount(&mut self) {
        let held: usize = self.pulls.iter().map(|pull| pull.held).sum();
        if held == self.lanes.len() {
            return;
        }
        for pull in &mut self.pulls {
            (pull.held, pull.held_bytes) = (0, 0);
        }
        for (position, bytes) in self.lanes.sizes(|held| held.message.length) {
            self.pulls[position.durable].takes(bytes);
        }
    }

    /// Tells the broker something about an event, without waiting.
    fn say(&mut self, reply: Subject, word: Bytes) {
        let client = self.runner.bus.client();
        if client.publish(reply.clone(), word.clone()).now_or_never().is_none() {
            let client = client.clone();
            self.work.push(Box::pin(async move {
                let _ = client.publish(reply, word).await;
                Ended::Sent
            }));
        }
    }

    // ---- staying in touch

    /// When something must be done although nothing happens.
    fn next_wake(&self, now: Instant) -> Instant {
        let mut wake = now + Duration::from_secs(3600);
        if self.may_ask() {
            wake = self.pulls.iter().map(Pull::next_look).fold(wake, Instant::min);
        }
        if let May::WaitUntil(probe) = self.hold.may(now) {
            wake = wake.min(probe);
        }
        let concurrency = usize::from(self.terms.subscription.deliver.concurrency);
        if let (May::SendAll | May::Probe, Some(due)) = (self.hold.may(now), self.lanes.next_due())
            && self.entry.in_flight.load(Relaxed) < concurrency
        {
            wake = wake.min(due);
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
        // Never a busy loop, whatever the moments above say.
        wake.max(now + Duration::from_millis(1))
    }

    /// Tells the broker about all that is held and was not told about for a while.
    fn mark(&mut self, now: Instant) {
        if now < self.next_marks || !self.runner.bus.link().connected {
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

    /// The connection came or went.
    fn relink(&mut self) {
        let link = self.runner.bus.link();
        if link.connected && link.connects != self.connects {
            self.connects = link.connects;
            let now = Instant::now();
            for pull in &mut self.pulls {
                pull.restart(now);
            }
            self.next_marks = now;
        }
    }

    /// Whether all that is held is still ours.
    fn fenced(&self) -> bool {
        if self.lanes.len() == 0 {
            return true;
        }
        let moment = Moment::now();
        self.pulls.iter().all(|pull| pull.held == 0 || pull.fence.holds(moment))
    }

    /// The broker was not heard for too long: what is held and what is in the
    /// inbox may be another's by now. Drops it and pulls anew, into a new inbox.
    async fn start_anew(&mut self, arrivals: &mut Subscriber) {
        let moment = Moment::now();
        let connected = self.runner.bus.link().connected;
        for index in 0..self.pulls.len() {
            if !self.pulls[index].fence.holds(moment) {
                self.drop_durable(index, "the bus was not heard for too long");
                if connected {
                    self.pulls[index].fence.heard(moment);
                }
            }
        }
        // Its first word after it is back comes here again.
        if !connected {
            return;
        }
        self.inbox = self.runner.bus.client().new_inbox();
        match self.runner.bus.client().subscribe(format!("{}.*.*", self.inbox)).await {
            Ok(fresh) => *arrivals = fresh,
            Err(error) => tracing::error!(%error, "cannot receive"),
        }
        let now = Instant::now();
        for pull in &mut self.pulls {
            pull.restart(now);
        }
    }

    fn drop_durable(&mut self, index: usize, why: &'static str) {
        let dropped = self.lanes.drop_durable(index).len();
        self.recount();
        if dropped > 0 {
            tracing::info!(
                durable = %self.pulls[index].durable, events = dropped, why,
                "let go of what was not delivered yet"
            );
        }
    }

    // ---- changing and ending

    fn new_terms(&mut self) {
        self.terms = self.runner.terms.borrow_and_update().clone();
        let deliver = &self.terms.subscription.deliver;
        if self.client.address().port() != deliver.port {
            self.client = Arc::new(Client::new(deliver.port));
        }
        self.entry.set_timeout(deliver.timeout);
        self.target = Arc::new(target(&self.terms, &self.client, &self.runner.authorization));
    }

    /// Whether something is under way that is worth waiting for.
    fn is_busy(&self, now: Instant) -> bool {
        let burials = self.lanes.out() > 0 && self.runner.bus.link().connected;
        self.entry.in_flight.load(Relaxed) > 0 || burials && self.stopping.is_some_and(|end| now < end)
    }

    /// Without an order, what was not sent can go to others while the rest is finished.
    fn may_release_early(&self) -> bool {
        self.terms.subscription.ordering == Ordering::None
    }

    /// Gives back all that was not delivered, and the pins, so that another
    /// replica goes on at once.
    async fn release(mut self, mut arrivals: Subscriber) {
        let end = Instant::now() + END;
        let _ = tokio::time::timeout_at(end, arrivals.drain()).await;
        while let Ok(Some(message)) = tokio::time::timeout_at(end, arrivals.next()).await {
            self.arrived(message);
        }
        self.give_back();
        // Only without an order is anything still out; the service's own time bounds it.
        while self.is_busy(Instant::now()) {
            let wake = self.next_marks.max(Instant::now() + RETRY);
            tokio::select! {
                Some(ended) = self.work.next() => {
                    self.ended(ended);
                    self.give_back();
                }
                () = sleep_until(wake) => self.mark(Instant::now()),
            }
        }
        self.unpin();
        // Words that had to wait for room.
        let rest = async { while self.work.next().await.is_some() {} };
        let _ = tokio::time::timeout(END, rest).await;
        self.show();
    }

    fn give_back(&mut self) {
        for held in self.lanes.release() {
            self.say(held.reply, GIVE_BACK);
        }
    }

    /// Without it another replica would wait for the pin's time to run out.
    fn unpin(&self) {
        for pull in self.pulls.iter().filter(|pull| pull.is_pinned() && pull.has_pin()) {
            let request = Bytes::from(format!(r#"{{"group":"{PIN_GROUP}"}}"#));
            let reply = format!("{}.0.0", self.inbox);
            let client = self.runner.bus.client().clone();
            let subject = subject::unpin_request(&pull.durable);
            self.work.push(Box::pin(async move {
                let _ = client.publish_with_reply(subject, reply, request).await;
                Ended::Sent
            }));
        }
    }

    // ---- showing

    fn show(&self) {
        let held = self.lanes.len();
        if self.entry.buffered.swap(held, Relaxed) != held {
            self.metrics.buffered.set(i64::try_from(held).unwrap_or(i64::MAX));
        }
        let in_flight = i64::try_from(self.entry.in_flight.load(Relaxed)).unwrap_or(i64::MAX);
        self.metrics.in_flight.set(in_flight);
    }

    fn show_hold(&self) {
        let cause = self.hold.cause().map(str::to_owned);
        let held = cause.is_some();
        if self.runner.board.hold(&self.entry, cause.clone()) {
            self.metrics.held.set(i64::from(held));
            match cause {
                Some(cause) => tracing::warn!(
                    subscription = %self.terms.subscription.name, %cause, "the service is unavailable; its events wait"
                ),
                None => {
                    tracing::info!(subscription = %self.terms.subscription.name, "the service is there again");
                }
            }
        }
    }
}

fn target(terms: &Terms, client: &Client, authorization: &HeaderValue) -> Target {
    let subscription = &terms.subscription;
    // Both are checked when a configuration is parsed.
    let ascii = |text: &str| HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static(""));
    Target {
        host: ascii(&client.address().to_string()),
        path: subscription.deliver.path.parse().unwrap_or_default(),
        subscription: ascii(subscription.name.as_str()),
        authorization: authorization.clone(),
    }
}
