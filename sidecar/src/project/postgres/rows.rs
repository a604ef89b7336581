//! Murmur's own table, in which positions stand.

use tokio_postgres::{Client, Error, Statement};

use crate::project::plan::Row;

/// So that two sidecars do not make the same things at once.
const LOCK: i64 = 0x6d75_726d_7572;

/// The statements that read and write it.
#[derive(Debug)]
pub(super) struct Rows {
    all: Statement,
    put: Statement,
    advance: Statement,
    remove: Statement,
}

/// Makes it, where there is none; within a transaction, at whose end the next one may.
pub(super) async fn make_table(client: &Client) -> Result<(), Error> {
    client
        .batch_execute(&format!(
            "SELECT pg_advisory_xact_lock({LOCK});
             CREATE SCHEMA IF NOT EXISTS murmur;
             CREATE TABLE IF NOT EXISTS murmur.projections (
               subscription text NOT NULL,
               beside boolean NOT NULL,
               tables text NOT NULL,
               event_store text NOT NULL,
               run text NOT NULL,
               boundary bigint NOT NULL,
               definition text NOT NULL,
               generation bigint NOT NULL,
               position bigint NOT NULL,
               version bigint NOT NULL,
               rejected bigint,
               cause text,
               PRIMARY KEY (subscription, beside)
             ) WITH (fillfactor = 50)"
        ))
        .await
}

impl Rows {
    pub(super) async fn prepare(client: &Client) -> Result<Self, Error> {
        Ok(Self {
            all: client
                .prepare(
                    "SELECT subscription, beside, tables, event_store, run, boundary, definition, generation, \
                     position, version, rejected, cause FROM murmur.projections",
                )
                .await?,
            put: client
                .prepare(
                    "INSERT INTO murmur.projections VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) \
                     ON CONFLICT (subscription, beside) DO UPDATE SET tables = excluded.tables, \
                     event_store = excluded.event_store, run = excluded.run, boundary = excluded.boundary, \
                     definition = excluded.definition, generation = excluded.generation, \
                     position = excluded.position, version = excluded.version, rejected = excluded.rejected, \
                     cause = excluded.cause",
                )
                .await?,
            advance: client
                .prepare(
                    "UPDATE murmur.projections SET position = $3, version = $4, rejected = $5, cause = $6 \
                     WHERE subscription = $1 AND beside = $2 AND position = $7 AND version = $8 \
                     AND event_store = $9 AND run = $10 AND definition = $11 AND generation = $12",
                )
                .await?,
            remove: client
                .prepare("DELETE FROM murmur.projections WHERE subscription = $1 AND beside = $2")
                .await?,
        })
    }

    /// All of them.
    pub(super) async fn all(&self, client: &Client) -> Result<Vec<Row>, Error> {
        let number = |row: &tokio_postgres::Row, index: usize| row.get::<_, i64>(index).unsigned_abs();
        let rows = client.query(&self.all, &[]).await?;
        let read = |row: &tokio_postgres::Row| Row {
            subscription: row.get(0),
            beside: row.get(1),
            tables: row.get(2),
            event_store: row.get(3),
            run: row.get(4),
            boundary: number(row, 5),
            definition: row.get(6),
            generation: number(row, 7),
            position: number(row, 8),
            version: number(row, 9),
            rejected: row.get::<_, Option<i64>>(10).map(|sequence| {
                (sequence.unsigned_abs(), row.get::<_, Option<String>>(11).unwrap_or_default())
            }),
        };
        Ok(rows.iter().map(read).collect())
    }

    /// Writes one, whatever was there.
    pub(super) async fn put(&self, client: &Client, row: &Row) -> Result<(), Error> {
        let (rejected, cause) = rejected(row);
        client
            .execute(
                &self.put,
                &[
                    &row.subscription,
                    &row.beside,
                    &row.tables,
                    &row.event_store,
                    &row.run,
                    &signed(row.boundary),
                    &row.definition,
                    &signed(row.generation),
                    &signed(row.position),
                    &signed(row.version),
                    &rejected,
                    &cause,
                ],
            )
            .await?;
        Ok(())
    }

    /// Moves a row on from where it was left. `false`: it is not there any more.
    pub(super) async fn advance(&self, client: &Client, from: &Row, to: &Row) -> Result<bool, Error> {
        let (rejected, cause) = rejected(to);
        let changed = client
            .execute(
                &self.advance,
                &[
                    &from.subscription,
                    &from.beside,
                    &signed(to.position),
                    &signed(to.version),
                    &rejected,
                    &cause,
                    &signed(from.position),
                    &signed(from.version),
                    &from.event_store,
                    &from.run,
                    &from.definition,
                    &signed(from.generation),
                ],
            )
            .await?;
        Ok(changed == 1)
    }

    /// Takes a row away.
    pub(super) async fn remove(
        &self,
        client: &Client,
        subscription: &str,
        beside: bool,
    ) -> Result<(), Error> {
        client.execute(&self.remove, &[&subscription, &beside]).await?;
        Ok(())
    }
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn rejected(row: &Row) -> (Option<i64>, Option<&str>) {
    let rejected = row.rejected.as_ref();
    (rejected.map(|(sequence, _)| signed(*sequence)), rejected.map(|(_, cause)| cause.as_str()))
}
