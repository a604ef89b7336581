//! The outbox in the service's SQLite database. The volume's lock makes this
//! sidecar the only one.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension, params};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::row::{Columns, Row, Unreadable};
use super::store::{Identity, MOST_BYTES, MOST_COUNTED, MOST_ROWS, Mark, Refusals, Store, StoreError};
use super::wal::Wal;
use crate::database::sqlite;

/// The tables.
const SCHEMA: &str = include_str!("sqlite.sql");
/// What the connection keeps of the database in memory, in KiB.
const CACHE: i64 = 512;
/// A commit can be seen only a moment after its last byte was written to the log: once SQLite
/// has synced it. So it is looked for again and again, each time after twice as long as before.
const FIRST_LOOK: Duration = Duration::from_millis(1);
const LAST_LOOK: Duration = Duration::from_millis(512);
/// A database that is written all the time is not looked at more often than this.
const LEAST_INTERVAL: Duration = Duration::from_millis(5);

const ROWS: &str = "
WITH first AS (
  SELECT position, octet_length(id) + octet_length(type)
    + coalesce(octet_length(source), 0) + coalesce(octet_length(subject), 0)
    + coalesce(octet_length(partitionkey), 0) + coalesce(octet_length(data), 0)
    + coalesce(octet_length(data_base64), 0) + coalesce(octet_length(datacontenttype), 0)
    + coalesce(octet_length(time), 0) + coalesce(octet_length(extensions), 0)
    + coalesce(octet_length(traceparent), 0) AS size
  FROM murmur_outbox ORDER BY position LIMIT ?1),
fitting AS (SELECT position, size, sum(min(size, ?3)) OVER (ORDER BY position) - min(size, ?3) AS before FROM first)
SELECT f.position, f.size, o.id, o.type, o.source, o.subject, o.partitionkey, o.data, o.data_base64,
       o.datacontenttype, o.time, o.extensions, o.traceparent
FROM fitting f LEFT JOIN murmur_outbox o ON o.position = f.position AND f.size <= ?3
WHERE f.before < ?2 ORDER BY f.position";

/// An open database.
pub(super) struct Sqlite {
    connection: Arc<Mutex<Connection>>,
    wal: Wal,
    /// SQLite's own number for what others have committed, as of the last look at the rows.
    version: Arc<Mutex<i64>>,
    looked: Instant,
}

/// Makes the tables, if they are not there.
pub(super) fn prepare(path: &Path) -> Result<(), StoreError> {
    open(path).map(drop)
}

/// What a crash of the machine takes back of this connection's work it takes back whole: rows and mark still fit
/// together.
fn open(path: &Path) -> Result<Connection, StoreError> {
    let failed = |cause: String| StoreError { what: "make the tables of the outbox", cause };
    let connection = sqlite::open(path).map_err(|error| failed(error.to_string()))?;
    let prepare = || {
        connection.pragma_update(None, "cache_size", -CACHE)?;
        connection.execute_batch(SCHEMA)
    };
    prepare().map_err(|error: rusqlite::Error| failed(error.to_string()))?;
    Ok(connection)
}

impl Sqlite {
    /// Opens the database, and makes the tables if they are not there.
    pub(super) async fn open(path: PathBuf) -> Result<Self, StoreError> {
        let file = path.clone();
        let connection = blocking("open the database", move || open(&file)).await?;
        let wal = Wal::watch(&path).map_err(|error| StoreError {
            what: "watch the database's write-ahead log",
            cause: error.to_string(),
        })?;
        let connection = Arc::new(Mutex::new(connection));
        Ok(Self { connection, wal, version: Arc::default(), looked: Instant::now() })
    }

    /// Works with the connection where it may block.
    async fn with<T: Send + 'static>(
        &self,
        what: &'static str,
        work: impl FnOnce(&mut Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let connection = self.connection.clone();
        let locked = move || {
            work(&mut connection.lock().unwrap_or_else(PoisonError::into_inner))
                .map_err(|error| StoreError { what, cause: error.to_string() })
        };
        blocking(what, locked).await
    }

    /// Whether another has committed since the last look at the rows.
    async fn has_changed(&self) -> Result<bool, StoreError> {
        let now = self.with("look at the database", data_version).await?;
        Ok(now != *self.version.lock().unwrap_or_else(PoisonError::into_inner))
    }

    async fn until_changed(&mut self) -> Result<(), StoreError> {
        sleep_until(self.looked + LEAST_INTERVAL).await;
        while !self.has_changed().await? {
            self.wal.written().await.map_err(|error| StoreError {
                what: "watch the database's write-ahead log",
                cause: error.to_string(),
            })?;
            let mut pause = FIRST_LOOK;
            while pause <= LAST_LOOK && !self.has_changed().await? {
                sleep(pause).await;
                pause *= 2;
            }
        }
        Ok(())
    }
}

async fn blocking<T: Send + 'static>(
    what: &'static str,
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(StoreError { what, cause: error.to_string() }))
}

fn data_version(connection: &mut Connection) -> rusqlite::Result<i64> {
    connection.query_row("PRAGMA data_version", [], |row| row.get(0))
}

impl Store for Sqlite {
    async fn mark(&mut self) -> Result<Mark, StoreError> {
        self.with("read where the relay stands", |connection| {
            connection.query_row("SELECT stream, sequence FROM murmur_outbox_relay", [], |row| {
                let sequence: i64 = row.get(1)?;
                Ok(Mark { stream: row.get(0)?, sequence: sequence.unsigned_abs() })
            })
        })
        .await
    }

