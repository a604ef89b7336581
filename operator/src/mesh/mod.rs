//! The kind Mesh: settings of a namespace's event store.

mod backup;
mod plan;
mod reconcile;

pub(crate) use plan::nanoseconds;
pub use plan::streams;
pub use reconcile::reconcile;
