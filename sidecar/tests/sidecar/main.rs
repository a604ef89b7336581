//! The sidecar against a real nats-server: what a service posts and receives,
//! and what becomes of it when the bus or the service fails.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests may fail a test")]

mod admin;
mod bad_input;
mod batch_delivery;
mod batches;
mod calls;
mod configuration;
mod delivery;
mod failures;
mod group_commit;
mod identity;
mod order;
mod outbox;
mod process;
mod projection;
mod publishing;
mod queries;
mod rate;
mod recall;
mod redrive;
mod schemas;
mod support;
mod takeover;
mod traces;
