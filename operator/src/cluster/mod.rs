//! Everything that the operator does on the Kubernetes API, for all kinds alike.

mod apply;
mod backoff;
mod cache;
mod events;
mod ownership;
mod paced;
mod prune;
mod queue;
mod status;
mod watch;

pub(crate) use apply::message;
pub use apply::{Applier, ApplyError};
pub use backoff::Backoff;
pub use cache::Cache;
pub use events::Events;
pub use ownership::Owner;
pub(crate) use paced::paced;
pub use prune::prune;
pub use queue::{Queue, Requests, queue};
pub use status::{StatusWriter, Written};
pub(crate) use watch::store;
pub use watch::{Seen, watch};
