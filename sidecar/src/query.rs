//! Queries: one question to every service that answers it, and their answers.
//!
//! [`ask`] scatters what this service asks and gathers the answers, [`part`]
//! reads one of them, [`gathered`] puts them together. [`answer`] takes what
//! other services ask to this one and brings its answers back.

mod answer;
mod ask;
mod gathered;
mod part;

pub(crate) use answer::Answers;
pub(crate) use ask::{AskError, Asks};
