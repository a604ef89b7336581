//! What holds for all services: the operator's own configuration.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::database::Version;

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
    /// The images of database servers.
    pub databases: DatabaseImages,
    /// Where sidecars send spans; nowhere when absent.
    pub tracing: Option<Tracing>,
}

/// The image of each engine's server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatabaseImages {
    /// PostgreSQL.
    pub postgres: DatabaseImage,
    /// MariaDB.
    pub mariadb: DatabaseImage,
    /// Redis.
    pub redis: DatabaseImage,
}

/// The image of a server that does not have one of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatabaseImage {
    /// Its name, without a tag.
    pub repository: String,
    /// The version of a server that does not say.
    pub version: Version,
}

/// Where sidecars send the spans of traces, and of which.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Tracing {
    /// A collector that takes OTLP over plain HTTP, such as `http://collector:4318`.
    pub otlp_endpoint: String,
    /// The share of the traces that begin in a sidecar which are recorded, from 0 to 1; all when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sample_ratio: Option<String>,
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
