//! Loads: how requests follow one another, and how long each takes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tokio::sync::{Mutex, mpsc};

/// What a load of several clients saw.
pub struct Load {
    /// Events a second, all clients together.
    pub rate: f64,
    /// Seconds until the answer, sorted.
    pub latencies: Vec<f64>,
}

/// Each client sends its next request once it has the answer to the one before,
/// for so long; a latency is the time from request to answer. `one` is told when
/// its request was due: now.
///
/// # Errors
/// The first failure of any.
pub async fn closed<C, F, Fut>(clients: Vec<C>, time: Duration, one: F) -> Result<Load>
where
    C: Send + 'static,
    F: Fn(C, Instant) -> Fut + Copy + Send + 'static,
    Fut: Future<Output = Result<C>> + Send,
{
    let began = Instant::now();
    while_so(clients, move || began.elapsed() < time, one).await
}

/// The same, until all clients together have sent so many.
///
/// # Errors
/// The first failure of any.
pub async fn counted<C, F, Fut>(clients: Vec<C>, count: u64, one: F) -> Result<Load>
where
    C: Send + 'static,
    F: Fn(C, Instant) -> Fut + Copy + Send + 'static,
    Fut: Future<Output = Result<C>> + Send,
{
    let sent = Arc::new(AtomicU64::new(0));
    while_so(clients, move || sent.fetch_add(1, Ordering::Relaxed) < count, one).await
}

async fn while_so<C, F, Fut>(
    clients: Vec<C>,
    goes_on: impl Fn() -> bool + Clone + Send + 'static,
    one: F,
) -> Result<Load>
where
    C: Send + 'static,
    F: Fn(C, Instant) -> Fut + Copy + Send + 'static,
    Fut: Future<Output = Result<C>> + Send,
{
    let began = Instant::now();
    let tasks = clients.into_iter().map(|mut client| {
        let goes_on = goes_on.clone();
        tokio::spawn(async move {
            let mut latencies = Vec::with_capacity(4096);
            while goes_on() {
                let sent = Instant::now();
                client = one(client, sent).await?;
                latencies.push(sent.elapsed().as_secs_f64());
            }
            anyhow::Ok(latencies)
        })
    });
    gather(tasks.collect(), began).await
}

/// Requests are due at a fixed rate, whatever becomes of those before. A latency
/// counts from the moment at which the request was due: one that has to wait
/// for a free client is as late as its user sees it. `one` is told that moment.
///
/// # Errors
/// The first failure of any.
pub async fn paced<C, F, Fut>(clients: Vec<C>, rate: u32, time: Duration, one: F) -> Result<Load>
where
    C: Send + 'static,
    F: Fn(C, Instant) -> Fut + Copy + Send + 'static,
    Fut: Future<Output = Result<C>> + Send,
{
    let (sender, receiver) = mpsc::unbounded_channel();
    let receiver = Arc::new(Mutex::new(receiver));
    let began = Instant::now();
    // The runtime's own timers are rounded to milliseconds.
    std::thread::spawn(move || {
        let mut due = began;
        while due < began + time {
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            if sender.send(due).is_err() {
                return;
            }
            due += Duration::from_secs(1) / rate;
        }
    });
    let tasks = clients.into_iter().map(|mut client| {
        let receiver = receiver.clone();
        tokio::spawn(async move {
            let mut latencies = Vec::with_capacity(4096);
            loop {
                let Some(due) = receiver.lock().await.recv().await else { return Ok(latencies) };
                client = one(client, due).await?;
                latencies.push(due.elapsed().as_secs_f64());
            }
        })
    });
    gather(tasks.collect(), began).await
}

async fn gather(tasks: Vec<tokio::task::JoinHandle<Result<Vec<f64>>>>, began: Instant) -> Result<Load> {
    let mut latencies = Vec::new();
    for task in tasks {
        latencies.extend(task.await.context("a client has ended early")??);
    }
    let rate = latencies.len() as f64 / began.elapsed().as_secs_f64();
    latencies.sort_by(f64::total_cmp);
    Ok(Load { rate, latencies })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_counted_load_sends_as_many_as_it_is_told_to() {
        let sent = Arc::new(AtomicU64::new(0));
        let one = |sent: Arc<AtomicU64>, _| async move {
            sent.fetch_add(1, Ordering::Relaxed);
            tokio::task::yield_now().await;
            Ok(sent)
        };
        let load = counted(vec![sent.clone(); 8], 100, one).await.unwrap();
        assert_eq!((sent.load(Ordering::Relaxed), load.latencies.len()), (100, 100));
    }
}
