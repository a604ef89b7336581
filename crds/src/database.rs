//! A service's database: what a user writes about it, and what is observed of it.

// The derive of the rules copies each struct into a function, where `pub` reaches nobody.
#![allow(unreachable_pub)]

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::embedded;
use crate::mesh::Backup;
use crate::microservice::{Resources, SecretReference, Storage};

/// A database of the service's own.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.engine == 'External' || has(self.storage)")
        .message("this engine keeps its data on a volume: set storage")
        .field_path(".storage"),
    validation = Rule::new("self.engine != 'External' || !has(self.storage)")
        .message("a database elsewhere keeps its data itself: leave storage out")
        .field_path(".storage"),
    validation = Rule::new("(self.engine == 'External') == has(self.external)")
        .message("external says where a database elsewhere is: set it with the engine External, and only then")
        .field_path(".external"),
    validation = Rule::new("self.engine == 'Postgres' || !has(self.postgres)")
        .message("postgres holds settings of the engine Postgres: leave it out with any other")
        .field_path(".postgres"),
    validation = Rule::new("self.engine == 'MariaDB' || !has(self.mariadb)")
        .message("mariadb holds settings of the engine MariaDB: leave it out with any other")
        .field_path(".mariadb"),
    validation = Rule::new("self.engine == 'Redis' || !has(self.redis)")
        .message("redis holds settings of the engine Redis: leave it out with any other")
        .field_path(".redis"),
    validation = Rule::new("self.engine != 'MariaDB' || !has(self.version) || self.version.matches('^[0-9]+[.][0-9]')")
        .message("a version of MariaDB has two numbers at least, such as 11.8: its data is bound to both")
        .field_path(".version"),
    validation = Rule::new("self.engine in ['Postgres', 'MariaDB', 'Redis'] || !(has(self.version) || has(self.image) || has(self.resources))")
        .message("version, image and resources are a server's: leave them out with this engine"),
    validation = Rule::new("self.engine in ['Postgres', 'MariaDB', 'Redis'] || !(has(self.backup) || has(self.restoreFrom))")
        .message("backup and restoreFrom are a server's: leave them out with this engine"),
    validation = Rule::new("self.engine in ['SQLite', 'Postgres'] || !has(self.outbox)")
        .message("an outbox is a table in SQLite or Postgres: leave it out with any other engine")
        .field_path(".outbox"),
    validation = Rule::new("!has(self.image) || has(self.version)")
        .message("an image of your own needs version too, which says what it is a version of")
        .field_path(".version")
)]
pub struct Database {
    /// The kind of database. SQLite: a file at /data/service.db that DATABASE_PATH names. Postgres,
    /// MariaDB and Redis: a server of the service's own, which DATABASE_URL leads to. External: one
    /// that is there already, as a Secret says. It cannot change.
    pub engine: Engine,
    /// The version of the server, which is the tag of its image, such as 17 or 17.2. A minor version
    /// rolls; a major one is refused while there is data (docs/databases.md says how to do it). If
    /// left out, the operator's own, of the major version that the data is of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), regex(pattern = r"^[0-9]+(\.[0-9]+){0,3}(-[a-z0-9][a-z0-9.]*)?$"))]
    pub version: Option<String>,
    /// The whole image of the server in place of the operator's, with the conventions of the
    /// engine's ordinary image: environment, user id 999, paths.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub image: Option<String>,
    /// CPU, memory and other resources of the server, which is configured for the memory that it
    /// requests. What is left out keeps Murmur's value: requests 50m and 256Mi (64Mi for Redis),
    /// limit twice the requested memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
    /// Where its data is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage: Option<Storage>,
    /// Settings of the engine Postgres.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub postgres: Option<PostgresSettings>,
    /// Settings of the engine MariaDB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mariadb: Option<MariaDbSettings>,
    /// Settings of the engine Redis.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redis: Option<RedisSettings>,
    /// Backups on a schedule by the engine's own tool, into the volume of the claim
    /// <name>-backup, which outlives the Microservice. One at once:
    /// kubectl create job --from=cronjob/<name>-backup <any name>.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup: Option<Backup>,
    /// A backup that a new server begins with. Where there is data already, it is not touched. Leave
    /// it out again once the database is ready: until then the server's pod mounts that volume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restore_from: Option<RestoreFrom>,
    /// Where a database elsewhere is: for the engine External.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external: Option<ExternalDatabase>,
    /// An outbox, if it is there, of SQLite or Postgres: what the service inserts into the table
    /// murmur_outbox of this database, in its own transaction, the sidecar publishes once it is
    /// committed, exactly once and in order per key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outbox: Option<Outbox>,
}

/// An outbox; there is nothing to set.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq, Eq)]
pub struct Outbox {}

