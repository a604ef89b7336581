//! The one connection to the bus: it comes back for ever, says when it is away,
//! and logs what the broker complains about.

use std::sync::Arc;
use std::time::Duration;

use async_nats::{Client, ConnectOptions, Event, HeaderMap, ServerAddr, ServerError};
use bytes::Bytes;
use murmur_mesh::durable::PULL_EXPIRES;
use rand::Rng;
use tokio::sync::watch;
use tokio::time::Instant;

use super::credentials::Credentials;
use super::replies::Replies;
use crate::metrics::Metrics;

/// The longest wait between two tries to connect.
const LONGEST_RECONNECT_DELAY: Duration = Duration::from_secs(1);
/// How long one server has to answer before the next one is tried: one that stands still
/// accepts connections and says nothing.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// More than a message takes to the broker and back.
const ROUND_TRIP: Duration = Duration::from_millis(250);
/// How often the broker is asked whether it is still there: a connection to one that
/// stands still is given up after three times as long, and another server is tried.
const PING_INTERVAL: Duration = Duration::from_millis(1500);

/// Whether the bus is there.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Link {
    /// Whether there is a connection now.
    pub(crate) connected: bool,
    /// How often there has been one; another number means another connection.
    pub(crate) connects: u64,
    /// Since when it is as it is.
    pub(crate) since: Instant,
}

/// The connection; clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Bus {
    client: Client,
    link: watch::Receiver<Link>,
    replies: Arc<Replies>,
    /// The connection is about to be changed on purpose: nothing more is asked for.
    quiet: Arc<watch::Sender<bool>>,
}

impl Bus {
    /// Starts connecting, in the background and for ever.
    pub(crate) async fn start(
        servers: &[ServerAddr],
        credentials: Arc<Credentials>,
        inbox_prefix: String,
        name: String,
        metrics: Arc<Metrics>,
    ) -> Result<Self, async_nats::Error> {
        let replies = Arc::new(Replies::default());
        let (sender, link) = watch::channel(Link { connected: false, connects: 0, since: Instant::now() });
        let observer = Arc::new(Observer { link: sender, replies: replies.clone(), metrics });
        let options = authenticated(servers, credentials)
            .name(name)
            .custom_inbox_prefix(inbox_prefix)
            .retry_on_initial_connect()
            .max_reconnects(None)
            .reconnect_delay_callback(reconnect_delay)
            .connection_timeout(CONNECT_TIMEOUT)
            .request_timeout(Some(Duration::from_secs(5)))
            .ping_interval(PING_INTERVAL)
            .event_callback(move |event| {
                observer.observe(event);
                std::future::ready(())
            });
        let client = options.connect(servers).await?;
        let bus = Self { client, link, replies, quiet: Arc::default() };
        bus.start_replies().await?;
        Ok(bus)
    }

    async fn start_replies(&self) -> Result<(), async_nats::Error> {
        let prefix = self.client.new_inbox();
        let subscriber = self.client.subscribe(format!("{prefix}.*")).await?;
        self.replies.start(prefix, subscriber);
        Ok(())
    }

    /// The client below.
    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// Where answers to publishes arrive.
    pub(crate) fn replies(&self) -> &Replies {
        &self.replies
    }

    /// Whether it is there, now.
    pub(crate) fn link(&self) -> Link {
        *self.link.borrow()
    }

    /// Whether it is there, now and later.
    pub(crate) fn watch(&self) -> watch::Receiver<Link> {
        self.link.clone()
    }

    /// Whether events may be asked for now. What is on the way when a connection
    /// ends comes again only after the ack wait, out of order: so before it is
    /// changed on purpose, no pull is opened, and the open ones run out.
    pub(crate) fn is_quiet(&self) -> bool {
        *self.quiet.borrow()
    }

    /// Connects again, to be who the credentials say by now; `pulls`: some may be open.
    pub(crate) async fn connect_again(&self, pulls: bool) {
        if self.link().connected {
            if pulls {
                self.quiet.send_replace(true);
                tokio::time::sleep(PULL_EXPIRES + ROUND_TRIP).await;
            }
            // What was written so far goes out first: no acknowledgement is lost on the way.
            let _ = tokio::time::timeout(ROUND_TRIP, self.client.flush()).await;
        }
        if let Err(error) = self.client.force_reconnect().await {
            tracing::error!(%error, "cannot connect again");
        }
        self.quiet.send_replace(false);
    }

