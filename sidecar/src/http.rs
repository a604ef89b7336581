//! The sidecar's HTTP servers: the local one, for the service, and the one for
//! probes and metrics.

pub(crate) mod admin;
mod body;
mod events;
pub(crate) mod local;
mod problem;
pub(crate) mod server;
mod status;

use bytes::Bytes;
use http_body_util::Full;

/// An answer; all are small and whole.
pub(crate) type Response = http::Response<Full<Bytes>>;
