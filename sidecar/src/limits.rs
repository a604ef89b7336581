//! How much the sidecar takes on at once: everything that could grow is bounded here.

use std::time::Duration;

/// The bounds of one sidecar. By default all that they let be held at once, with what the process
/// has anyway (some 10 MiB), stays within a memory limit of 64 MiB.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Open connections to the local HTTP.
    pub connections: usize,
    /// How long a client may take to send the head of a request; also how long
    /// an idle connection stays open. Longer than the idle time of common HTTP
    /// clients (Go's is 90 s), so that it is they who close first.
    pub head_timeout: Duration,
    /// How long a client may take to send a body.
    pub body_timeout: Duration,
    /// Publishes that wait for the bus.
    pub publishes: usize,
    /// The bytes of their bodies.
    pub publish_bytes: usize,
    /// How long a publish waits for the bus' acknowledgement.
    pub publish_timeout: Duration,
    /// What a message needs beside its data: taken off the bus' largest payload.
    pub headroom: usize,
    /// How long a publish waits for a connection that has just been lost.
    pub reconnect_grace: Duration,
    /// The bytes of events that wait for delivery, over all subscriptions; twice that for a moment,
    /// while what a replica that is gone had held is taken over.
    pub delivery_bytes: usize,
    /// Calls under way, their answers' bodies included.
    pub calls: usize,
    /// Queries that this service asks, under way.
    pub queries: usize,
    /// How long a query waits for its answers, unless the client says otherwise.
    pub query_timeout: Duration,
    /// Queries of other services that are with this one.
    pub answers: usize,
    /// The same with those that wait for their turn.
    pub answers_waiting: usize,
    /// The bytes of queries that this service asks, their answers, and what is made of these.
    pub query_bytes: usize,
    /// The bytes of queries of other services, and of the answers.
    pub answer_bytes: usize,
    /// How long the end of the process waits for publishes in flight.
    pub shutdown: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 1024,
            head_timeout: Duration::from_secs(120),
            body_timeout: Duration::from_secs(30),
            publishes: 1024,
            publish_bytes: 12 << 20,
            publish_timeout: Duration::from_secs(5),
            headroom: 16 << 10,
            reconnect_grace: Duration::from_secs(1),
            delivery_bytes: 8 << 20,
            calls: 256,
            queries: 256,
            query_timeout: Duration::from_secs(5),
            answers: 32,
            answers_waiting: 256,
            query_bytes: 20 << 20,
            answer_bytes: 4 << 20,
            shutdown: Duration::from_secs(6),
        }
    }
}
