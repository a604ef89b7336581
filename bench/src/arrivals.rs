//! What arrives, and how long after it was due: each event says when that was.

use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use bytes::Bytes;

use crate::load::Load;

/// 1 KiB.
const SIZE: usize = 1024;
/// How an event that says when it was due begins.
const BEGINNING: &[u8] = b"{\"due\":\"";
/// Digits of the moment: nanoseconds.
const DIGITS: usize = 20;
/// How long what is waited for may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// All that arrived; its clones are one.
#[derive(Clone)]
pub struct Arrivals(Arc<Seen>);

struct Seen {
    /// Moments are counted from here.
    began: Instant,
    body: Vec<u8>,
    count: AtomicU64,
    /// When those that say so were due, and when they came.
    timed: Mutex<Vec<(Duration, Duration)>>,
}

impl Arrivals {
    /// Nothing yet.
    pub fn new() -> Self {
        let mut body = [BEGINNING, &[b'0'; DIGITS], b"\",\"filler\":\""].concat();
        body.resize(SIZE - 2, b'x');
        body.extend_from_slice(b"\"}");
        let (count, timed) = (AtomicU64::new(0), Mutex::default());
        Self(Arc::new(Seen { began: Instant::now(), body, count, timed }))
    }

    /// 1 KiB of JSON that says when it was due.
    pub fn body(&self, due: Instant) -> Bytes {
        let mut body = self.0.body.clone();
        let nanoseconds = due.saturating_duration_since(self.0.began).as_nanos();
        // So many digits are enough for 3,000 years.
        let _ = write!(&mut body[BEGINNING.len()..][..DIGITS], "{nanoseconds:0DIGITS$}");
        Bytes::from(body)
    }

    /// An event has arrived.
    pub fn arrived(&self, body: &[u8]) {
        let now = self.0.began.elapsed();
        if let Some(due) = due(body) {
            self.0.timed.lock().unwrap_or_else(PoisonError::into_inner).push((due, now));
        }
        self.0.count.fetch_add(1, Ordering::Relaxed);
    }

    /// Waits until so many have arrived.
    ///
    /// # Errors
    /// When they do not within two minutes.
    pub async fn until(&self, wanted: u64) -> Result<()> {
        self.rate_of(wanted).await.map(drop)
    }

    /// Waits until so many have arrived; gives the rate between the first and the last.
    ///
    /// # Errors
    /// When they do not within two minutes.
    pub async fn rate_of(&self, wanted: u64) -> Result<f64> {
        let limit = Instant::now() + PATIENCE;
        let mut first = None;
        loop {
            let count = self.0.count.load(Ordering::Relaxed);
            if count > 0 && first.is_none() {
                first = Some((Instant::now(), count));
            }
            if count >= wanted {
                let (began, before) = first.context("nothing was waited for")?;
                return Ok((count - before) as f64 / began.elapsed().as_secs_f64());
            }
            pause(limit, count, wanted).await?;
        }
    }

    /// Waits until so many that say when they were due have arrived; a latency is
    /// the time from then to the arrival.
    ///
    /// # Errors
    /// When they do not within two minutes.
    pub async fn load(&self, wanted: usize) -> Result<Load> {
        let limit = Instant::now() + PATIENCE;
        loop {
            match self.timed(wanted) {
                Ok(timed) => return load_of(&timed).context("nothing was waited for"),
                Err(came) => pause(limit, came as u64, wanted as u64).await?,
            }
        }
    }

    /// Those that say when they were due, or how many they are if they are too few.
    fn timed(&self, wanted: usize) -> Result<Vec<(Duration, Duration)>, usize> {
        let timed = self.0.timed.lock().unwrap_or_else(PoisonError::into_inner);
        if timed.len() < wanted { Err(timed.len()) } else { Ok(timed.clone()) }
    }
}

fn load_of(timed: &[(Duration, Duration)]) -> Option<Load> {
    let first = timed.iter().map(|(due, _)| due).min()?;
    let last = timed.iter().map(|(_, came)| came).max()?;
    let mut latencies: Vec<f64> =
        timed.iter().map(|(due, came)| came.saturating_sub(*due).as_secs_f64()).collect();
    latencies.sort_by(f64::total_cmp);
    Some(Load { rate: timed.len() as f64 / last.saturating_sub(*first).as_secs_f64(), latencies })
}

async fn pause(limit: Instant, came: u64, wanted: u64) -> Result<()> {
    if Instant::now() > limit {
        bail!("only {came} of {wanted} events have arrived within {PATIENCE:?}");
    }
    tokio::time::sleep(Duration::from_millis(2)).await;
    Ok(())
}

fn due(body: &[u8]) -> Option<Duration> {
    let digits = body.strip_prefix(BEGINNING)?.get(..DIGITS)?;
    Some(Duration::from_nanos(std::str::from_utf8(digits).ok()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_arrival_counts_from_the_moment_at_which_it_was_due() {
        let arrivals = Arrivals::new();
        let due = Instant::now();
        let body = arrivals.body(due);
        assert_eq!(body.len(), SIZE);
        assert!(serde_json::from_slice::<serde_json::Value>(&body).is_ok());
        std::thread::sleep(Duration::from_millis(20));
        arrivals.arrived(&body);
        arrivals.arrived(b"{}");
        arrivals.until(2).await.unwrap();
        let load = arrivals.load(1).await.unwrap();
        assert_eq!(load.latencies.len(), 1, "the other does not say when it was due");
        assert!(load.latencies[0] >= 0.02 && load.latencies[0] <= due.elapsed().as_secs_f64());
    }
}
