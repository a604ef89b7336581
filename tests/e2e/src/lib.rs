//! What the end-to-end tests share: a way to a real cluster, namespaces of
//! their own, and the probe service that publishes, records and misbehaves.
//!
//! The tests run against any cluster with Murmur installed: the kubeconfig is
//! `MURMUR_TEST_KUBECONFIG`, else the one that `make cluster` writes.

pub mod cluster;
pub mod command;
pub mod disk;
pub mod mesh;
pub mod probe;
pub mod sample;
pub mod wait;
pub mod yaml;

pub use cluster::Cluster;
pub use disk::Disk;
pub use mesh::TestMesh;
pub use probe::Probe;
pub use wait::eventually;
