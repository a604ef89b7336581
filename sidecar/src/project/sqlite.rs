//! A projection in the service's SQLite database.
//!
//! SQLite has one writer at a time, and the service is one, too: a transaction here
//! ends after [`LONGEST`], however many events wait. What is built beside are
//! tables of other names, which a swap renames.

mod guard;
mod rows;
mod statements;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::{Connection, Error, ErrorCode};

use self::guard::Guard;
use self::statements::Statements;
use super::plan::{Plan, Row, find, plan};
use super::{Applied, Blame, Item, Projection, Standing, Trouble, Work, bind};
use crate::database::sqlite;

/// How long a transaction goes on taking events in. The rest of 50 ms is for its end.
const LONGEST: Duration = Duration::from_millis(30);
/// Rows that are deleted at once.
const CHUNK: u32 = 500;
/// What begins the names of tables that are built beside those that are read.
const NEW: &str = "murmur_new_";
/// What begins the names of tables that have been replaced.
const OLD: &str = "murmur_old_";

/// An open database.
#[derive(Debug)]
pub(crate) struct SqliteStore {
    connection: Connection,
    guard: Arc<Guard>,
    projection: Projection,
    /// As this connection left it.
    row: Row,
    statements: Statements,
}

/// What can be undone when an event fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Undo {
    /// All events of the transaction: as long as none fails that costs nothing.
    AllEvents,
    /// That event: each has a savepoint, for which SQLite copies every page that the event changes.
    OneEvent,
}

/// Something failed outside of an event's own statements.
#[allow(clippy::needless_pass_by_value, reason = "it is what map_err gives")]
fn away(error: Error) -> Trouble {
    Trouble::Away(format!("the database: {error}"))
}

/// What a failed statement says about its event.
fn blame(error: &Error) -> Blame {
    let Some(code) = error.sqlite_error_code() else { return Blame::Statement };
    match code {
        ErrorCode::ConstraintViolation | ErrorCode::TypeMismatch | ErrorCode::TooBig => Blame::Event,
        // What a statement says while it runs: a wrong argument of a function, an overflow.
        ErrorCode::Unknown => Blame::Event,
        ErrorCode::AuthorizationForStatementDenied
        | ErrorCode::ApiMisuse
        | ErrorCode::ParameterOutOfRange => Blame::Statement,
        ErrorCode::OperationInterrupted => Blame::Chance,
        _ => Blame::Database,
    }
}

impl SqliteStore {
    pub(super) fn open(path: &Path, projection: Projection) -> Result<(Self, Standing), Trouble> {
        let mut connection = sqlite::open(path).map_err(|error| Trouble::Away(error.to_string()))?;
        connection.set_prepared_statement_cache_capacity(256);
        for (name, value) in [("legacy_alter_table", true), ("foreign_keys", false)] {
            // Renaming must not touch what views and other tables refer to.
            connection.pragma_update(None, name, value).map_err(away)?;
        }
        let guard = Guard::install(&mut connection).map_err(away)?;
        begin(&connection)?;
        let made = Self::prepare(&connection, &guard, &projection);
        let (row, statements) = end(&connection, made)?;
        let standing = row.standing();
        let store = Self { connection, guard, projection, row, statements };
        store.clear()?;
        Ok((store, standing))
    }

    /// In one transaction: what is missing is made, and every statement is tried.
    fn prepare(
        connection: &Connection,
        guard: &Arc<Guard>,
        projection: &Projection,
    ) -> Result<(Row, Statements), Trouble> {
        rows::make_table(connection).map_err(away)?;
        let rows = rows::all(connection).map_err(away)?;
        let identity = &projection.identity;
        let planned = plan(&rows, identity, projection.tables()).map_err(Trouble::Invalid)?;
        let row = planned.row(&rows, identity, projection.table_list()).map_err(Trouble::Waits)?;
        if !row.beside {
            rows::remove(connection, &identity.subscription, true).map_err(away)?;
        }
        if planned == Plan::MakeBeside {
            rows::remove(connection, &identity.subscription, true).map_err(away)?;
            for table in projection.tables() {
                drop_table(connection, &format!("{NEW}{table}"))?;
            }
        }
        let statements = Statements::new(projection, &row);
        if matches!(planned, Plan::Make | Plan::MakeBeside | Plan::Adopt) {
            let owned =
                find(&rows, identity, false).filter(|_| planned == Plan::Adopt).map(|row| row.tables());
            for table in projection.tables() {
                let name = statements.table(table);
                let known = owned.as_ref().is_some_and(|owned| owned.contains(table));
                if !known && exists(connection, &name)? {
                    return Err(Trouble::Invalid(format!(
                        "there is a table {name} already, which no projection made: drop or rename it, or choose \
                         another name"
                    )));
                }
            }
            statements.make(connection, guard)?;
            rows::put(connection, &row).map_err(away)?;
        }
        statements.check(connection, guard)?;
        Ok((row, statements))
    }

