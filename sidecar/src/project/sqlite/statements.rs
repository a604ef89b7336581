//! A projection's statements in SQLite's form, for the tables that are read or for those beside.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};

use murmur_mesh::name::EventType;
use murmur_projection::{Dialect, Event, Parameter, Statement, Value};
use rusqlite::types::{ToSqlOutput, Value as Owned, ValueRef};
use rusqlite::{Connection, ToSql};

use super::guard::{Guard, Hand};
use super::{NEW, blame};
use crate::project::plan::Row;
use crate::project::{Blame, Projection, Trouble};

/// All statements of one projection.
#[derive(Debug)]
pub(super) struct Statements {
    beside: bool,
    tables: BTreeSet<String>,
    schema: Vec<Ready>,
    on: BTreeMap<EventType, Vec<Ready>>,
}

/// A statement as it goes to the database.
#[derive(Debug)]
pub(super) struct Ready {
    place: String,
    sql: String,
    parameters: Vec<Parameter>,
}

impl Statements {
    /// For the tables that a row stands for.
    pub(super) fn new(projection: &Projection, row: &Row) -> Self {
        let (beside, definition) = (row.beside, &projection.definition);
        // Names of indexes are one space for all tables: those of a rebuild are others.
        let rename = |statement: &Statement| {
            // Only where the index is named: a column may have the same name.
            let index = Cell::new(statement.index());
            statement.renamed(Dialect::Sqlite, |name| {
                let named = index.take();
                if named.as_deref() == Some(name) {
                    return Some(format!("{name}_{}", row.generation));
                }
                index.set(named);
                (beside && definition.tables.contains(name)).then(|| format!("{NEW}{name}"))
            })
        };
        let ready = |statement: &Statement| Ready {
            place: statement.place.clone(),
            sql: rename(statement),
            parameters: statement.parameters.clone(),
        };
        let all = |statements: &Vec<Statement>| statements.iter().map(ready).collect();
        Self {
            beside,
            tables: definition.tables.clone(),
            schema: all(&definition.schema),
            on: definition.on.iter().map(|(event_type, on)| (event_type.clone(), all(on))).collect(),
        }
    }

    /// The name that a table has now.
    pub(super) fn table(&self, table: &str) -> String {
        if self.beside { format!("{NEW}{table}") } else { table.to_owned() }
    }

    /// What an event of this type changes.
    pub(super) fn on(&self, event_type: &EventType) -> Option<&Vec<Ready>> {
        self.on.get(event_type)
    }

    /// Makes the tables.
    pub(super) fn make(&self, connection: &Connection, guard: &Guard) -> Result<(), Trouble> {
        self.guard(guard);
        for statement in &self.schema {
            let done = guard.by(Hand::Schema, || connection.execute_batch(&statement.sql));
            done.map_err(|(error, cause)| statement.trouble(&error, &cause))?;
        }
        Ok(())
    }

    /// Prepares all that may be needed for events, so that a wrong one is known before the first.
    pub(super) fn check(&self, connection: &Connection, guard: &Guard) -> Result<(), Trouble> {
        self.guard(guard);
        for table in &self.tables {
            let name = self.table(table);
            if !super::exists(connection, &name)? {
                return Err(Trouble::Invalid(format!(
                    "the table {name} is gone: a new spec.replay.id builds the projection's tables anew"
                )));
            }
        }
        for statement in self.on.values().flatten() {
            let count = guard
                .by(Hand::Event, || connection.prepare_cached(&statement.sql).map(|it| it.parameter_count()))
                .map_err(|(error, cause)| statement.trouble(&error, &cause))?;
            if count != statement.parameters.len() {
                return Err(Trouble::Invalid(format!(
                    "{}: it has a parameter that is no placeholder: write values of the event as :data.id",
                    statement.place
                )));
            }
        }
        Ok(())
    }

    fn guard(&self, guard: &Guard) {
        guard.owns(self.tables.iter().map(|table| self.table(table)).collect());
    }
}

impl Ready {
    fn trouble(&self, error: &rusqlite::Error, cause: &str) -> Trouble {
        let cause = format!("{}: {cause}, in: {}", self.place, short(&self.sql));
        match self.at_preparing(error) {
            Blame::Database => Trouble::Away(cause),
            _ => Trouble::Invalid(cause),
        }
    }

    /// Runs it with what it needs of an event.
    pub(super) fn run(
        &self,
        connection: &Connection,
        guard: &Guard,
        event: &Event<'_>,
    ) -> Result<(), (Blame, String)> {
        let mut values = Vec::with_capacity(self.parameters.len());
        for parameter in &self.parameters {
            match parameter.of(event) {
                Ok(value) => values.push(Bound(value)),
                Err(missing) => return Err((Blame::Event, format!("{}: {missing}", self.place))),
            }
        }
        let mut prepared = guard
            .by(Hand::Event, || connection.prepare_cached(&self.sql))
            .map_err(|(error, cause)| (self.at_preparing(&error), format!("{}: {cause}", self.place)))?;
        let ran = guard.by(Hand::Event, || {
            for (index, value) in values.iter().enumerate() {
                prepared.raw_bind_parameter(index + 1, value)?;
            }
            let mut rows = prepared.raw_query();
            while rows.next()?.is_some() {}
            Ok(())
        });
        drop(prepared);
        ran.map_err(|(error, cause)| {
            // A table that has gone or changed meanwhile shows only now, and is no event's fault.
            let fits = guard.by(Hand::Event, || connection.prepare(&self.sql).map(drop));
            let blame = fits.map_or_else(|(error, _)| self.at_preparing(&error), |()| blame(&error));
            (blame, format!("{}: {cause}", self.place))
        })
    }

    fn at_preparing(&self, error: &rusqlite::Error) -> Blame {
        match blame(error) {
            Blame::Database => Blame::Database,
            _ => Blame::Statement,
        }
    }
}

/// The beginning of a statement.
fn short(sql: &str) -> String {
    sql.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(120).collect()
}

/// A value in SQLite's types.
struct Bound<'a>(Value<'a>);

impl ToSql for Bound<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(match &self.0 {
            Value::Null => ToSqlOutput::Owned(Owned::Null),
            Value::Boolean(value) => ToSqlOutput::Owned(Owned::Integer(i64::from(*value))),
            Value::Number(number) => ToSqlOutput::Owned(match (number.as_i64(), number.as_f64()) {
                (Some(integer), _) => Owned::Integer(integer),
                (None, Some(real)) if !number.is_u64() => Owned::Real(real),
                // More than SQLite's integers hold: as a text no digit is lost.
                _ => Owned::Text(number.to_string()),
            }),
            Value::Text(text) => ToSqlOutput::Borrowed(ValueRef::Text(text.as_bytes())),
            Value::Json(json) => ToSqlOutput::Owned(Owned::Text(json.to_string())),
        })
    }
}
