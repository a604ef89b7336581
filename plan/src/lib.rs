//! The pure middle of Murmur: resources in; Kubernetes objects, streams,
//! durables, permissions and sidecar configuration out.
//!
//! Each kind has a `validate`, which turns what a user wrote into the only type
//! that planning takes, and functions that plan from it. Nothing here reads,
//! writes or looks at a clock: the same input gives the same output, so that a
//! test sees all that would happen to a cluster.

pub mod autoscaling;
pub mod database;
#[cfg(test)]
mod examples;
pub mod invalid;
pub mod labels;
pub mod mesh;
pub mod microservice;
pub mod object;
pub mod outbox;
pub mod overrides;
pub mod permissions;
pub mod rolling;
pub mod settings;
pub mod status;
pub mod subscription;
pub mod upgrade;

pub use invalid::Invalid;
pub use object::Object;
pub use settings::Settings;