    /// Sends a message that nobody answers.
    pub(crate) async fn send(&self, subject: String, payload: Bytes) -> Result<(), async_nats::Error> {
        Ok(self.client.publish(subject, payload).await?)
    }

    /// Sends a message whose answer goes to `reply`.
    pub(crate) async fn ask(
        &self,
        subject: async_nats::Subject,
        reply: String,
        headers: HeaderMap,
        payload: Bytes,
    ) -> Result<(), async_nats::client::PublishError> {
        self.client.publish_with_reply_and_headers(subject, reply, headers, payload).await
    }
}

/// With a user of its own the files decide, at each connect; else the URL does.
fn authenticated(servers: &[ServerAddr], credentials: Arc<Credentials>) -> ConnectOptions {
    if credentials.has_user() {
        return ConnectOptions::with_auth_callback(move |nonce| {
            let credentials = credentials.clone();
            async move { credentials.sign(&nonce).await }
        });
    }
    let options = ConnectOptions::new();
    match servers.iter().find_map(|server| Some((server.username()?, server.password()?))) {
        Some((user, password)) => options.user_and_password(user.to_owned(), password.to_owned()),
        None => options,
    }
}

/// Doubles from 20 ms, with jitter, so that after an outage not all sidecars come at once.
fn reconnect_delay(attempts: usize) -> Duration {
    if attempts <= 1 {
        return Duration::ZERO;
    }
    let doublings = u32::try_from(attempts - 2).unwrap_or(u32::MAX).min(7);
    let delay = Duration::from_millis(20 * 2_u64.pow(doublings)).min(LONGEST_RECONNECT_DELAY);
    delay.mul_f64(rand::rng().random_range(0.5..1.0))
}

/// What happens to the connection, as it becomes known.
struct Observer {
    link: watch::Sender<Link>,
    replies: Arc<Replies>,
    metrics: Arc<Metrics>,
}

impl Observer {
    fn observe(&self, event: Event) {
        match event {
            Event::Connected => {
                self.metrics.bus_connected.set(1);
                self.metrics.bus_connects.inc();
                self.link.send_modify(|link| {
                    *link = Link { connected: true, connects: link.connects + 1, since: Instant::now() };
                });
                tracing::info!("connected to the bus");
            }
            Event::Disconnected | Event::Closed => {
                self.metrics.bus_connected.set(0);
                self.link.send_modify(|link| {
                    if link.connected {
                        *link = Link { connected: false, since: Instant::now(), ..*link };
                    }
                });
                // No answer will come for what was sent on the lost connection.
                self.replies.forget();
                tracing::warn!("the connection to the bus is lost; connecting again");
            }
            // A refused request looks like a time-out to whoever made it: here is the cause.
            Event::ServerError(ServerError::Other(error)) => {
                self.metrics.bus_errors.inc();
                tracing::warn!(%error, "the bus refused something");
            }
            Event::ServerError(error) => {
                self.metrics.bus_errors.inc();
                tracing::warn!(%error, "the bus refused the connection");
            }
            Event::SlowConsumer(subscription) => {
                self.metrics.bus_errors.inc();
                tracing::warn!(subscription, "a message from the bus was dropped: the sidecar is too slow");
            }
            Event::ClientError(error) => {
                tracing::debug!(%error, "cannot connect to the bus yet");
            }
            Event::LameDuckMode | Event::Draining => tracing::debug!(%event, "the bus"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_before_a_reconnect_is_bounded_and_jittered() {
        assert_eq!(reconnect_delay(1), Duration::ZERO);
        for attempts in [2, 5, 9, 1000, usize::MAX] {
            assert!(reconnect_delay(attempts) <= LONGEST_RECONNECT_DELAY);
        }
        assert!(reconnect_delay(20) >= LONGEST_RECONNECT_DELAY / 3);
    }
}
