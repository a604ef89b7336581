//! Projections: events applied to tables of the service's own database.
//!
//! The database is the truth about how far that is: the position stands in it, in
//! a table of Murmur's own, and moves in the transaction that applies the events.
//! So each event has its effect once, whatever is delivered again; one that was
//! lost on the way shows, as the position is behind what was acknowledged, and the
//! durable is set back. Two writers cannot both move it from where they found it.
//!
//! [`plan`] decides what an open database means, purely; [`sqlite`] and
//! [`postgres`] do it. What goes when is up to `deliver`, whose barrier gives the
//! events in the order of the event store.

mod bind;
mod plan;
mod postgres;
mod sqlite;
mod store;

use std::collections::BTreeSet;
use std::sync::Arc;

use async_nats::Message;
use murmur_mesh::config::OnChange;
use murmur_projection::Definition;

pub(crate) use store::Store;

/// Which run of which definition over which event store a position belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) subscription: String,
    pub(crate) event_store: String,
    /// The replay; empty for the first run.
    pub(crate) run: String,
    /// The last sequence when that began.
    pub(crate) boundary: u64,
    /// The definition's fingerprint.
    pub(crate) definition: String,
    pub(crate) on_change: OnChange,
}

/// All that a store needs to know about a projection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Projection {
    pub(crate) identity: Identity,
    pub(crate) definition: Definition,
}

/// An event whose turn it is.
#[derive(Debug, Clone)]
pub(crate) struct Item {
    pub(crate) sequence: u64,
    pub(crate) work: Work,
}

/// What is to be done with an event.
#[derive(Debug, Clone)]
pub(crate) enum Work {
    /// Its statements are run.
    Apply(Arc<Message>),
    /// It changes nothing, and the position passes it all the same.
    Pass,
    /// It is given up, for this cause, which is noted before its dead letter is stored.
    GiveUp(String),
}

/// How far a projection is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Standing {
    /// The last event that is applied or given up, by its place in the stream.
    pub(crate) position: u64,
    /// The event that is being given up, and why: it is not applied any more, but
    /// its dead letter may not be stored yet.
    pub(crate) rejected: Option<(u64, String)>,
    /// It is being built beside the tables that are read.
    pub(crate) beside: bool,
}

/// What came of applying events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Applied {
    /// So many of them are in, and nothing is wrong with the others.
    Done(usize),
    /// So many are in; the next one never can be, which is noted.
    Rejected(usize, String),
    /// So many are in; the next one failed, and may not when it is tried again.
    Failed(usize, String),
    /// None is in: another writer has been here, or the database is another one.
    Fenced,
}

/// Why nothing can be done now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// The database is away.
    Away(String),
    /// What is asked for does not fit the database: a statement, a table.
    Invalid(String),
    /// What is to come first has not come yet.
    Waits(&'static str),
}

/// What a failure of a statement says about its event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Blame {
    /// It can never be applied.
    Event,
    /// It may be, another time.
    Chance,
    /// The statement is wrong, for all events.
    Statement,
    /// The database is away, or full.
    Database,
}

impl Projection {
    fn tables(&self) -> &BTreeSet<String> {
        &self.definition.tables
    }

    /// Names of tables, to be kept in one column.
    fn table_list(&self) -> String {
        self.definition.tables.iter().map(String::as_str).collect::<Vec<_>>().join(" ")
    }
}
