//! The command line as a process, against a real kube-apiserver, from which it
//! takes its credentials, and a real nats-server with the operator's own trust material.

#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

mod backup;
mod cluster;
mod dead_letters;
mod erase;
mod looking;
mod meanwhile;
mod sidecar;
mod world;
