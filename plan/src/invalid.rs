//! What cannot be planned, although the API server took it.

use std::time::Duration;

use murmur_crds::duration::{GatewayDuration, InvalidDuration};
use murmur_crds::quantity::InvalidQuantity;
use murmur_filter::InvalidFilter;
use murmur_mesh::name::InvalidName;
use murmur_mesh::schema::InvalidSchema;
use murmur_projection::InvalidProjection;

/// Why a resource cannot be planned. The variant is the reason of the condition
/// and of the Kubernetes event; the text says what to change.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// A name breaks the rules.
    #[error("{field}: {error}")]
    InvalidName {
        /// Where it stands.
        field: String,
        /// The rule.
        error: InvalidName,
    },
    /// A quantity is not one.
    #[error("{field}: {error}")]
    InvalidQuantity {
        /// Where it stands.
        field: String,
        /// What is wrong.
        error: InvalidQuantity,
    },
    /// A container asks for more than it may have.
    #[error(
        "{field}: the request {request} is more than the limit {limit}: raise the limit or lower the request"
    )]
    RequestAboveLimit {
        /// Where it stands.
        field: String,
        /// The request.
        request: String,
        /// The limit.
        limit: String,
    },
    /// A duration is not one.
    #[error("{field}: {error}")]
    InvalidDuration {
        /// Where it stands.
        field: String,
        /// What is wrong.
        error: InvalidDuration,
    },
    /// A value is out of range.
    #[error("{field}: {value} is not allowed: {rule}")]
    InvalidValue {
        /// Where it stands.
        field: String,
        /// What was found.
        value: String,
        /// What is allowed.
        rule: &'static str,
    },
    /// The schema of an event's data does not compile.
    #[error("{field}: {error}")]
    InvalidSchema {
        /// Where it stands.
        field: String,
        /// What is wrong.
        error: InvalidSchema,
    },
    /// A filter does not compile.
    #[error("{field}: {error}")]
    InvalidFilter {
        /// Where it stands.
        field: String,
        /// What is wrong.
        error: InvalidFilter,
    },
    /// A projection's definition cannot be read.
    #[error("spec.{error}")]
    InvalidProjection {
        /// What is wrong, and where.
        error: InvalidProjection,
    },
    /// podOverrides do not fit a pod template.
    #[error("spec.podOverrides: {0}")]
    InvalidPodOverrides(String),
    /// The pod would read what is another service's.
    #[error(
        "the pod names the {kind} {name}, which belongs to {owner} alone: ask {owner} by a call or a query, or hear its events; \
         one of your own needs another name"
    )]
    AnothersData {
        /// Secret or claim.
        kind: &'static str,
        /// Its name.
        name: String,
        /// Whose it is.
        owner: String,
    },
}

impl Invalid {
    /// The variant's name, for conditions, events and metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::InvalidName { .. } => "InvalidName",
            Self::InvalidQuantity { .. } => "InvalidQuantity",
            Self::RequestAboveLimit { .. } => "RequestAboveLimit",
            Self::InvalidDuration { .. } => "InvalidDuration",
            Self::InvalidValue { .. } => "InvalidValue",
            Self::InvalidSchema { .. } => "InvalidSchema",
            Self::InvalidFilter { .. } => "InvalidFilter",
            Self::InvalidProjection { .. } => "InvalidProjection",
            Self::InvalidPodOverrides(_) => "InvalidPodOverrides",
            Self::AnothersData { .. } => "AnothersData",
        }
    }
}

/// Reads a name of type `T` at a field.
pub(crate) fn name<T>(field: &str, text: &str) -> Result<T, Invalid>
where
    T: std::str::FromStr<Err = InvalidName>,
{
    text.parse().map_err(|error| Invalid::InvalidName { field: field.to_owned(), error })
}

/// A port that a service may listen on.
pub(crate) fn port(field: &str, number: i32) -> Result<u16, Invalid> {
    u16::try_from(number)
        .ok()
        .filter(|port| {
            *port != 0 && *port != murmur_mesh::config::LOCAL_PORT && *port != murmur_mesh::config::ADMIN_PORT
        })
        .ok_or_else(|| Invalid::InvalidValue {
            field: field.to_owned(),
            value: number.to_string(),
            rule: "a port is a number from 1 to 65535 other than 3600 and 3601",
        })
}

/// A path on loopback.
pub(crate) fn path(field: &str, path: &str) -> Result<String, Invalid> {
    if path.starts_with('/') && path.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Ok(path.to_owned());
    }
    Err(Invalid::InvalidValue {
        field: field.to_owned(),
        value: format!("{path:?}"),
        rule: "a path starts with / and has no spaces; percent-encode what is not ASCII",
    })
}

/// A duration.
pub(crate) fn duration(field: &str, text: &GatewayDuration) -> Result<Duration, Invalid> {
    text.parse().map_err(|error| Invalid::InvalidDuration { field: field.to_owned(), error })
}

/// A number in a range.
pub(crate) fn within<T>(
    field: &str,
    number: i32,
    range: std::ops::RangeInclusive<i32>,
    rule: &'static str,
) -> Result<T, Invalid>
where
    T: TryFrom<i32>,
{
    let refused = || Invalid::InvalidValue { field: field.to_owned(), value: number.to_string(), rule };
    if !range.contains(&number) {
        return Err(refused());
    }
    T::try_from(number).map_err(|_| refused())
}
