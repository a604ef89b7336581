//! The operator: reads the cluster, plans, applies, reports.

pub mod bus;
pub mod compare;
pub mod settings;
pub mod trust;
