//! Where the broker's answers come in: an inbox for each durable, so that the pulls of one can be taken back, and what
//! came for it too late can be dropped, while nothing on its way for another is lost.

use std::fmt::Display;
use std::pin::Pin;
use std::task::{Context, Poll};

use async_nats::{Client, Message, SubscribeError, Subscriber};
use futures::stream::SelectAll;
use futures::{FutureExt, Stream, StreamExt};

/// One subscription of the client.
struct Inbox {
    durable: usize,
    messages: Subscriber,
}

impl Stream for Inbox {
    type Item = Message;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Message>> {
        self.messages.poll_next_unpin(context)
    }
}

/// The inboxes of a subscription's durables, by their index.
pub(super) struct Inboxes {
    client: Client,
    /// The one of each durable that answers are asked to.
    names: Vec<String>,
    /// These, and those before them that still have something to bring.
    open: SelectAll<Inbox>,
}

impl Inboxes {
    /// One for each of so many durables.
    pub(super) async fn open(client: Client, durables: usize) -> Result<Self, SubscribeError> {
        let mut inboxes = Self { client, names: vec![String::new(); durables], open: SelectAll::new() };
        for durable in 0..durables {
            inboxes.add(durable).await?;
        }
        Ok(inboxes)
    }

    /// Where the answer to one question about a durable is to go.
    pub(super) fn reply(&self, durable: usize, question: impl Display) -> String {
        format!("{}.{durable}.{question}", self.names[durable])
    }

    /// Whether an answer came to the newest one of a durable.
    pub(super) fn is_current(&self, durable: usize, subject: &str) -> bool {
        subject.starts_with(&self.names[durable])
    }

    /// Takes back a durable's pulls: what the broker has sent on them already still arrives, as far as the client lets it
    /// (async-nats 0.51 drops a drained subscription at its next turn, whether or not the broker has answered by then).
    pub(super) async fn take_back(&mut self, durable: usize) -> Result<(), SubscribeError> {
        for inbox in self.open.iter_mut().filter(|inbox| inbox.durable == durable) {
            // An error means that the client is gone, which the next line tells.
            let _ = inbox.messages.drain().await;
        }
        self.add(durable).await
    }

    /// A fresh one: nothing that is on its way for the durable is read any more.
    pub(super) async fn replace(&mut self, durable: usize) -> Result<(), SubscribeError> {
        let others = std::mem::take(&mut self.open).into_iter().filter(|inbox| inbox.durable != durable);
        self.open = others.collect();
        self.add(durable).await
    }

    async fn add(&mut self, durable: usize) -> Result<(), SubscribeError> {
        let name = self.client.new_inbox();
        let messages = self.client.subscribe(format!("{name}.*.*")).await?;
        self.open.push(Inbox { durable, messages });
        self.names[durable] = name;
        Ok(())
    }

    /// Takes back all pulls; no more answers are expected.
    pub(super) async fn drain(&mut self) {
        for inbox in self.open.iter_mut() {
            // An error means that the client is gone, and with it all pulls.
            let _ = inbox.messages.drain().await;
        }
    }

    /// The next answer; `None` once the client is gone, or all is drained.
    pub(super) async fn next(&mut self) -> Option<Message> {
        self.open.next().await
    }

    /// The next answer that is there already.
    pub(super) fn next_now(&mut self) -> Option<Message> {
        self.open.next().now_or_never().flatten()
    }
}
