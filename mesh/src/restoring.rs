//! Word that the event store of a mesh is being restored. Meanwhile its streams
//! are missing, and the operator must not make them anew. Afterwards they bear a
//! mark: with another identity than before, they hold events and positions.

use std::time::Duration;

/// Where whoever restores says so (core NATS, not stored), as a request: the
/// operator answers once it keeps its hands off.
pub const SUBJECT: &str = "mesh.restoring";
/// How often it is said again while the restore goes on.
pub const INTERVAL: Duration = Duration::from_secs(1);
/// How long after the last word the operator takes over again: a restore that
/// died does not keep a mesh down.
pub const HOLDS: Duration = Duration::from_secs(15);
/// The word that the restore has ended.
pub const DONE: &[u8] = b"done";
/// The metadata of a stream that was restored: when its backup was begun.
pub const RESTORED: &str = "murmur.dev/restored";
