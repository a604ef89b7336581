//! Sending several events in one request. A batch has one event of each key, so
//! that what follows an event that is retried is still here.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use async_nats::Message;
use jiff::Timestamp;
use murmur_mesh::config::Batch;
use tokio::time::Instant;

use super::outcome::tell;
use super::{Ended, Subscription};
use crate::bus::delivered::ACK;
use crate::deliver::batch::{self, Results};
use crate::deliver::hold::May;
use crate::deliver::lanes::Position;
use crate::deliver::request;
use crate::deliver::verdict::{Answer, Verdict, verdict};
use crate::trace::{self, Context, Kind, Links, Span};

impl Subscription {
    /// Sends the next batch if it is full or has waited long enough. `false`: not now.
    pub(super) fn send_batch(&mut self, terms: &Batch, may: May, room: usize, now: Instant) -> bool {
        let ready = self.lanes.ready(now);
        let most = usize::from(terms.max_events).min(room);
        if ready == 0 {
            self.batch_due = None;
            return false;
        }
        if ready < most && now < *self.batch_due.get_or_insert(now + terms.max_wait) {
            return false;
        }
        self.batch_due = None;
        let most = if may == May::Probe { 1 } else { most };
        let (mut members, mut bytes) = (Vec::new(), 0);
        while members.len() < most
            && let Some(position) = self.lanes.next(now)
        {
            if let Some(reason) = self.passes_over(position) {
                self.metrics.passed_over(reason).inc();
                self.finish(position, ACK);
                continue;
            }
            let Some(held) = self.lanes.get_mut(position) else { continue };
            bytes += batch::room(&held.message);
            if !members.is_empty() && (held.alone || bytes > batch::LARGEST) {
                self.lanes.put_first(position);
                break;
            }
            let moment = Timestamp::now();
            held.first_attempt.get_or_insert(moment);
            held.last_attempt = Some(moment);
            let alone = held.alone;
            members.push((position, held.message.clone(), held.attempts + 1));
            if alone {
                break;
            }
        }
        let Some((first, ..)) = members.first() else { return ready > 0 && self.lanes.ready(now) > 0 };
        if may == May::Probe {
            self.hold.probing(*first);
        }
        self.rate.sent(members.len());
        self.attempt_batch(members);
        true
    }

    fn attempt_batch(&mut self, members: Vec<(Position, Arc<Message>, u32)>) {
        let (client, target) = (self.client.clone(), self.target.clone());
        let timeout = self.terms.timeout();
        self.entry.in_flight.fetch_add(1, Relaxed);
        let mut span = self.batch_span(&members);
        self.work.push(Box::pin(async move {
            let started = Instant::now();
            let mut body = Vec::new();
            for (position, message, attempt) in &members {
                batch::write(
                    &mut body,
                    message,
                    position.sequence,
                    *attempt,
                    target.replay_of(position.sequence),
                );
            }
            body.push(b']');
            let trace = span.as_ref().map(Span::header);
            let trace = trace.as_ref().and_then(|trace| trace.to_str().ok());
            let request = request::of_batch(body, &target, trace);
            let answer = client.post(request, timeout).await;
            if let Some(span) = &mut span {
                tell(span, &answer);
            }
            let positions = members.into_iter().map(|(position, ..)| position).collect();
            Ended::Batch(positions, answer, started.elapsed())
        }));
    }

    /// The span of a batch, where spans go anywhere: a trace of its own, linked to those of its events.
    fn batch_span(&self, members: &[(Position, Arc<Message>, u32)]) -> Option<Span> {
        let tracer = Some(&self.runner.tracer).filter(|tracer| tracer.exports())?;
        let values = |name: &'static str| {
            let heads = members.iter().filter_map(|(_, message, _)| message.headers.as_ref());
            heads.filter_map(move |head| Some(head.get(name)?.as_str()))
        };
        let links: Links = values(trace::PARENT).filter_map(Context::parse).collect();
        let name = || trace::name_of_batch("deliver", values("ce-type"));
        let mut span = tracer.start_batch(None, links, Kind::Consumer, name);
        span.batch(members.len());
        span.note("murmur.subscription", &self.terms.subscription.name);
        Some(span)
    }

    /// The service answered for a batch.
    pub(super) fn batch_answered(&mut self, positions: Vec<Position>, answer: Answer) {
        let said = match &answer {
            // What is missing may be what says that an event is to come again.
            Answer::Status { status, whole: false, .. } if status.is_success() => {
                Some(Err("the service's answer to a batch breaks off or is too long".to_owned()))
            }
            Answer::Status { status, body, .. } if status.is_success() => Some(Results::read(body)),
            _ => None,
        };
        match said {
            Some(Ok(results)) => {
                for position in positions {
                    let (verdict, after) = results.of(position.sequence);
                    self.answered(position, verdict, after);
                }
            }
            Some(Err(cause)) => self.all_answered(positions, &Verdict::Failed(cause)),
            None => self.all_answered(positions, &verdict(answer)),
        }
    }

    /// One answer for all. If they were several, it may be the fault of one: each
    /// is sent alone next, and this was no attempt.
    fn all_answered(&mut self, positions: Vec<Position>, verdict: &Verdict) {
        let blames = matches!(verdict, Verdict::Failed(_) | Verdict::Rejected(_));
        if positions.len() == 1 || !blames {
            for position in positions {
                self.answered(position, verdict.clone(), None);
            }
            return;
        }
        tracing::debug!(
            subscription = %self.terms.subscription.name, events = positions.len(), ?verdict,
            "a batch failed; its events are sent alone"
        );
        self.metrics.failed.inc();
        let later = Instant::now() + self.retry_delay(1);
        for position in positions {
            if let Some(held) = self.lanes.get_mut(position) {
                held.alone = true;
            }
            self.lanes.put_off(position, later);
        }
        self.recount();
    }

    /// The wait after a failure, with jitter, which shortens: the configured delays are the longest ones.
    pub(super) fn retry_delay(&self, attempts: u32) -> Duration {
        use rand::Rng;
        let delay = self.terms.subscription.retry.delay_after(attempts);
        delay.mul_f64(rand::rng().random_range(0.8..1.0))
    }
}
