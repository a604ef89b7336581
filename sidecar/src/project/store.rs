//! The database of a projection, whichever it is. It is handed from task to task:
//! who has it is the only one who uses it.

use super::postgres::PostgresStore;
use super::sqlite::SqliteStore;
use super::{Applied, Item, Projection, Standing, Trouble};
use crate::database::DatabaseSettings;

/// An open database in which a projection's tables and position are.
#[derive(Debug)]
pub(crate) enum Store {
    Sqlite(Box<SqliteStore>),
    Postgres(Box<PostgresStore>),
}

impl Store {
    /// Opens it, makes what is missing, and checks that every statement fits.
    ///
    /// # Errors
    /// When the database is away, or the definition does not fit it.
    pub(crate) async fn open(
        settings: Option<&DatabaseSettings>,
        projection: &Projection,
    ) -> Result<(Self, Standing), Trouble> {
        match settings {
            None => Err(Trouble::Invalid(
                "the service has no database that can hold a projection: set spec.database.engine to SQLite or \
                 Postgres"
                    .to_owned(),
            )),
            Some(DatabaseSettings::Sqlite(path)) => {
                let (path, projection) = (path.clone(), projection.clone());
                let (store, standing) = blocking(move || SqliteStore::open(&path, projection)).await?;
                Ok((Self::Sqlite(Box::new(store)), standing))
            }
            Some(DatabaseSettings::Postgres(folder)) => {
                let (store, standing) = PostgresStore::open(folder, projection).await?;
                Ok((Self::Postgres(Box::new(store)), standing))
            }
        }
    }

    /// Applies as many of the events as go into one transaction, in their order.
    ///
    /// # Errors
    /// When the database is away: then it is not known whether they are in, and the
    /// store must be opened anew.
    pub(crate) async fn apply(self, items: Vec<Item>) -> Result<(Self, Applied), Trouble> {
        match self {
            Self::Sqlite(mut store) => {
                let (store, applied) = blocking(move || {
                    let applied = store.apply(&items)?;
                    Ok((store, applied))
                })
                .await?;
                Ok((Self::Sqlite(store), applied))
            }
            Self::Postgres(mut store) => {
                let applied = store.apply(&items).await?;
                Ok((Self::Postgres(store), applied))
            }
        }
    }

    /// Puts the tables that were built beside in the place of those that are read.
    ///
    /// # Errors
    /// When that cannot be done now.
    pub(crate) async fn swap(self) -> Result<(), Trouble> {
        match self {
            Self::Sqlite(mut store) => blocking(move || store.swap()).await,
            Self::Postgres(mut store) => store.swap().await,
        }
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Trouble> + Send + 'static,
) -> Result<T, Trouble> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => Err(Trouble::Away(format!("the work on the database broke off: {error}"))),
    }
}
