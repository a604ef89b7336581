//! Logs: one JSON object per line on standard output.

use tracing_subscriber::EnvFilter;

/// Logs from now on what `filter` lets through. A second call does nothing.
pub fn start(filter: &str) {
    let filter = EnvFilter::try_new(filter).unwrap_or_else(|_| EnvFilter::new("info"));
    let subscriber = tracing_subscriber::fmt().json().flatten_event(true).with_env_filter(filter).finish();
    // An error means that logging has been started already, as in tests.
    let _ = tracing::subscriber::set_global_default(subscriber);
}
