//! Why an object could not be reconciled. The variant is the reason of the
//! condition and of the Kubernetes event, and the label of the metric.

use murmur_plan::Invalid;
use murmur_plan::status::conditions::Problem;

use crate::bus::{BusError, MeshError};
use crate::cluster::{ApplyError, message};
use crate::trust::{ClaimsError, TrustError};

/// Why an object could not be reconciled.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What the user wrote cannot be planned.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// An object is in the way, or could not be written.
    #[error(transparent)]
    Apply(#[from] ApplyError),
    /// The keys of the mesh are not there.
    #[error(transparent)]
    Trust(#[from] Box<TrustError>),
    /// The service's own keys cannot be used.
    #[error("Secret {name} cannot be used: {source}; delete it to have it made anew")]
    SecretUnusable {
        /// The Secret.
        name: String,
        /// What is wrong.
        source: ClaimsError,
    },
    /// There is data, but nobody knows its passwords any more.
    #[error(
        "the claim {claim} holds data, but its credentials, the Secret {secret}, are gone: restore the Secret, or \
         delete the claim to start anew"
    )]
    CredentialsLost {
        /// The claim.
        claim: String,
        /// The Secret.
        secret: String,
    },
    /// The passwords of a database cannot be used.
    #[error(
        "Secret {secret} cannot be used: {source}; put back what was there, as the data knows no other passwords"
    )]
    CredentialsUnusable {
        /// The Secret.
        secret: String,
        /// What is wrong.
        source: ClaimsError,
    },
    /// The claim holds another engine's data.
    #[error(
        "the claim {claim} holds data of {held}, not of {wanted}: set the engine back, or delete the claim to start \
         anew"
    )]
    EngineDiffers {
        /// The claim.
        claim: String,
        /// The engine of its data.
        held: String,
        /// The engine that is asked for.
        wanted: &'static str,
    },
    /// The bus is away or refuses.
    #[error(transparent)]
    Bus(#[from] BusError),
    /// The mesh's own settings cannot be planned.
    #[error("the Mesh default cannot be planned: {0}")]
    InvalidMesh(Invalid),
    /// The Microservice is not there.
    #[error("there is no Microservice {0} in this namespace; it becomes ready by itself when there is")]
    MicroserviceNotFound(String),
    /// The status could not be written.
    #[error("the status could not be written: {}", message(.0))]
    Status(#[source] kube::Error),
    /// The reconcile itself broke: a defect of the operator.
    #[error("the operator failed inside: {0}")]
    Panicked(String),
}

impl From<MeshError> for Error {
    fn from(error: MeshError) -> Self {
        match error {
            MeshError::Trust(error) => Self::Trust(error),
            MeshError::Bus(error) => Self::Bus(error),
            MeshError::Invalid(error) => Self::InvalidMesh(error),
        }
    }
}

impl Error {
    /// One CamelCase word.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Invalid(invalid) => invalid.reason(),
            Self::Apply(ApplyError::NameTaken { .. }) => "NameTaken",
            Self::Apply(ApplyError::LeftOver { .. }) => "PredecessorLeaving",
            Self::Apply(ApplyError::NamespaceTerminating) => "NamespaceTerminating",
            Self::Apply(ApplyError::CannotGrow { .. }) => "StorageCannotGrow",
            Self::Apply(ApplyError::Refused { .. }) => "ApplyFailed",
            Self::Trust(_) => "TrustUnavailable",
            Self::SecretUnusable { .. } => "SecretUnusable",
            Self::CredentialsLost { .. } => "CredentialsLost",
            Self::CredentialsUnusable { .. } => "CredentialsUnusable",
            Self::EngineDiffers { .. } => "EngineDiffers",
            Self::Bus(BusError::Refused { .. }) => "BusRefused",
            Self::Bus(BusError::AccountNotStored { .. }) => "AccountNotStored",
            Self::Bus(BusError::DurableTaken(_)) => "DurableTaken",
            Self::Bus(BusError::TooManyMeshes(_)) => "TooManyMeshes",
            Self::Bus(_) => "BusUnavailable",
            Self::InvalidMesh(_) => "InvalidMesh",
            Self::MicroserviceNotFound(_) => "MicroserviceNotFound",
            Self::Status(_) => "StatusNotWritten",
            Self::Panicked(_) => "Panicked",
        }
    }

    /// The error as a condition shows it.
    pub fn problem(&self) -> Problem {
        Problem::new(self.reason(), self.to_string())
    }

    /// Whether it is the database that cannot be had as asked for.
    pub fn is_of_database(&self) -> bool {
        matches!(
            self,
            Self::CredentialsLost { .. } | Self::CredentialsUnusable { .. } | Self::EngineDiffers { .. }
        )
    }

    /// Whether it says only that nothing is known yet, as at the operator's own
    /// start, or that all is coming to its end: a status that is there stays as it is.
    pub fn is_no_news(&self) -> bool {
        matches!(self, Self::Bus(BusError::Starting) | Self::Apply(ApplyError::NamespaceTerminating))
    }

    /// Whether the cause goes away within moments, unseen: what is left may be a Secret, and those are not watched.
    pub fn is_over_soon(&self) -> bool {
        matches!(self, Self::Apply(ApplyError::LeftOver { .. }))
    }

    /// Whether the cause is seen to go away by itself, so that looking again
    /// soon is of no use: a change wakes the object.
    pub fn waits_for_change(&self) -> bool {
        matches!(
            self,
            Self::MicroserviceNotFound(_)
                | Self::Invalid(_)
                | Self::Bus(BusError::Away(_) | BusError::Starting)
                | Self::Apply(ApplyError::NamespaceTerminating)
        )
    }
}
