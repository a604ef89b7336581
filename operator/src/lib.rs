//! The operator: reads the cluster, plans, applies, reports.
//!
//! [`process`] is its life; [`controllers`] wires one reconcile per kind
//! ([`microservice`], [`event_subscription`], [`mesh`]) to what wakes it. The
//! kinds share [`cluster`] (the Kubernetes API), [`bus`] (NATS) and [`trust`]
//! (keys and JWTs); what should be comes from the crate murmur-plan.

pub mod bus;
pub mod check;
pub mod cluster;
pub mod compare;
pub mod context;
pub mod controllers;
pub mod error;
pub mod event_subscription;
pub mod http;
pub mod leader;
pub mod logging;
pub mod mesh;
pub mod metrics;
pub mod microservice;
pub mod people;
pub mod process;
pub mod settings;
pub mod trust;
