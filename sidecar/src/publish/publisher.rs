//! Sends one message and waits until it is stored.

use std::time::Duration;

use async_nats::client::PublishErrorKind;
use async_nats::{HeaderMap, Subject};
use bytes::Bytes;
use tokio::time::{Instant, sleep, timeout_at};

use super::Outgoing;
use super::answer::{self, PublishError, Stored};
use crate::bus::Bus;

/// Until a copy of a message that is being stored is there, about.
const MOMENT: Duration = Duration::from_millis(20);

/// Publishes and waits; clones share the connection.
#[derive(Debug, Clone)]
pub(crate) struct Publisher {
    pub(super) bus: Bus,
    timeout: Duration,
    grace: Duration,
}

impl Publisher {
    /// A publisher that waits at most `timeout` for an acknowledgement, and at
    /// most `grace` for a connection that has just been lost.
    pub(crate) fn new(bus: Bus, timeout: Duration, grace: Duration) -> Self {
        Self { bus, timeout, grace }
    }

    /// Publishes. The message must be one that the broker recognises when it
    /// comes twice: after a lost connection it is sent again.
    pub(crate) async fn publish(
        &self,
        subject: String,
        headers: impl Fn() -> HeaderMap,
        payload: &Bytes,
    ) -> Result<Stored, PublishError> {
        self.publish_before(self.deadline(), false, subject, headers, payload).await
    }

    /// Publishes, and does not send again what a lost connection leaves open: for those who find out by other
    /// means than the broker's memory of message ids.
    pub(crate) async fn publish_once(&self, event: &Outgoing) -> Result<Stored, PublishError> {
        let deadline = self.deadline();
        loop {
            if !self.bus.link().connected {
                return Err(PublishError::Away);
            }
            let mut ticket = self.bus.replies().wait();
            let (subject, payload) = (Subject::from(event.subject()), event.payload().clone());
            let asked = self.bus.ask(subject, ticket.subject(), event.headers(), payload);
            asked.await.map_err(|error| not_sent(&error))?;
            let answer = timeout_at(deadline, ticket.answer()).await.map_err(|_| PublishError::TimedOut)?;
            drop(ticket);
            match answer::read(&answer.ok_or(PublishError::Lost)?) {
                Err(error) if error.is_under_way() => sleep(MOMENT).await,
                result => return result,
            }
        }
    }

    /// When a publish that begins now is given up.
    pub(crate) fn deadline(&self) -> Instant {
        Instant::now() + self.timeout
    }

    /// Half the way to the [deadline](Self::deadline).
    pub(super) fn half_deadline(&self) -> Instant {
        Instant::now() + self.timeout / 2
    }

    /// Publishes, as [`Publisher::publish`], with what is left of the time.
    /// `perhaps_stored`: an attempt before this one had no answer.
    pub(super) async fn publish_before(
        &self,
        deadline: Instant,
        mut perhaps_stored: bool,
        subject: impl Into<Subject>,
        headers: impl Fn() -> HeaderMap,
        payload: &Bytes,
    ) -> Result<Stored, PublishError> {
        let subject = subject.into();
        let mut sent = false;
        let storing = self.until_stored(subject, headers, payload, &mut sent, &mut perhaps_stored);
        match timeout_at(deadline, storing).await {
            // What the last attempt was told says nothing of those before.
            Ok(Err(error)) if perhaps_stored && error.leaves_open_what_was_before() => {
                Err(PublishError::Lost)
            }
            Ok(result) => result,
            Err(_) if sent && self.bus.link().connected => Err(PublishError::TimedOut),
            Err(_) if sent || perhaps_stored => Err(PublishError::Lost),
            Err(_) => Err(PublishError::Away),
        }
    }

    async fn until_stored(
        &self,
        subject: Subject,
        headers: impl Fn() -> HeaderMap,
        payload: &Bytes,
        sent: &mut bool,
        perhaps_stored: &mut bool,
    ) -> Result<Stored, PublishError> {
        loop {
            if !self.bus.link().connected {
                self.wait_for_connection(*sent || *perhaps_stored).await?;
            }
            let mut ticket = self.bus.replies().wait();
            let asked = self.bus.ask(subject.clone(), ticket.subject(), headers(), payload.clone());
            match asked.await {
                Ok(()) => *sent = true,
                Err(error) => return Err(not_sent(&error)),
            }
            let Some(message) = ticket.answer().await else {
                *perhaps_stored = true;
                continue;
            };
            drop(ticket);
            match answer::read(&message) {
                Err(error) if error.is_under_way() => sleep(MOMENT).await,
                result => return result,
            }
        }
    }

    /// A connection that was there a moment ago is worth a short wait (new
    /// credentials, a broker that restarts); one that has been away is not.
    pub(super) async fn wait_for_connection(&self, sent: bool) -> Result<(), PublishError> {
        let mut link = self.bus.watch();
        let away = link.borrow().since.elapsed();
        let wait = if sent { Duration::MAX } else { self.grace.saturating_sub(away) };
        let failed = if sent { PublishError::Lost } else { PublishError::Away };
        if wait.is_zero() {
            return Err(failed);
        }
        match tokio::time::timeout(wait, link.wait_for(|link| link.connected)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(failed),
        }
    }
}

/// Why the client did not even send it.
pub(super) fn not_sent(error: &async_nats::client::PublishError) -> PublishError {
    match error.kind() {
        PublishErrorKind::MaxPayloadExceeded => PublishError::TooLarge,
        // The client is gone, or the subject is not valid: neither can happen here.
        _ => PublishError::Refused { code: 0, description: error.to_string() },
    }
}
