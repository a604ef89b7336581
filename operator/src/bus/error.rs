//! What can go wrong on the bus.

/// A failure on the bus: what was tried and why it failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BusError {
    /// No connection.
    #[error("NATS at {url} cannot be reached: {cause}")]
    Connect {
        /// Where.
        url: String,
        /// Why.
        cause: String,
    },
    /// A request was not answered, or not sent.
    #[error("NATS did not answer {subject}: {cause}")]
    Request {
        /// What was asked.
        subject: String,
        /// Why there is no answer.
        cause: String,
    },
    /// JetStream refused.
    #[error("JetStream refused {subject}: {description} (code {code}, error {error_code})")]
    Refused {
        /// What was asked.
        subject: String,
        /// An HTTP-like code.
        code: u64,
        /// JetStream's own code.
        error_code: u64,
        /// Its text.
        description: String,
    },
    /// An answer that makes no sense.
    #[error("the answer of NATS to {subject} cannot be read: {cause}")]
    Answer {
        /// What was asked.
        subject: String,
        /// What is wrong with it.
        cause: String,
    },
    /// The account that NATS has is not the one that was pushed.
    #[error("NATS does not hold the account of mesh {mesh} as it was pushed: {cause}")]
    AccountNotStored {
        /// The mesh.
        mesh: String,
        /// What is there instead.
        cause: String,
    },
    /// Keys that should be usable are not.
    #[error("the keys of mesh {mesh} cannot be used: {cause}")]
    Keys {
        /// The mesh.
        mesh: String,
        /// Why.
        cause: String,
    },
    /// A consumer of a durable's name that nobody owns.
    #[error("the event store has a consumer {0} that Murmur did not make; remove or rename it")]
    DurableTaken(String),
    /// The first connection is still being made: nothing is known of the bus yet.
    #[error("the connection of the mesh to NATS is being made")]
    Starting,
    /// The mesh is not connected.
    #[error("{0}")]
    Away(String),
    /// More meshes than one operator holds connections for.
    #[error("this operator already serves {0} meshes, its limit")]
    TooManyMeshes(usize),
}

impl BusError {
    /// Whether JetStream refused with this code of its own.
    pub fn is_refused_with(&self, wanted: u64) -> bool {
        matches!(self, Self::Refused { error_code, .. } if *error_code == wanted)
    }
}

/// JetStream's codes that the operator acts on.
pub mod code {
    /// No such stream.
    pub const STREAM_NOT_FOUND: u64 = 10059;
    /// No such consumer.
    pub const CONSUMER_NOT_FOUND: u64 = 10014;
    /// A stream of this name with another configuration is there.
    pub const STREAM_NAME_IN_USE: u64 = 10058;
    /// `create` of a consumer that is there with another configuration.
    pub const CONSUMER_ALREADY_EXISTS: u64 = 10148;
    /// `update` of a consumer that is not there.
    pub const CONSUMER_DOES_NOT_EXIST: u64 = 10149;
    /// No message matches a direct get.
    pub const MESSAGE_NOT_FOUND: u64 = 10037;
}