/// The kinds of databases.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// A file, opened by the service itself.
    SQLite,
    /// A PostgreSQL server of the service's own.
    Postgres,
    /// A MariaDB server of the service's own.
    MariaDB,
    /// A Redis server of the service's own, with its data on disk.
    Redis,
    /// A database that is there already.
    External,
}

/// A backup that a new server begins with.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct RestoreFrom {
    /// The claim with the backups, in the same namespace; the service's own, <name>-backup, if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub claim_name: Option<String>,
    /// The backup, such as 20261121T030000Z; the newest if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16), regex(pattern = "^[0-9]{8}T[0-9]{6}Z$"))]
    pub backup: Option<String>,
}

/// A database that is there already.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ExternalDatabase {
    /// The Secret that says how the service gets in: its keys url, host, port, database, username and
    /// password become DATABASE_URL and so on, those that are there; ca.crt is the file that
    /// DATABASE_CA_FILE names. It must have url or host.
    pub secret_ref: SecretReference,
}

/// Settings of the engine Postgres.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
pub struct PostgresSettings {
    /// Parameters of postgresql.conf in place of Murmur's, such as work_mem: 16MB. A change restarts
    /// the server. Those that Murmur relies on cannot be set.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "embedded::parameters")]
    #[x_kube(
        validation = ("self.all(name, name.matches('^[a-z][a-z0-9_.]*$') && name.size() <= 63)", "a parameter's name has small letters, digits, '_' and '.' only"),
        validation = (
            "self.all(name, !name.startsWith('ssl') && !name.startsWith('unix_socket') && !(name in ['config_file', 'hba_file', 'ident_file', 'data_directory', 'external_pid_file', 'listen_addresses', 'port', 'password_encryption', 'include', 'include_dir', 'include_if_exists', 'fsync', 'full_page_writes']))",
            "Murmur relies on this parameter's value: files, addresses, TLS, passwords, fsync and full_page_writes cannot be set"
        )
    )]
    pub parameters: BTreeMap<String, String>,
}

/// Settings of the engine MariaDB.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
pub struct MariaDbSettings {
    /// Parameters of the server's option file in place of Murmur's, such as max_connections: "50". A
    /// change restarts the server. Those that Murmur relies on cannot be set.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "embedded::parameters")]
    #[x_kube(
        validation = ("self.all(name, name.matches('^[a-z][a-z0-9_]*$') && name.size() <= 63)", "a parameter's name has small letters, digits and '_' only"),
        validation = (
            "self.all(name, !name.startsWith('ssl') && !(name in ['datadir', 'socket', 'port', 'bind_address', 'require_secure_transport', 'skip_networking', 'skip_grant_tables', 'pid_file', 'user', 'basedir', 'tmpdir', 'init_file', 'plugin_dir', 'innodb_flush_log_at_trx_commit', 'innodb_doublewrite']))",
            "Murmur relies on this parameter's value: files, addresses, TLS, access and what keeps data on disk cannot be set"
        )
    )]
    pub parameters: BTreeMap<String, String>,
}

/// Settings of the engine Redis.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
pub struct RedisSettings {
    /// Parameters of redis.conf in place of Murmur's, such as maxmemory: 48mb. A change restarts the
    /// server. Those that Murmur relies on cannot be set.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "embedded::parameters")]
    #[x_kube(
        validation = ("self.all(name, name.matches('^[a-z][a-z0-9-]*$') && name.size() <= 63)", "a parameter's name has small letters, digits and '-' only"),
        validation = (
            "self.all(name, !name.startsWith('tls') && !name.startsWith('unixsocket') && !(name in ['dir', 'port', 'bind', 'protected-mode', 'aclfile', 'user', 'requirepass', 'daemonize', 'appendonly', 'appendfilename', 'appenddirname', 'dbfilename', 'include', 'loadmodule', 'pidfile', 'logfile', 'replicaof', 'slaveof', 'rename-command', 'enable-debug-command', 'enable-module-command', 'enable-protected-configs']))",
            "Murmur relies on this parameter's value: files, addresses, TLS, access and persistence cannot be set"
        )
    )]
    pub parameters: BTreeMap<String, String>,
}

/// What the operator has observed of a database.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct DatabaseStatus {
    /// Where it stands: Pending (its volume is not there yet), Bound (its volume is there, which is
    /// all that SQLite needs), Starting (its server does not answer yet, or any more), Ready (its
    /// server answers; with External, that the Secret is there) or Lost (its volume has gone).
    pub phase: DatabasePhase,
    /// The host and port of its server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 320))]
    pub endpoint: Option<String>,
    /// The Secret with its credentials.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub secret_name: Option<String>,
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
    /// Its server does not answer yet, or any more.
    Starting,
    /// Its server answers.
    Ready,
    /// Its volume has gone.
    Lost,
}
