//! The database of a service: its server, with all that it needs and nobody
//! else reaches.
//!
//! A server is one pod of a StatefulSet over a plain claim, made from the
//! engine's ordinary image and by that image's conventions. What differs from
//! engine to engine stands in its [`Recipe`].

mod backup;
mod credentials;
mod mariadb;
mod network;
mod postgres;
mod redis;
mod server;
mod validate;
mod version;

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ResourceRequirements;
use murmur_mesh::name::{MeshName, ServiceName};
use serde_json::Value;

pub use backup::{Backup, Restore};
pub use credentials::{Secrets, names};
pub use server::CONTAINER;
pub(crate) use validate::storage;
pub use validate::validate;
pub use version::{Held, Settled, Version, Written, settle};

use crate::invalid::Invalid;
use crate::labels;
use crate::microservice::{self, Storage, ValidMicroservice};
use crate::object::Object;
use crate::settings::Settings;

/// The name of the database and of the role that owns it.
pub const SERVICE: &str = "service";
/// Where the service and its sidecar find what they need to come in.
pub(crate) const FOLDER: &str = "/var/run/murmur/database";
/// The authority's certificate, in that folder and in the Secret.
pub(crate) const CA_FILE: &str = "ca.crt";

/// The kinds of servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// PostgreSQL.
    Postgres,
    /// MariaDB.
    MariaDb,
    /// Redis.
    Redis,
}

impl Engine {
    /// As the resource writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Postgres => "Postgres",
            Self::MariaDb => "MariaDB",
            Self::Redis => "Redis",
        }
    }
}

/// A database server that can be planned.
#[derive(Debug, Clone, PartialEq)]
pub struct Server {
    /// Its kind.
    pub engine: Engine,
    /// The version that is wished for; `None`: the operator's.
    pub version: Option<Version>,
    /// The image in place of the operator's.
    pub image: Option<String>,
    /// Resources of its container.
    pub resources: ResourceRequirements,
    /// The memory, in bytes, that it is configured for.
    pub memory: i64,
    /// Its volume.
    pub storage: Storage,
    /// The size of that in bytes.
    pub storage_bytes: i64,
    /// Parameters of its configuration file in place of ours.
    pub parameters: BTreeMap<String, String>,
    /// Its backups.
    pub backup: Option<Backup>,
    /// What it begins with.
    pub restore: Option<Restore>,
}

/// What the operator knows when it plans a server.
#[derive(Debug, Clone, Copy)]
pub struct Known<'a> {
    /// Passwords and certificates.
    pub secrets: &'a Secrets,
    /// What the claim says about the data on it.
    pub held: Option<&'a Held>,
    /// Whether the server is seen to be ready: from then on there is data of its version.
    pub ready: bool,
}

/// What is peculiar to an engine.
struct Recipe {
    port: u16,
    /// Where the claim is mounted.
    volume: &'static str,
    /// The folder in it that holds the data.
    data: &'static str,
    /// What the image's entry point is told to run.
    arguments: Vec<&'static str>,
    environment: Vec<(&'static str, String)>,
    /// The configuration: a change of it restarts the server.
    configuration: BTreeMap<&'static str, String>,
    /// Scripts: a change of them does not.
    scripts: BTreeMap<&'static str, &'static str>,
    /// More places for files of the configuration and the scripts: file, folder, name there.
    places: Vec<(&'static str, &'static str, &'static str)>,
    /// Folders that the server writes to beside its data, and how much may be in them.
    writable: Vec<(&'static str, &'static str, Option<String>)>,
    /// The scripts for the probes.
    ready: &'static str,
    alive: &'static str,
    /// The credential that a backup is made with.
    saved_as: &'static str,
    /// Keys of the credentials that the server's container sees.
    credentials: Vec<&'static str>,
}

const MEBIBYTE: i64 = 1 << 20;

/// The image that runs, and what the claim says of it.
pub fn image(server: &Server, settings: &Settings, held: Option<&Held>) -> Settled {
    let ours = match server.engine {
        Engine::Postgres => &settings.databases.postgres,
        Engine::MariaDb => &settings.databases.mariadb,
        Engine::Redis => &settings.databases.redis,
    };
    settle(server, ours, held)
}

/// The port that a server listens on.
pub fn port(engine: Engine) -> u16 {
    match engine {
        Engine::Postgres => postgres::PORT,
        Engine::MariaDb => mariadb::PORT,
        Engine::Redis => redis::PORT,
    }
}

/// Host and port, as the status shows them.
pub fn endpoint(service: &ServiceName, mesh: &MeshName, engine: Engine) -> String {
    format!("{}:{}", credentials::host(service, mesh), port(engine))
}

/// The objects of a server, in the order in which they are applied: credentials
/// before the claim, so that no claim is ever without.
///
/// # Errors
/// When an object cannot be written down, which no type of k8s-openapi does.
pub(crate) fn objects(
    service: &ValidMicroservice,
    server: &Server,
    settings: &Settings,
    known: Known<'_>,
) -> Result<Vec<Object>, Invalid> {
    let settled = image(server, settings, known.held);
    let recipe = match server.engine {
        Engine::Postgres => postgres::recipe(server, &settled.version),
        Engine::MariaDb => mariadb::recipe(server),
        Engine::Redis => redis::recipe(server),
    };
    let claim = claim(service, server, &settled, known);
    let mut all = vec![
        credentials::secret(service, server, known.secrets)?,
        credentials::certificate(service, known.secrets)?,
        microservice::object(&claim)?,
        server::account(service)?,
        server::files(service, &recipe)?,
        network::service(service, &recipe)?,
        network::policy(service, server, &recipe)?,
        server::stateful_set(service, server, &recipe, &settled.image)?,
    ];
    if let Some(wanted) = &server.backup {
        all.push(backup::claim(service, wanted)?);
        all.push(backup::cron_job(service, wanted, &recipe, &settled.image)?);
    }
    Ok(all)
}

/// The claim, which says what the data on it is. A version that never came up has written none, so that
/// another one can take its place.
fn claim(
    service: &ValidMicroservice,
    server: &Server,
    settled: &Settled,
    known: Known<'_>,
) -> k8s_openapi::api::core::v1::PersistentVolumeClaim {
    let mut claim = microservice::claim_of(service, labels::database(&service.name), &server.storage);
    let mut annotations = BTreeMap::from([(labels::ENGINE.to_owned(), server.engine.as_str().to_owned())]);
    if known.ready || known.held.is_some_and(|held| held.written.is_some()) {
        annotations.insert(labels::DATABASE_VERSION.to_owned(), settled.version.to_string());
        annotations.insert(labels::DATABASE_IMAGE.to_owned(), settled.image.clone());
    }
    claim.metadata.annotations = Some(annotations);
    claim
}

/// The metadata of an object of a server, as JSON.
fn metadata(service: &ValidMicroservice, name: String) -> Result<Value, Invalid> {
    serde_json::to_value(microservice::metadata(service, name))
        .map_err(|error| Invalid::InvalidPodOverrides(error.to_string()))
}

#[cfg(test)]
mod tests;