    async fn rows(&mut self, largest: usize) -> Result<Vec<Row>, StoreError> {
        self.looked = Instant::now();
        let version = self.version.clone();
        let limit = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
        self.with("read the outbox", move |connection| {
            // Before the rows: what is committed in between is seen again rather than not at all.
            let now = data_version(connection)?;
            *version.lock().unwrap_or_else(PoisonError::into_inner) = now;
            let mut statement = connection.prepare_cached(ROWS)?;
            let bounds = params![limit(MOST_ROWS), limit(MOST_BYTES), limit(largest)];
            statement.query_map(bounds, row)?.collect()
        })
        .await
    }

    async fn identities(&mut self, positions: &[i64]) -> Result<Vec<Identity>, StoreError> {
        let positions = list(positions);
        self.with("look for rows of the outbox", move |connection| {
            let mut statement = connection.prepare_cached(
                "SELECT position, CAST(id AS TEXT), CAST(source AS TEXT) FROM murmur_outbox
                 WHERE position IN (SELECT value FROM json_each(?1))",
            )?;
            let identities = statement.query_map([positions], |row| {
                Ok(Identity { position: row.get(0)?, id: row.get(1)?, source: row.get(2)? })
            })?;
            identities.collect()
        })
        .await
    }

    async fn settle(&mut self, positions: &[i64], mark: &Mark) -> Result<(), StoreError> {
        let (positions, mark) = (list(positions), mark.clone());
        self.with("delete what is published from the outbox", move |connection| {
            let transaction =
                connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
            transaction
                .prepare_cached(
                    "DELETE FROM murmur_outbox WHERE position IN (SELECT value FROM json_each(?1))",
                )?
                .execute([positions])?;
            transaction
                .prepare_cached("UPDATE murmur_outbox_relay SET stream = ?1, sequence = ?2")?
                .execute(params![mark.stream, i64::try_from(mark.sequence).unwrap_or(i64::MAX)])?;
            transaction.commit()
        })
        .await
    }

    async fn refuse(&mut self, position: i64, cause: &str) -> Result<(), StoreError> {
        let cause = cause.to_owned();
        self.with("put a row among the refused", move |connection| {
            let transaction =
                connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
            transaction.execute(
                "INSERT INTO murmur_outbox_refused SELECT *, ?2, strftime('%Y-%m-%dT%H:%M:%fZ', 'now')
                 FROM murmur_outbox WHERE position = ?1",
                params![position, cause],
            )?;
            transaction.execute("DELETE FROM murmur_outbox WHERE position = ?1", [position])?;
            transaction.commit()
        })
        .await
    }

    async fn refusals(&mut self) -> Result<Refusals, StoreError> {
        self.with("count the refused rows", |connection| {
            let count: i64 = connection.query_row(
                "SELECT count(*) FROM (SELECT 1 FROM murmur_outbox_refused LIMIT ?1)",
                [i64::try_from(MOST_COUNTED).unwrap_or(i64::MAX)],
                |row| row.get(0),
            )?;
            let last = "SELECT cause FROM murmur_outbox_refused ORDER BY rowid DESC LIMIT 1";
            let cause = connection.query_row(last, [], |row| row.get(0)).optional()?;
            Ok(Refusals { count: count.unsigned_abs(), cause })
        })
        .await
    }

    async fn changed(&mut self, patience: Duration) -> Result<(), StoreError> {
        timeout(patience, self.until_changed()).await.unwrap_or(Ok(()))
    }
}

/// A list of numbers as SQLite takes it: JSON.
fn list(positions: &[i64]) -> String {
    let numbers: Vec<String> = positions.iter().map(i64::to_string).collect();
    format!("[{}]", numbers.join(","))
}

fn row(row: &rusqlite::Row<'_>) -> rusqlite::Result<Row> {
    let size: i64 = row.get(1)?;
    Ok(Row {
        position: row.get(0)?,
        size: usize::try_from(size).unwrap_or(usize::MAX),
        columns: columns(row)?,
    })
}

fn columns(row: &rusqlite::Row<'_>) -> rusqlite::Result<Result<Columns, Unreadable>> {
    let mut not_text = None;
    let mut text = |index: usize, name: &'static str| -> rusqlite::Result<Option<String>> {
        Ok(match row.get_ref(index)? {
            ValueRef::Null => None,
            ValueRef::Integer(number) => Some(number.to_string()),
            ValueRef::Real(number) => Some(number.to_string()),
            ValueRef::Text(bytes) => match std::str::from_utf8(bytes) {
                Ok(text) => Some(text.to_owned()),
                Err(_) => {
                    not_text = Some(name);
                    None
                }
            },
            ValueRef::Blob(_) => {
                not_text = Some(name);
                None
            }
        })
    };
    let id = text(2, "id")?;
    let columns = Columns {
        id: id.clone().unwrap_or_default(),
        event_type: text(3, "type")?.unwrap_or_default(),
        source: text(4, "source")?,
        subject: text(5, "subject")?,
        partition_key: text(6, "partitionkey")?,
        data: match row.get_ref(7)? {
            ValueRef::Null => None,
            ValueRef::Integer(number) => Some(number.to_string().into()),
            ValueRef::Real(number) => Some(number.to_string().into()),
            ValueRef::Text(bytes) | ValueRef::Blob(bytes) => Some(Bytes::copy_from_slice(bytes)),
        },
        data_base64: text(8, "data_base64")?,
        data_content_type: text(9, "datacontenttype")?,
        time: text(10, "time")?,
        extensions: text(11, "extensions")?,
        trace_parent: text(12, "traceparent")?,
    };
    Ok(match not_text {
        Some(name) => Err(Unreadable::NotText(name)),
        // The table lets no id be NULL: this row was not read.
        None if id.is_none() => Err(Unreadable::TooLarge),
        None => Ok(columns),
    })
}
