//! The contract on the bus, in one place.
//!
//! Everything that two parts of Murmur must agree on lives here: what an event
//! is and how it travels ([`event`], [`wire`]), what things are called
//! ([`name`], [`subject`], [`durable`], [`stream`]), how an event finds its
//! partition ([`partition`]) and its message id ([`message_id`]), what its data
//! may be ([`schema`]), how services ask each other ([`query`]), what the
//! operator tells a sidecar ([`config`]) and hears from it ([`report`]), and what
//! people and their tools may do
//! ([`people`], [`api`], [`redrive`], [`erased`], [`restoring`]).
//! No other crate formats a subject of Murmur's own, a stream or a durable name.
//!
//! Pure: it knows neither Kubernetes nor an async runtime nor a NATS client.

pub mod api;
pub mod config;
pub mod durable;
pub mod duration;
pub mod erased;
pub mod event;
pub mod message_id;
pub mod name;
pub mod partition;
pub mod people;
pub mod query;
pub mod redrive;
pub mod report;
pub mod restoring;
pub mod schema;
pub mod stream;
pub mod subject;
pub mod wire;

pub use event::Event;
pub use name::{EventType, MeshName, ServiceName, SubscriptionName};
