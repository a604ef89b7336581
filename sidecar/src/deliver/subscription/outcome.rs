//! Sending events to the service, and what its answers lead to.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use async_nats::{HeaderValue, Message, Subject};
use bytes::Bytes;
use futures::FutureExt;
use jiff::Timestamp;
use murmur_mesh::config::{DeadLetterPolicy, Ordering};
use tokio::time::Instant;

use super::{Ended, Subscription};
use crate::bus::delivered::{ACK, terminate};
use crate::deliver::dead_letter::DeadLetter;
use crate::deliver::fence::Moment;
use crate::deliver::hold::{Counts, May};
use crate::deliver::lanes::Position;
use crate::deliver::request;
use crate::deliver::verdict::{Answer, Verdict, verdict};
use crate::metrics::DeadReason;
use crate::trace::{self, Context, Kind, Span};

/// How a delivery went, for its span.
pub(super) fn tell(span: &mut Span, answer: &Answer) {
    match answer {
        Answer::Status { status, .. } if status.is_success() => {
            span.count("http.response.status_code", status.as_u16().into());
        }
        failure => span.fails(&format!("{failure:?}")),
    }
}

impl Subscription {
    /// Sends what may be sent now.
    pub(super) fn send(&mut self, now: Instant) {
        if self.stopping.is_some() || self.filter.is_err() {
            return;
        }
        if self.projecting.is_some() {
            return self.project(now);
        }
        let concurrency = self.terms.concurrency();
        while self.entry.in_flight.load(Relaxed) < concurrency {
            let may = self.hold.may(now);
            if !matches!(may, May::SendAll | May::Probe) || !self.fenced() {
                return;
            }
            let room = self.within_rate(now);
            if room == 0 {
                return;
            }
            if let Some(batch) = self.terms.batch().cloned() {
                if !self.send_batch(&batch, may, room, now) {
                    return;
                }
                continue;
            }
            let Some(position) = self.lanes.next(now) else { return };
            if let Some(reason) = self.passes_over(position) {
                self.metrics.passed_over(reason).inc();
                self.finish(position, ACK);
                continue;
            }
            if may == May::Probe {
                self.hold.probing(position);
            }
            self.rate.sent(1);
            self.attempt(position);
        }
    }

    pub(super) fn attempt(&mut self, position: Position) {
        let Some(held) = self.lanes.get_mut(position) else { return };
        let moment = Timestamp::now();
        held.first_attempt.get_or_insert(moment);
        held.last_attempt = Some(moment);
        let message = held.message.clone();
        let attempt = held.attempts + 1;
        let (client, target) = (self.client.clone(), self.target.clone());
        let timeout = self.terms.timeout();
        self.entry.in_flight.fetch_add(1, Relaxed);
        let mut span = self.span(&message);
        self.work.push(Box::pin(async move {
            let started = Instant::now();
            let trace = span.as_ref().map(Span::header);
            let trace = trace.as_ref().and_then(|trace| trace.to_str().ok());
            let request = request::build(&message, position.sequence, attempt, &target, trace);
            let answer = client.post(request, timeout).await;
            if let Some(span) = &mut span {
                tell(span, &answer);
            }
            Ended::Attempt(position, answer, started.elapsed())
        }));
    }

    /// The span of a delivery, where spans go anywhere.
    fn span(&self, message: &Message) -> Option<Span> {
        let tracer = &self.runner.tracer;
        let headers = message.headers.as_ref().filter(|_| tracer.exports())?;
        let parent = headers.get(trace::PARENT).and_then(|value| Context::parse(value.as_str()));
        let text = |name| headers.get(name).map_or("", HeaderValue::as_str);
        let mut span = tracer.start(parent, Kind::Consumer, || format!("deliver {}", text("ce-type")));
        span.note("messaging.message.id", text("ce-id"));
        span.note("murmur.subscription", &self.terms.subscription.name);
        Some(span)
    }

