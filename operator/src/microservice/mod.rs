//! The kind Microservice: one step per file.

mod apply;
mod bus;
mod database;
mod dereference;
mod generation;
mod outbox;
mod plan;
mod reconcile;
mod rolling;
mod scaling;
mod secrets;
mod status;
mod upgrade;
mod validate;

pub use reconcile::reconcile;
pub use scaling::Scales;
pub use upgrade::Turns;
