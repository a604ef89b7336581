//! Real servers for tests and benchmarks: no test of ours talks to a mock of a
//! broker or of Kubernetes.

pub mod broker;
pub mod cluster;
pub mod http;
pub mod mesh;
pub mod postgres;
pub mod process;
pub mod sidecar;
pub mod tools;

pub use broker::Broker;
pub use cluster::Cluster;
pub use postgres::Postgres;
pub use sidecar::Sidecar;
