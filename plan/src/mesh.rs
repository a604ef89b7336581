//! A mesh's streams, and its backups.

pub mod backup;

use std::time::Duration;

use murmur_crds::Mesh;
use murmur_crds::mesh::RetentionPolicy;
use murmur_mesh::stream;

use crate::invalid::{self, Invalid};
use crate::settings::Settings;

/// Consumers that [`stream::EVENTS`] may have; the broker's own default is 1,000.
const MAX_CONSUMERS: i32 = 5000;
/// The smallest store of dead letters, in bytes.
const SMALLEST_DEAD_LETTERS: i64 = 16 * 1024 * 1024;
/// The store of configurations, in bytes: one message per service.
const CONFIG_BYTES: i64 = 64 * 1024 * 1024;

/// A mesh whose settings are complete and valid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValidMesh {
    /// On how many servers each event is stored.
    pub replicas: u8,
    /// How many bytes of events are stored at most.
    pub max_bytes: i64,
    /// How long events are kept; `None` for ever.
    pub max_age: Option<Duration>,
    /// For how long a repeated publish is recognised.
    pub duplicate_window: Duration,
}

/// A stream as it should be; stored in files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stream {
    /// Its name.
    pub name: &'static str,
    /// The subjects that it stores.
    pub subjects: Vec<String>,
    /// On how many servers.
    pub replicas: u8,
    /// How many bytes at most.
    pub max_bytes: i64,
    /// How long messages are kept; `None` for ever.
    pub max_age: Option<Duration>,
    /// How many messages per subject; `None` any number.
    pub max_messages_per_subject: Option<i64>,
    /// How many consumers; `None` for the broker's default.
    pub max_consumers: Option<i32>,
    /// A full stream refuses new messages (true) or forgets old ones.
    pub discard_new: bool,
    /// For how long a repeated message id is recognised.
    pub duplicate_window: Duration,
    /// Whether batches can be stored all or nothing.
    pub allow_atomic: bool,
    /// Whether any replica answers requests for the last message of a subject.
    pub allow_direct: bool,
}

/// Completes a Mesh, or its absence, with the defaults.
///
/// # Errors
/// When a quantity or duration is not one or out of range.
pub fn validate(mesh: Option<&Mesh>, settings: &Settings) -> Result<ValidMesh, Invalid> {
    let defaults = &settings.event_store;
    let mut valid = ValidMesh {
        replicas: defaults.replicas,
        max_bytes: defaults.max_bytes,
        max_age: None,
        duplicate_window: defaults.duplicate_window,
    };
    let Some(store) = mesh.and_then(|mesh| mesh.spec.event_store.as_ref()) else {
        return Ok(valid);
    };
    if let Some(replicas) = store.replicas {
        let field = "spec.eventStore.replicas";
        let rule = "replicas are 1, 3 or 5";
        valid.replicas = invalid::within(field, replicas, 1..=5, rule)?;
        if replicas % 2 == 0 {
            return Err(Invalid::InvalidValue { field: field.to_owned(), value: replicas.to_string(), rule });
        }
    }
    if let Some(max_bytes) = &store.max_bytes {
        valid.max_bytes = max_bytes.bytes().map_err(|error| Invalid::InvalidQuantity {
            field: "spec.eventStore.maxBytes".to_owned(),
            error,
        })?;
    }
    let duration = |field: &str, text: &murmur_crds::GatewayDuration| {
        text.parse().map_err(|error| Invalid::InvalidDuration { field: field.to_owned(), error })
    };
    if let Some(retention) = &store.retention
        && retention.policy == RetentionPolicy::MaxAge
        && let Some(max_age) = &retention.max_age
    {
        valid.max_age = Some(duration("spec.eventStore.retention.maxAge", max_age)?);
    }
    if let Some(window) = &store.duplicate_window {
        valid.duplicate_window = duration("spec.eventStore.duplicateWindow", window)?;
    }
    // The broker refuses a window longer than the age; the default one is not the user's mistake.
    if let Some(max_age) = valid.max_age {
        valid.duplicate_window = valid.duplicate_window.min(max_age);
    }
    Ok(valid)
}

/// The streams of a mesh.
pub fn streams(mesh: &ValidMesh) -> [Stream; 3] {
    let subjects = |subjects: &[&str]| subjects.iter().map(|subject| (*subject).to_owned()).collect();
    [
        Stream {
            name: stream::EVENTS,
            subjects: subjects(&stream::EVENTS_SUBJECTS),
            replicas: mesh.replicas,
            max_bytes: mesh.max_bytes,
            max_age: mesh.max_age,
            max_messages_per_subject: None,
            max_consumers: Some(MAX_CONSUMERS),
            discard_new: true,
            duplicate_window: mesh.duplicate_window,
            allow_atomic: true,
            allow_direct: false,
        },
        Stream {
            name: stream::DEAD_LETTERS,
            subjects: subjects(&stream::DEAD_LETTERS_SUBJECTS),
            replicas: mesh.replicas,
            max_bytes: (mesh.max_bytes / 10).max(SMALLEST_DEAD_LETTERS),
            max_age: None,
            max_messages_per_subject: None,
            max_consumers: None,
            discard_new: true,
            duplicate_window: mesh.duplicate_window,
            allow_atomic: false,
            allow_direct: false,
        },
        Stream {
            name: stream::CONFIG,
            subjects: subjects(&stream::CONFIG_SUBJECTS),
            replicas: mesh.replicas,
            max_bytes: CONFIG_BYTES,
            max_age: None,
            max_messages_per_subject: Some(1),
            max_consumers: None,
            discard_new: false,
            duplicate_window: Duration::from_secs(120),
            allow_atomic: false,
            allow_direct: true,
        },
    ]
}

#[cfg(test)]
mod tests;
