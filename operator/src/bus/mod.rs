//! Everything that the operator does on NATS.
//!
//! One connection to the system account pushes accounts; per mesh one
//! [task](actor) with an administrator's connection keeps the streams, reads
//! what the durables have done and hears the sidecars' reports. All of it is
//! bounded in number, size and time, and NATS being away is a state with a
//! cause, not an error that stops anything else.

mod actor;
mod changes;
mod connect;
mod consumers;
mod dead_letters;
mod durables;
mod error;
mod mesh;
mod registry;
mod reports;
mod request;
mod service_config;
mod stand_by;
mod store;
mod streams;
mod sweep;
mod system;

pub use changes::{Changed, Changes};
pub use consumers::{Consumer, Consumers, Owner};
pub use durables::{Wanted, ensure as ensure_durable, remove as remove_durable};
pub use error::BusError;
pub use mesh::{Mesh, MeshState, Observed, Ready};
pub use registry::{MeshError, Meshes};
pub use reports::Reports;
pub use service_config::{Published, publish_config, read_config};
pub use streams::last_sequence;
pub use sweep::Sweep;
pub use system::SystemConnection;
