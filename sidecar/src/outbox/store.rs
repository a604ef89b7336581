//! What the relay asks of a database. Every change is one transaction.

use std::future::Future;
use std::time::Duration;

use super::row::Row;

/// At most so many rows are read at once, and published together.
pub(super) const MOST_ROWS: usize = 256;
/// About so many bytes of rows: the last one may go beyond.
pub(super) const MOST_BYTES: usize = 2 << 20;
/// Refused rows are counted up to here.
pub(super) const MOST_COUNTED: u64 = 1000;

/// Up to where in which event store no event of a row that is still in the table can be.
///
/// It is kept in the database itself, in the transaction that deletes the rows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Mark {
    /// The event store; `None`: nothing was ever published out of this outbox.
    pub(super) stream: Option<String>,
    /// The last such place in it.
    pub(super) sequence: u64,
}

/// What makes a row and a stored event one and the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) position: i64,
    pub(super) id: String,
    pub(super) source: Option<String>,
}

/// How many rows were refused, and why the last one was.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Refusals {
    pub(super) count: u64,
    pub(super) cause: Option<String>,
}

/// What went wrong with the database: what was tried, and the database's own words.
#[derive(Debug, thiserror::Error)]
#[error("cannot {what}: {cause}")]
pub(super) struct StoreError {
    pub(super) what: &'static str,
    pub(super) cause: String,
}

/// The outbox of one database, held by this sidecar alone.
pub(super) trait Store: Send {
    /// Where the relay stands.
    fn mark(&mut self) -> impl Future<Output = Result<Mark, StoreError>> + Send;

    /// The first rows in the order of their positions, at most [`MOST_ROWS`] and about
    /// [`MOST_BYTES`]. The columns of a row of more than `largest` bytes are not read.
    fn rows(&mut self, largest: usize) -> impl Future<Output = Result<Vec<Row>, StoreError>> + Send;

    /// Those of these rows that are there.
    fn identities(
        &mut self,
        positions: &[i64],
    ) -> impl Future<Output = Result<Vec<Identity>, StoreError>> + Send;

    /// Deletes these rows, and moves the mark.
    fn settle(
        &mut self,
        positions: &[i64],
        mark: &Mark,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Moves a row to those that were refused.
    fn refuse(&mut self, position: i64, cause: &str) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// What was refused and is still there.
    fn refusals(&mut self) -> impl Future<Output = Result<Refusals, StoreError>> + Send;

    /// Waits until something was committed, or for a while: a word may be lost. It may be
    /// given up at any time.
    fn changed(&mut self, patience: Duration) -> impl Future<Output = Result<(), StoreError>> + Send;
}
