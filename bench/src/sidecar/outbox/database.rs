//! The service's database, as the service and a bare relay use it.

use std::fmt;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use murmur_test_support::mesh::EVENT_TYPE;
use murmur_test_support::postgres::{Postgres, SERVICE};
use rusqlite::Connection;
use tempfile::TempDir;
use tokio_postgres::Client;

use crate::sidecar::loads::body;

/// Which database.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    /// A file.
    Sqlite,
    /// A server that syncs each commit.
    Postgres,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sqlite => "SQLite",
            Self::Postgres => "Postgres",
        })
    }
}

/// A database, and the service's connection to it.
pub enum Database {
    /// A file in a folder.
    Sqlite(TempDir, Connection),
    /// A server.
    Postgres(Box<Postgres>, Client),
}

impl Database {
    /// Starts it, empty.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn start(kind: Kind) -> Result<Self> {
        Ok(match kind {
            Kind::Sqlite => {
                let folder = tempfile::tempdir()?;
                let connection = Connection::open(folder.path().join("service.db"))?;
                connection.pragma_update(None, "journal_mode", "WAL")?;
                connection.busy_timeout(Duration::from_secs(5))?;
                Self::Sqlite(folder, connection)
            }
            Kind::Postgres => {
                let server = Postgres::start(&[]).await?;
                let client = server.connect(SERVICE, SERVICE).await?;
                Self::Postgres(Box::new(server), client)
            }
        })
    }

    /// What tells a sidecar of it.
    ///
    /// # Errors
    /// When the credentials cannot be written.
    pub fn environment(&self) -> Result<(&'static str, String)> {
        Ok(match self {
            Self::Sqlite(folder, _) => {
                ("MURMUR_DATABASE_PATH", folder.path().join("service.db").to_string_lossy().into_owned())
            }
            Self::Postgres(server, _) => {
                ("MURMUR_DATABASE", server.credentials()?.to_string_lossy().into_owned())
            }
        })
    }

    /// Makes the table that a sidecar would have made.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn make_bare_table(&mut self) -> Result<()> {
        match self {
            Self::Sqlite(_, connection) => connection.execute_batch(
                "CREATE TABLE murmur_outbox (position INTEGER PRIMARY KEY AUTOINCREMENT, type TEXT, data TEXT)",
            )?,
            Self::Postgres(_, client) => {
                let table = "CREATE TABLE murmur_outbox (
                    position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, type text, data text)";
                client.batch_execute(table).await?;
            }
        }
        Ok(())
    }

    /// Commits so many rows, at once.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn insert(&mut self, count: usize) -> Result<()> {
        let data = String::from_utf8_lossy(&body()).into_owned();
        let count = i64::try_from(count)?;
        match self {
            Self::Sqlite(_, connection) => {
                let insert = "
                    WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < ?3)
                    INSERT INTO murmur_outbox (type, data) SELECT ?1, ?2 FROM numbers";
                connection.execute(insert, (EVENT_TYPE, data, count))?;
            }
            Self::Postgres(_, client) => {
                let insert = "INSERT INTO murmur_outbox (type, data)
                    SELECT $1::text, $2::text FROM generate_series(1, $3::bigint)";
                client.execute(insert, &[&EVENT_TYPE, &data, &count]).await?;
            }
        }
        Ok(())
    }

    /// Waits until no row is left.
    ///
    /// # Errors
    /// When that takes more than two minutes.
    pub async fn until_empty(&mut self) -> Result<()> {
        let began = Instant::now();
        while !self.read(1).await?.is_empty() {
            ensure!(began.elapsed() < Duration::from_secs(120), "the outbox is not empty after two minutes");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        Ok(())
    }

    /// The positions of the first rows; their data is read too.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn read(&mut self, most: usize) -> Result<Vec<i64>> {
        let most = i64::try_from(most)?;
        Ok(match self {
            Self::Sqlite(_, connection) => {
                let mut statement = connection
                    .prepare_cached("SELECT position, data FROM murmur_outbox ORDER BY position LIMIT ?1")?;
                let rows = statement.query_map([most], |row| {
                    row.get::<_, String>(1)?;
                    row.get(0)
                })?;
                rows.collect::<Result<_, _>>()?
            }
            Self::Postgres(_, client) => {
                let select = "SELECT position, data FROM murmur_outbox ORDER BY position LIMIT $1";
                client.query(select, &[&most]).await?.iter().map(|row| row.get(0)).collect()
            }
        })
    }

    /// Deletes these rows.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn delete(&mut self, positions: &[i64]) -> Result<()> {
        match self {
            Self::Sqlite(_, connection) => {
                let transaction = connection.transaction()?;
                {
                    let mut delete =
                        transaction.prepare_cached("DELETE FROM murmur_outbox WHERE position = ?1")?;
                    for position in positions {
                        delete.execute([position])?;
                    }
                }
                transaction.commit()?;
            }
            Self::Postgres(_, client) => {
                let delete = "DELETE FROM murmur_outbox WHERE position = ANY ($1)";
                client.execute(delete, &[&positions]).await?;
            }
        }
        Ok(())
    }
}