    pub(super) fn ended(&mut self, ended: Ended) {
        match ended {
            Ended::Attempt(position, answer, took) => {
                self.entry.in_flight.fetch_sub(1, Relaxed);
                self.metrics.seconds.observe(took.as_secs_f64());
                self.answered(position, verdict(answer), None);
            }
            Ended::Batch(positions, answer, took) => {
                self.entry.in_flight.fetch_sub(1, Relaxed);
                self.metrics.seconds.observe(took.as_secs_f64());
                self.batch_answered(positions, answer);
            }
            Ended::Burial(position, reason) if self.is_in_line(reason) => self.buried(position, reason),
            Ended::Opened(opened) => self.opened(opened),
            Ended::Applied(turns, applied, took) => {
                self.entry.in_flight.fetch_sub(1, Relaxed);
                self.metrics.seconds.observe(took.as_secs_f64());
                self.applied(turns, applied);
            }
            Ended::Swapped(swapped) => self.swapped(swapped),
            Ended::Burial(position, reason) => {
                self.finish(position, terminate(reason.as_str()));
            }
            Ended::Sent => {}
        }
    }

    /// What follows from a verdict; `after`: how long the service asks to wait before a retry.
    pub(super) fn answered(&mut self, position: Position, verdict: Verdict, after: Option<Duration>) {
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
            Verdict::Failed(cause) if counts == Counts::Yes => self.failed(position, cause, after, now),
            Verdict::Unavailable { .. } | Verdict::Failed(_) => {
                self.lanes.put_back(position);
                self.recount();
            }
        }
    }

    fn failed(&mut self, position: Position, cause: String, after: Option<Duration>, now: Instant) {
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
        let delay = self.retry_delay(attempts).max(after.unwrap_or_default());
        self.lanes.put_off(position, now + delay);
        self.recount();
    }

    pub(super) fn count_attempt(&mut self, position: Position) -> u32 {
        self.lanes.get_mut(position).map_or(0, |held| {
            held.attempts += 1;
            held.attempts
        })
    }

    /// Stores the dead letter first; the event stays out, and its lane waits, until that is done.
    pub(super) fn give_up(&mut self, position: Position, reason: DeadReason, cause: String) {
        let Some(held) = self.lanes.get_mut(position) else { return };
        let subscription = &self.terms.subscription;
        tracing::warn!(
            subscription = %subscription.name, sequence = position.sequence, attempts = held.attempts, %cause,
            reason = reason.as_str(), policy = ?subscription.dead_letter, "an event is given up"
        );
        self.runner.metrics.deliveries.dead_letter(subscription.name.as_str(), reason);
        if subscription.dead_letter == DeadLetterPolicy::Discard {
            if self.is_in_line(reason) {
                return self.buried(position, reason);
            }
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
    pub(super) fn finish(&mut self, position: Position, word: Bytes) {
        let ours = self.is_ours(position);
        if let Some(held) = self.lanes.finish(position) {
            let pull = &mut self.pulls[position.durable];
            pull.lets_go(held.message.length);
            if ours && pull.said.ends((held.reply.clone(), word.clone()), Instant::now()) {
                self.say(held.reply, word);
            }
        }
    }

    /// Whether an end may be told to the broker: where there is an order, an end
    /// of what may be another's by now would let the next one out too early.
    fn is_ours(&self, position: Position) -> bool {
        self.terms.subscription.ordering == Ordering::None
            || !self.lanes.is_lost(position) && self.pulls[position.durable].fence.holds(Moment::now())
    }

    /// Counts what is held anew, after the lanes may have let something go.
    pub(super) fn recount(&mut self) {
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
    pub(super) fn say(&mut self, reply: Subject, word: Bytes) {
        let client = self.runner.bus.client();
        let saying = tokio::task::unconstrained(client.publish(reply.clone(), word.clone()));
        if saying.now_or_never().is_none() {
            let client = client.clone();
            self.work.push(Box::pin(async move {
                let _ = client.publish(reply, word).await;
                Ended::Sent
            }));
        }
    }
}
