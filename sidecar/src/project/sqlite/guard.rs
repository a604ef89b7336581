//! What may be done to the database, and by whose statements: SQLite asks before
//! it prepares one. A projection's own may touch its tables and nothing else.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rusqlite::Connection;
use rusqlite::hooks::{AuthAction, AuthContext, Authorization};

/// Tables that are functions: they show what an event holds.
const FUNCTIONS: [&str; 2] = ["json_each", "json_tree"];

/// Whose statements are prepared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hand {
    /// This program's.
    Own,
    /// The schema's.
    Schema,
    /// Those for events.
    Event,
}

/// Who is at work, and what was denied.
#[derive(Debug)]
pub(super) struct Guard(Mutex<State>);

#[derive(Debug)]
struct State {
    hand: Hand,
    tables: BTreeSet<String>,
    denied: Option<String>,
}

impl Guard {
    /// Lets SQLite ask from now on.
    pub(super) fn install(connection: &mut Connection) -> rusqlite::Result<Arc<Self>> {
        let state = State { hand: Hand::Own, tables: BTreeSet::new(), denied: None };
        let guard = Arc::new(Self(Mutex::new(state)));
        let asked = guard.clone();
        connection.authorizer(Some(move |context: AuthContext<'_>| asked.state().decide(&context.action)))?;
        Ok(guard)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Which tables are a projection's own.
    pub(super) fn owns(&self, tables: BTreeSet<String>) {
        self.state().tables = tables;
    }

    /// Does something by the hand of the projection; what was denied goes into the cause.
    pub(super) fn by<T>(
        &self,
        hand: Hand,
        work: impl FnOnce() -> rusqlite::Result<T>,
    ) -> Result<T, (rusqlite::Error, String)> {
        {
            let mut state = self.state();
            (state.hand, state.denied) = (hand, None);
        }
        let done = work();
        let mut state = self.state();
        state.hand = Hand::Own;
        let denied = state.denied.take();
        done.map_err(|error| {
            let cause = denied.map_or_else(|| error.to_string(), |denied| format!("it {denied}"));
            (error, cause)
        })
    }
}

impl State {
    fn decide(&mut self, action: &AuthAction<'_>) -> Authorization {
        let denied = match (self.hand, action) {
            (Hand::Own, _) => None,
            (_, AuthAction::Select | AuthAction::Recursive) => None,
            (_, AuthAction::Function { function_name }) => {
                (*function_name == "load_extension").then(|| "loads an extension".to_owned())
            }
            (Hand::Event, AuthAction::Savepoint { .. }) => Some("sets a savepoint".to_owned()),
            (_, AuthAction::Read { table_name, .. }) => self.other(table_name, "reads"),
            (_, AuthAction::Insert { table_name }) => self.other(table_name, "inserts into"),
            (_, AuthAction::Update { table_name, .. }) => self.other(table_name, "updates"),
            (_, AuthAction::Delete { table_name }) => self.other(table_name, "deletes from"),
            (Hand::Schema, AuthAction::CreateTable { table_name }) => self.other(table_name, "makes"),
            (Hand::Schema, AuthAction::CreateIndex { table_name, .. }) => {
                self.other(table_name, "makes an index of")
            }
            (Hand::Schema, AuthAction::Reindex { .. }) => None,
            (_, other) => Some(format!("does what a projection may not: {other:?}")),
        };
        match denied {
            None => Authorization::Allow,
            Some(what) => {
                self.denied.get_or_insert(what);
                Authorization::Deny
            }
        }
    }

    fn other(&self, table: &str, does: &str) -> Option<String> {
        let is_own = self.tables.iter().any(|own| own.eq_ignore_ascii_case(table));
        // Where a table's own description stands, and nothing is read by name.
        let is_sqlites = self.hand == Hand::Schema && table.starts_with("sqlite_");
        let is_nobodys = table.is_empty() || FUNCTIONS.contains(&table);
        (!is_own && !is_sqlites && !is_nobodys).then(|| {
            format!("{does} {table}, which is not among projection.tables: a projection touches its own tables only")
        })
    }
}
