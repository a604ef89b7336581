//! Logs: one line of JSON for each fact, quiet when all is well.

use murmur_mesh::config::LogLevel;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Registry, fmt, reload};

/// Changes the level of a running sidecar.
#[derive(Debug, Clone, Default)]
pub struct Level(Option<reload::Handle<Targets, Registry>>);

impl Level {
    /// From now on, log this much.
    pub fn set(&self, level: LogLevel) {
        if let Some(handle) = &self.0 {
            // Fails only when the subscriber is gone, and with it all logs.
            let _ = handle.reload(targets(level));
        }
    }
}

/// Starts logging to standard output. Without it (in tests) nothing is logged.
pub fn start(level: LogLevel) -> Level {
    let (filter, handle) = reload::Layer::new(targets(level));
    let lines = fmt::layer().json().flatten_event(true).with_current_span(false).with_span_list(false);
    let started = tracing_subscriber::registry().with(filter).with(lines).try_init();
    Level(started.is_ok().then_some(handle))
}

fn targets(level: LogLevel) -> Targets {
    let own = match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
    };
    // What the client of the bus has to say reaches us as events, which `bus` logs.
    Targets::new()
        .with_default(LevelFilter::WARN)
        .with_target("murmur_sidecar", own)
        .with_target("async_nats", LevelFilter::OFF)
}
