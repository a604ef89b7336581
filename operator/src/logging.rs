//! Logs: one JSON object per line on standard output.

use tracing_subscriber::EnvFilter;

/// Logs from now on what `filter` lets through. A second call does nothing.
pub fn start(filter: &str) {
    // What the client of NATS says of its connections is logged by us, with their names.
    let quiet = if filter.contains("async_nats") { String::new() } else { ",async_nats=warn".to_owned() };
    let filter = EnvFilter::try_new(format!("{filter}{quiet}")).unwrap_or_else(|_| EnvFilter::new("info"));
    let subscriber = tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_span_list(false)
        .with_env_filter(filter)
        .finish();
    // An error means that logging has been started already, as in tests.
    let _ = tracing::subscriber::set_global_default(subscriber);
}
