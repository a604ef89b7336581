//! Sidecars, services and brokers that fail: what must hold through all of it.
//!
//! A [`scenario`] is drawn from a seed; [`run`](mod@run) plays it against real
//! processes and records a [`history`], and [`check`](mod@check) says which
//! promises of docs/guarantees.md the history breaks. Scenario and check are
//! pure. The outage tests (`tests/faults`) use the same [`bed`].

pub mod bed;
pub mod check;
pub mod faults;
pub mod history;
pub mod publisher;
pub mod run;
pub mod scenario;
pub mod service;
pub mod serving;
pub mod world;
