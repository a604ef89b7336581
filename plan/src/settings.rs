//! What holds for all services: the operator's own configuration.

use std::time::Duration;

/// What planning needs to know besides the resources.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The sidecar's image.
    pub sidecar_image: String,
    /// An image with the command line, `/murmur`: the operator's own.
    pub cli_image: String,
    /// The URL by which pods reach NATS.
    pub bus_url: String,
    /// The event store of a mesh without a Mesh resource.
    pub event_store: EventStoreDefaults,
}

/// The event store of a mesh that does not say otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventStoreDefaults {
    /// On how many servers each event is stored.
    pub replicas: u8,
    /// How many bytes of events are stored at most.
    pub max_bytes: i64,
    /// For how long a repeated publish is recognised.
    pub duplicate_window: Duration,
}
