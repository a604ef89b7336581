//! The sidecar's HTTP servers: the local one, for the service, and the one for
//! probes and metrics.

pub(crate) mod admin;
mod answer;
pub(crate) mod body;
mod events;
pub(crate) mod local;
mod problem;
mod queries;
pub(crate) mod server;
mod services;
mod status;
pub(crate) mod timeout;

use bytes::Bytes;
use http_body_util::Full;

pub(crate) use answer::Answer;
pub(crate) use problem::ERROR_HEADER;

/// An answer of the sidecar's own; all are small and whole.
pub(crate) type Response = http::Response<Full<Bytes>>;
