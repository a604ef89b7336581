//! The operator against a real kube-apiserver with etcd and a real nats-server
//! with the operator's own trust material. There is no kubelet and no
//! controller: what those would do, a test does.

#![allow(missing_docs, clippy::print_stderr, clippy::unwrap_used, clippy::panic)]

mod backup;
mod bus;
mod data;
mod database;
mod election;
mod failure;
mod objects;
mod outbox;
mod people;
mod projections;
mod replay;
mod rolling;
mod room;
mod scaling;
mod status;
mod steady;
mod subscriptions;
mod talks;
mod upgrade;
mod world;
