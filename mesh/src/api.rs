//! Requests of the JetStream API that people's tools make: their subjects, of
//! which their permissions consist too.

/// What a stream looks like.
pub fn stream_info(stream: &str) -> String {
    format!("$JS.API.STREAM.INFO.{stream}")
}

/// One message of a stream, by its sequence or the next of a subject.
pub fn message_get(stream: &str) -> String {
    format!("$JS.API.STREAM.MSG.GET.{stream}")
}

/// Deletes one message of a stream.
pub fn message_delete(stream: &str) -> String {
    format!("$JS.API.STREAM.MSG.DELETE.{stream}")
}

/// Removes the messages of a subject from a stream.
pub fn purge(stream: &str) -> String {
    format!("$JS.API.STREAM.PURGE.{stream}")
}

/// Deletes a stream.
pub fn stream_delete(stream: &str) -> String {
    format!("$JS.API.STREAM.DELETE.{stream}")
}

/// Sends a snapshot of a stream.
pub fn snapshot(stream: &str) -> String {
    format!("$JS.API.STREAM.SNAPSHOT.{stream}")
}

/// Takes a snapshot of a stream.
pub fn restore(stream: &str) -> String {
    format!("$JS.API.STREAM.RESTORE.{stream}")
}

/// All consumers of a stream, page by page.
pub fn consumer_list(stream: &str) -> String {
    format!("$JS.API.CONSUMER.LIST.{stream}")
}

/// The names of all consumers of a stream, page by page.
pub fn consumer_names(stream: &str) -> String {
    format!("$JS.API.CONSUMER.NAMES.{stream}")
}

/// What one consumer looks like; `*` for any.
pub fn consumer_info(stream: &str, consumer: &str) -> String {
    format!("$JS.API.CONSUMER.INFO.{stream}.{consumer}")
}

/// Sets a consumer to a sequence; `*` for any.
pub fn consumer_reset(stream: &str, consumer: &str) -> String {
    format!("$JS.API.CONSUMER.RESET.{stream}.{consumer}")
}

/// Where the pieces of a stream's snapshot are acknowledged, which keeps them coming.
pub fn snapshot_ack(stream: &str) -> String {
    format!("$JS.SNAPSHOT.ACK.{stream}.>")
}

/// Where the pieces of a snapshot are sent that a stream is restored from.
pub fn snapshot_restore(stream: &str) -> String {
    format!("$JS.SNAPSHOT.RESTORE.{stream}.>")
}
