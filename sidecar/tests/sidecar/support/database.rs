//! The service's database, of either kind, as its service sees it.

use std::path::PathBuf;

use murmur_sidecar::database::{DatabaseSettings, sqlite};
use murmur_test_support::Postgres;
use rusqlite::types::ValueRef;
use tempfile::TempDir;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Engine {
    Sqlite,
    Postgres,
}

pub(crate) enum Database {
    Sqlite(TempDir),
    Postgres(Box<Postgres>),
}

impl Database {
    pub(crate) async fn start(engine: Engine) -> Self {
        match engine {
            Engine::Sqlite => {
                let folder = tempfile::tempdir().unwrap();
                sqlite::prepare(&folder.path().join("service.db")).unwrap();
                Self::Sqlite(folder)
            }
            Engine::Postgres => Self::Postgres(Box::new(Postgres::start(&["fsync = off"]).await.unwrap())),
        }
    }

    pub(crate) fn settings(&self) -> DatabaseSettings {
        match self {
            Self::Sqlite(_) => DatabaseSettings::Sqlite(self.path()),
            Self::Postgres(server) => DatabaseSettings::Postgres(server.credentials().unwrap()),
        }
    }

    /// The file of a SQLite database.
    pub(crate) fn path(&self) -> PathBuf {
        match self {
            Self::Sqlite(folder) => folder.path().join("service.db"),
            Self::Postgres(_) => panic!("it is no file"),
        }
    }

    /// The first column of each row, as texts; `None`: the query fails.
    pub(crate) async fn try_texts(&self, sql: &str) -> Option<Vec<String>> {
        self.texts_as("service", sql).await
    }

    /// The same of what only Murmur may read.
    pub(crate) async fn own_texts(&self, sql: &str) -> Vec<String> {
        self.texts_as("murmur", sql).await.unwrap_or_else(|| panic!("{sql} failed"))
    }

    async fn texts_as(&self, role: &str, sql: &str) -> Option<Vec<String>> {
        match self {
            Self::Sqlite(_) => {
                let connection = rusqlite::Connection::open(self.path()).ok()?;
                let mut statement = connection.prepare(sql).ok()?;
                let text = |row: &rusqlite::Row<'_>| {
                    Ok(match row.get_ref(0)? {
                        ValueRef::Null => "NULL".to_owned(),
                        ValueRef::Integer(value) => value.to_string(),
                        ValueRef::Real(value) => value.to_string(),
                        ValueRef::Text(text) | ValueRef::Blob(text) => {
                            String::from_utf8_lossy(text).into_owned()
                        }
                    })
                };
                statement.query_map([], text).ok()?.collect::<Result<_, _>>().ok()
            }
            Self::Postgres(server) => {
                let client = server.connect(role, "service").await.ok()?;
                let rows = client.simple_query(sql).await.ok()?;
                let text = |message| match message {
                    tokio_postgres::SimpleQueryMessage::Row(row) => {
                        Some(row.get(0).unwrap_or("NULL").to_owned())
                    }
                    _ => None,
                };
                Some(rows.into_iter().filter_map(text).collect())
            }
        }
    }

    pub(crate) async fn texts(&self, sql: &str) -> Vec<String> {
        self.try_texts(sql).await.unwrap_or_else(|| panic!("{sql} failed"))
    }

    /// As someone who may do everything.
    pub(crate) async fn execute(&self, sql: &str) {
        match self {
            Self::Sqlite(_) => rusqlite::Connection::open(self.path()).unwrap().execute_batch(sql).unwrap(),
            Self::Postgres(server) => {
                let client = server.connect("postgres", "service").await.unwrap();
                client.batch_execute(sql).await.unwrap();
            }
        }
    }
}
