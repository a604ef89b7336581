//! The kind EventSubscription: one step per file.

mod apply;
mod dereference;
mod plan;
mod reconcile;
mod status;

pub use reconcile::reconcile;
