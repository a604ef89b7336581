//! The bus as the sidecar sees it: one connection that comes back by itself,
//! whose user may change while it runs.

pub(crate) mod configuration;
pub(crate) mod connection;
pub mod credentials;
pub(crate) mod delivered;
pub(crate) mod headers;
pub(crate) mod leader;
pub(crate) mod replies;

pub(crate) use connection::Bus;
