//! Murmur's own table, in which positions stand.

use rusqlite::{Connection, Result, params};

use crate::project::plan::Row;

/// Makes it, where there is none.
pub(super) fn make_table(connection: &Connection) -> Result<()> {
    connection.execute_batch(
        "CREATE TABLE IF NOT EXISTS murmur_projections (
           subscription TEXT NOT NULL,
           beside INTEGER NOT NULL,
           tables TEXT NOT NULL,
           event_store TEXT NOT NULL,
           run TEXT NOT NULL,
           boundary INTEGER NOT NULL,
           definition TEXT NOT NULL,
           generation INTEGER NOT NULL,
           position INTEGER NOT NULL,
           version INTEGER NOT NULL,
           rejected INTEGER,
           cause TEXT,
           PRIMARY KEY (subscription, beside)
         ) WITHOUT ROWID",
    )
}

/// All of them.
pub(super) fn all(connection: &Connection) -> Result<Vec<Row>> {
    let mut statement = connection.prepare_cached(
        "SELECT subscription, beside, tables, event_store, run, boundary, definition, generation, position, \
         version, rejected, cause FROM murmur_projections",
    )?;
    let rows = statement.query_map([], |row| {
        let rejected: Option<u64> = row.get(10)?;
        let cause: Option<String> = row.get(11)?;
        Ok(Row {
            subscription: row.get(0)?,
            beside: row.get(1)?,
            tables: row.get(2)?,
            event_store: row.get(3)?,
            run: row.get(4)?,
            boundary: row.get(5)?,
            definition: row.get(6)?,
            generation: row.get(7)?,
            position: row.get(8)?,
            version: row.get(9)?,
            rejected: rejected.map(|sequence| (sequence, cause.unwrap_or_default())),
        })
    })?;
    rows.collect()
}

/// Writes one, whatever was there.
pub(super) fn put(connection: &Connection, row: &Row) -> Result<()> {
    let mut statement = connection.prepare_cached(
        "INSERT OR REPLACE INTO murmur_projections VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
    )?;
    let (rejected, cause) = row.rejected.clone().unzip();
    statement.execute(params![
        row.subscription,
        row.beside,
        row.tables,
        row.event_store,
        row.run,
        row.boundary,
        row.definition,
        row.generation,
        row.position,
        row.version,
        rejected,
        cause
    ])?;
    Ok(())
}

/// Whether a row is as it was left.
pub(super) fn is_at(connection: &Connection, row: &Row) -> Result<bool> {
    let mut statement = connection.prepare_cached(
        "SELECT count(*) FROM murmur_projections WHERE subscription = ?1 AND beside = ?2 AND event_store = ?3 \
         AND run = ?4 AND definition = ?5 AND generation = ?6 AND position = ?7 AND version = ?8",
    )?;
    let count: i64 = statement.query_row(
        params![
            row.subscription,
            row.beside,
            row.event_store,
            row.run,
            row.definition,
            row.generation,
            row.position,
            row.version
        ],
        |found| found.get(0),
    )?;
    Ok(count == 1)
}

/// Moves a row on from where it was left. `false`: it is not there any more.
pub(super) fn advance(connection: &Connection, from: &Row, to: &Row) -> Result<bool> {
    let mut statement = connection.prepare_cached(
        "UPDATE murmur_projections SET position = ?3, version = ?4, rejected = ?5, cause = ?6 \
         WHERE subscription = ?1 AND beside = ?2 AND position = ?7 AND version = ?8",
    )?;
    let (rejected, cause) = to.rejected.clone().unzip();
    let changed = statement.execute(params![
        from.subscription,
        from.beside,
        to.position,
        to.version,
        rejected,
        cause,
        from.position,
        from.version
    ])?;
    Ok(changed == 1)
}

/// Takes a row away.
pub(super) fn remove(connection: &Connection, subscription: &str, beside: bool) -> Result<()> {
    connection.execute(
        "DELETE FROM murmur_projections WHERE subscription = ?1 AND beside = ?2",
        params![subscription, beside],
    )?;
    Ok(())
}
