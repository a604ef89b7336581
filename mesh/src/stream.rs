//! The streams of a mesh, inside its own NATS account.

/// All events of the mesh: the event store.
pub const EVENTS: &str = "EVENTS";
/// Events that a service rejected or that used up their attempts.
pub const DEAD_LETTERS: &str = "DEAD_LETTERS";
/// The last configuration of each service.
pub const CONFIG: &str = "CONFIG";

/// Subjects that [`EVENTS`] stores. Redriven dead letters go the way of the
/// events, so that one subscription alone gets them, in the order of their key.
pub const EVENTS_SUBJECTS: [&str; 2] = ["events.>", "redrive.>"];
/// Subjects that [`DEAD_LETTERS`] stores.
pub const DEAD_LETTERS_SUBJECTS: [&str; 1] = ["dead.>"];
/// Subjects that [`CONFIG`] stores.
pub const CONFIG_SUBJECTS: [&str; 1] = ["config.*"];
