//! One thread for a load, as the sidecar has one: what it uses is then known.

use anyhow::{Context, Result};
use murmur_test_support::process::thread_cpu_seconds;
use tokio::sync::oneshot;

/// What came of it.
pub struct Ran<T> {
    /// Its result.
    pub result: T,
    /// CPU seconds of its thread.
    pub cpu: f64,
}

/// Runs a future on a thread and a runtime of its own.
///
/// # Errors
/// When the thread cannot be started.
pub async fn run<T, F>(start: impl FnOnce() -> F + Send + 'static) -> Result<Ran<T>>
where
    T: Send + 'static,
    F: Future<Output = T>,
{
    let (sender, receiver) = oneshot::channel();
    std::thread::Builder::new().name("load".to_owned()).spawn(move || {
        let ran = || -> Result<Ran<T>> {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let before = thread_cpu_seconds()?;
            let result = runtime.block_on(start());
            Ok(Ran { result, cpu: thread_cpu_seconds()? - before })
        };
        // Nobody waits any more: then nobody misses it.
        let _ = sender.send(ran());
    })?;
    receiver.await.context("the thread of a load has ended")?
}
