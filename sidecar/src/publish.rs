//! From an event to the event store: nothing is answered with 200 before the
//! bus has acknowledged it.

mod answer;
mod in_flight;
mod publisher;

pub(crate) use answer::{Outcome, PublishError, Stored};
pub(crate) use in_flight::{Admitted, InFlight};
pub(crate) use publisher::Publisher;
