//! Credentials for people: who may look at a mesh and who may administer it,
//! and where what they need is kept.

use std::fmt;

/// What a person, or a tool of theirs, is allowed on a mesh's bus.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Person {
    /// Reads all events and dead letters, how far each subscription is, and takes backups; changes nothing.
    Viewer,
    /// Also redrives and drops dead letters, erases events and restores the event store.
    Admin,
}

impl Person {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Viewer, Self::Admin];

    /// The Secret with its credentials, in the mesh's namespace; also the user's name on the bus.
    pub fn secret(self) -> &'static str {
        match self {
            Self::Viewer => "murmur-viewer",
            Self::Admin => "murmur-admin",
        }
    }

    /// The prefix of its inboxes, which nobody else may subscribe to.
    pub fn inbox_prefix(self) -> &'static str {
        match self {
            Self::Viewer => "_INBOX_murmur-viewer",
            Self::Admin => "_INBOX_murmur-admin",
        }
    }
}

impl fmt::Display for Person {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.secret())
    }
}

/// The Secret's key with the credentials: JWT and seed, in the form of NATS's own tools.
pub const CREDENTIALS_FILE: &str = "user.creds";
/// The Secret's key with the URL of NATS as seen inside the cluster.
pub const URL_FILE: &str = "url";
