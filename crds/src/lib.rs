//! Murmur's resource types: what users write and what they read back.
//!
//! [`Microservice`], [`EventSubscription`] and [`Mesh`] with their schemas and
//! the rules that the API server enforces itself, so that no webhook is needed.
//! The doc comments are what `kubectl explain` shows. [`definitions`] gives the
//! finished CustomResourceDefinitions, which `crdgen` writes to files.

pub mod database;
pub mod duration;
mod embedded;
pub mod files;
pub mod mesh;
pub mod microservice;
pub mod quantity;
mod schema;
pub mod startup;
pub mod subscription;

pub use duration::GatewayDuration;
pub use mesh::{Mesh, MeshSpec, MeshStatus};
pub use microservice::{Microservice, MicroserviceSpec, MicroserviceStatus};
pub use quantity::StorageQuantity;
pub use subscription::{EventSubscription, EventSubscriptionSpec, EventSubscriptionStatus};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;

/// The API group of all kinds.
pub const GROUP: &str = "murmur.dev";
/// The one version that is served and stored.
pub const VERSION: &str = "v1alpha1";

/// The definitions of all kinds, ready to be applied.
///
/// # Errors
/// When a generated schema does not survive its way through JSON, which is a
/// mistake in this crate.
pub fn definitions() -> Result<Vec<CustomResourceDefinition>, serde_json::Error> {
    [Microservice::crd(), EventSubscription::crd(), Mesh::crd()].iter().map(schema::finished).collect()
}