    pub(super) fn apply(&mut self, items: &[Item]) -> Result<Applied, Trouble> {
        begin(&self.connection)?;
        let applied = self.within(items);
        end(&self.connection, applied)
    }

    fn within(&mut self, items: &[Item]) -> Result<Applied, Trouble> {
        // The fence comes first: whoever is not let through has changed nothing.
        let goes_on = items.first().is_none_or(|first| first.sequence > self.row.position);
        if !goes_on || !rows::is_at(&self.connection, &self.row).map_err(away)? {
            return Ok(Applied::Fenced);
        }
        let began = Instant::now();
        self.own("SAVEPOINT murmur_events").map_err(away)?;
        let (mut done, mut failure) = self.each(items, began, Undo::AllEvents);
        if failure.is_some() && !self.connection.is_autocommit() {
            self.own("ROLLBACK TO murmur_events").map_err(away)?;
            (done, failure) = self.each(items, began, Undo::OneEvent);
        }
        let mut next = self.row.clone();
        next.version += 1;
        if let Some(last) = items[..done].last() {
            (next.position, next.rejected) = (last.sequence, None);
        }
        // Where the transaction has ended, nothing is in: the position stays.
        let has_ended = self.connection.is_autocommit();
        match &failure {
            Some((Blame::Database, cause)) => return Err(Trouble::Away(cause.clone())),
            Some((Blame::Statement, cause)) if done == 0 || has_ended => {
                return Err(Trouble::Invalid(cause.clone()));
            }
            Some((Blame::Event, cause)) => next.rejected = Some((items[done].sequence, cause.clone())),
            _ => {}
        }
        if !rows::advance(&self.connection, &self.row, &next).map_err(away)? {
            return Err(Trouble::Away("the position could not be moved".to_owned()));
        }
        self.row = next;
        Ok(match failure {
            Some((Blame::Event, cause)) => Applied::Rejected(done, cause),
            Some((Blame::Chance, cause)) => Applied::Failed(done, cause),
            _ => Applied::Done(done),
        })
    }

    /// One event after the other, at least one, until the time is over or one fails: so many are done.
    fn each(&self, items: &[Item], began: Instant, undo: Undo) -> (usize, Option<(Blame, String)>) {
        let mut done = 0;
        for item in items {
            if done > 0 && began.elapsed() >= LONGEST {
                break;
            }
            let tried = match &item.work {
                Work::Apply(message) => self.event(&bind::event(message), undo),
                Work::Pass => Ok(()),
                Work::GiveUp(cause) => Err((Blame::Event, cause.clone())),
            };
            if let Err(failure) = tried {
                return (done, Some(failure));
            }
            done += 1;
        }
        (done, None)
    }

    /// A statement of this program's own.
    fn own(&self, sql: &str) -> rusqlite::Result<usize> {
        self.connection.prepare_cached(sql)?.execute([])
    }

