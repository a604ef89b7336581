//! Projections: read models that are kept by SQL alone. Pure, so that operator
//! and sidecar read a definition alike.
//!
//! A definition is the schema of its tables and, for types of events, statements
//! with placeholders: `:data.id` is a value of the event's data, `:source` one of
//! its attributes. They are bound, never spliced: what an event holds is never SQL.
//! A `?` behind one binds NULL where the event has no such value; without it such
//! an event cannot be applied.

mod definition;
mod lexer;
mod value;

pub use definition::{Definition, Dialect, InvalidProjection, Statement};
pub use value::{Event, Missing, Parameter, Value};
