//! Status: from what was observed to what users read. Pure; the time is passed in.

pub mod conditions;
pub mod database;
pub mod event_store;
pub mod microservice;
pub mod outbox;
pub mod room;
pub mod subscription;

pub use conditions::{Finding, State, merge};
