//! What the tests stand on: a broker, a mesh's streams, a sidecar, a service, HTTP.

mod broker;
mod http;
mod proxy;
mod service;
mod world;

pub(crate) use broker::{Broker, free_port};
pub(crate) use http::{Answer, Http, get, post};
pub(crate) use proxy::Wire;
pub(crate) use service::{Received, Service};
pub(crate) use world::{Setup, World, eventually, key, subscription};