    /// All statements for one event, or, with [`Undo::OneEvent`], none.
    fn event(&self, event: &murmur_projection::Event<'_>, undo: Undo) -> Result<(), (Blame, String)> {
        let Some(statements) = bind::event_type(event).and_then(|it| self.statements.on(&it)) else {
            return Ok(());
        };
        let broken = |error: Error| (Blame::Database, format!("the database: {error}"));
        let one = |sql| if undo == Undo::OneEvent { self.own(sql).map(drop).map_err(broken) } else { Ok(()) };
        one("SAVEPOINT murmur_event")?;
        for statement in statements {
            let Err((blame, cause)) = statement.run(&self.connection, &self.guard, event) else { continue };
            // Some failures end the whole transaction: a full disk does, and a statement may ask for it.
            if self.connection.is_autocommit() {
                return Err(match blame {
                    Blame::Database | Blame::Chance => (Blame::Database, cause),
                    Blame::Event | Blame::Statement => {
                        (Blame::Statement, format!("{cause}; it must not end the transaction"))
                    }
                });
            }
            one("ROLLBACK TO murmur_event")?;
            one("RELEASE murmur_event")?;
            return Err((blame, cause));
        }
        one("RELEASE murmur_event")
    }

    pub(super) fn swap(&mut self) -> Result<(), Trouble> {
        // A swap that was cut off may have left some.
        self.clear()?;
        begin(&self.connection)?;
        let swapped = self.swap_within();
        end(&self.connection, swapped)?;
        self.clear()
    }

    fn swap_within(&mut self) -> Result<(), Trouble> {
        let connection = &self.connection;
        if !self.row.beside || !rows::is_at(connection, &self.row).map_err(away)? {
            return Ok(());
        }
        let subscription = &self.row.subscription;
        let rows = rows::all(connection).map_err(away)?;
        let live = rows.iter().find(|row| row.subscription == *subscription && !row.beside);
        let rename = |from: &str, to: &str| {
            connection.execute_batch(&format!("ALTER TABLE \"{from}\" RENAME TO \"{to}\"")).map_err(away)
        };
        for table in live.map(Row::tables).unwrap_or_default() {
            if exists(connection, &table)? {
                rename(&table, &format!("{OLD}{table}"))?;
            }
        }
        for table in self.projection.tables() {
            rename(&format!("{NEW}{table}"), table)?;
        }
        rows::remove(connection, subscription, true).map_err(away)?;
        self.row.beside = false;
        self.row.version += 1;
        rows::put(connection, &self.row).map_err(away)
    }

    /// Drops what was replaced, a little at a time.
    fn clear(&self) -> Result<(), Trouble> {
        let mut names = Vec::new();
        let list = "SELECT name FROM sqlite_master WHERE type = 'table' AND substr(name, 1, ?2) = ?1";
        let mut statement = self.connection.prepare(list).map_err(away)?;
        let mut found = statement.query((OLD, OLD.len())).map_err(away)?;
        while let Some(row) = found.next().map_err(away)? {
            names.push(row.get::<_, String>(0).map_err(away)?);
        }
        drop(found);
        for name in names.iter().filter(|name| self.projection.tables().contains(&name[OLD.len()..])) {
            let some =
                format!("DELETE FROM \"{name}\" WHERE rowid IN (SELECT rowid FROM \"{name}\" LIMIT {CHUNK})");
            // A table without row ids is dropped as it is.
            while self.connection.execute(&some, []).unwrap_or(0) > 0 {}
            drop_table(&self.connection, name)?;
        }
        Ok(())
    }
}

/// The write lock from the beginning: what is read is then still so when it is written.
fn begin(connection: &Connection) -> Result<(), Trouble> {
    connection.execute_batch("BEGIN IMMEDIATE").map_err(away)
}

fn end<T>(connection: &Connection, done: Result<T, Trouble>) -> Result<T, Trouble> {
    if done.is_ok() {
        connection.execute_batch("COMMIT").map_err(away)?;
    } else if !connection.is_autocommit() {
        // If even that fails, closing the connection does it.
        let _ = connection.execute_batch("ROLLBACK");
    }
    done
}

fn exists(connection: &Connection, table: &str) -> Result<bool, Trouble> {
    let find = "SELECT count(*) FROM sqlite_master WHERE type IN ('table', 'view') AND lower(name) = ?1";
    let count: i64 = connection.query_row(find, [table], |row| row.get(0)).map_err(away)?;
    Ok(count > 0)
}

fn drop_table(connection: &Connection, table: &str) -> Result<(), Trouble> {
    connection.execute_batch(&format!("DROP TABLE IF EXISTS \"{table}\"")).map_err(away)
}

#[cfg(test)]
mod tests;
