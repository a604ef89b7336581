//! Planned streams in the form of the JetStream API. Pure.

use std::time::Duration;

use murmur_crds::Mesh;
use murmur_plan::mesh::{self, Stream};
use murmur_plan::{Invalid, Settings};
use serde_json::{Value, json};

/// The streams of a mesh with this resource, or with none.
///
/// # Errors
/// When the resource cannot be planned.
pub fn streams(resource: Option<&Mesh>, settings: &Settings) -> Result<Vec<Value>, Invalid> {
    let valid = mesh::validate(resource, settings)?;
    Ok(mesh::streams(&valid).iter().map(stream).collect())
}

fn stream(stream: &Stream) -> Value {
    let mut config = json!({
        "name": stream.name,
        "subjects": stream.subjects,
        "storage": "file",
        "retention": "limits",
        "discard": if stream.discard_new { "new" } else { "old" },
        "num_replicas": stream.replicas,
        "max_bytes": stream.max_bytes,
        "max_msgs": -1,
        "max_msgs_per_subject": stream.max_messages_per_subject.unwrap_or(-1),
        "max_msg_size": -1,
        "max_age": nanoseconds(stream.max_age.unwrap_or_default()),
        "duplicate_window": nanoseconds(stream.duplicate_window),
        "allow_atomic": stream.allow_atomic,
        "allow_direct": stream.allow_direct,
        "sealed": false,
        "no_ack": false,
    });
    if let Some(max_consumers) = stream.max_consumers {
        config["max_consumers"] = json!(max_consumers);
    }
    config
}

/// A duration as the JetStream API writes it.
pub(crate) fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
