//! From an event to the event store: nothing is answered with 200 before the
//! bus has acknowledged it.
//!
//! Events go one by one while few wait. Where an acknowledged event must be on
//! disk, many that wait are stored sooner together, in one atomic batch:
//! [`GroupCommit`] decides by what it measures.

mod all_or_nothing;
mod answer;
mod batch;
mod door;
mod gathering;
mod group;
mod in_flight;
mod outgoing;
mod pace;
mod publisher;
mod waves;

pub(crate) use all_or_nothing::Whole;
pub(crate) use answer::{Outcome, PublishError, Stored};
pub(crate) use batch::LARGEST_BATCH;
pub(crate) use door::{Door, Refused};
pub(crate) use group::GroupCommit;
pub(crate) use in_flight::{Admitted, InFlight};
pub(crate) use outgoing::{OVERHEAD, Outgoing, TRACE_HEADERS};
pub(crate) use publisher::Publisher;
