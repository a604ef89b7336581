//! A service's database: what a user writes about it, and what is observed of it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::microservice::Storage;

/// A database of the service's own.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq)]
pub struct Database {
    /// The kind of database: SQLite, a file at /data/service.db that DATABASE_PATH names. It
    /// cannot change.
    pub engine: Engine,
    /// Where its data is kept.
    pub storage: Storage,
}

/// The kinds of databases.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// A file, opened by the service itself.
    SQLite,
}

/// What the operator has observed of a database.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct DatabaseStatus {
    /// Where it stands: Pending (its volume is not there yet), Bound (its volume is there) or Lost
    /// (its volume has gone).
    pub phase: DatabasePhase,
    /// The PersistentVolumeClaim that holds its data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub claim_name: Option<String>,
}

/// Where a database stands.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq)]
pub enum DatabasePhase {
    /// Its volume is not there yet.
    Pending,
    /// Its volume is there.
    Bound,
    /// Its volume has gone.
    Lost,
}
