//! The service's own database, as the sidecar gets into it: SQLite in the pod's
//! volume ([`sqlite`]) or a Postgres server ([`postgres`]). What is written there
//! belongs to whoever writes it: projections and the outbox.

pub mod postgres;
pub mod sqlite;

use std::path::PathBuf;

/// Which database the service has, of those that the sidecar can get into.
#[derive(Debug, Clone)]
pub enum DatabaseSettings {
    /// A file.
    Sqlite(PathBuf),
    /// A folder of files that say how to connect: see [`postgres::Postgres`].
    Postgres(PathBuf),
}

impl DatabaseSettings {
    /// From what the pod's template says: the path of a SQLite file, or a folder of credentials.
    pub fn new(sqlite: Option<PathBuf>, server: Option<PathBuf>) -> Option<Self> {
        sqlite.map(Self::Sqlite).or(server.map(Self::Postgres))
    }

    /// The SQLite file, which the sidecar makes before the service starts.
    pub fn sqlite(&self) -> Option<&PathBuf> {
        match self {
            Self::Sqlite(path) => Some(path),
            Self::Postgres(_) => None,
        }
    }
}

/// Why the database cannot be used now.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// SQLite's file.
    #[error("cannot use the database {file}: {cause}; its folder must be writable for the pod's group")]
    Sqlite {
        /// The file.
        file: PathBuf,
        /// Why not.
        cause: String,
    },
    /// A file of the credentials.
    #[error("cannot read {file}, which says how to reach the database: {cause}; is its Secret whole?")]
    Credentials {
        /// The file.
        file: PathBuf,
        /// Why not.
        cause: String,
    },
    /// The server.
    #[error("cannot connect to the database at {address}: {cause}")]
    Postgres {
        /// Where it should be.
        address: String,
        /// Why not.
        cause: String,
    },
}
