//! Waiting for what a running system will do: often asked, never for ever.

use std::future::Future;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// Asks `check` until it gives a value, at most for `limit`; its last error or
/// answer is part of the failure.
///
/// # Errors
/// When the time is up.
pub async fn eventually<T, F, Fut>(what: &str, limit: Duration, mut check: F) -> Result<T>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<Option<T>>>,
{
    let began = Instant::now();
    let mut last = String::from("not yet");
    while began.elapsed() < limit {
        match tokio::time::timeout(Duration::from_secs(20), check()).await {
            Ok(Ok(Some(value))) => return Ok(value),
            Ok(Ok(None)) => {}
            Ok(Err(error)) => last = format!("{error:#}"),
            Err(_) => last = "no answer within 20 s".to_owned(),
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    bail!("{what}: not within {limit:?} (last: {last})")
}
