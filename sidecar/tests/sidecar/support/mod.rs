//! What the tests stand on: a broker, a mesh's streams, a sidecar, a service, HTTP.

mod database;
mod dns;
mod durables;
mod http;
mod process;
mod proxy;
mod service;
mod world;

pub(crate) use database::{Database, Engine};
pub(crate) use dns::Dns;
pub(crate) use http::{Answer, Http, get, post};
pub(crate) use murmur_test_support::Broker;
pub(crate) use murmur_test_support::broker::free_port;
pub(crate) use process::{Process, program};
pub(crate) use proxy::Wire;
pub(crate) use service::{Received, Service};
pub(crate) use world::{Setup, World, eventually, key, subscription};
