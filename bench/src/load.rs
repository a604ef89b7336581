//! Loads: how requests follow one another, and how long each takes.

use std::sync::Arc;
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

/// Each client sends its next request once it has the answer to the one before;
/// a latency is the time from request to answer.
///
/// # Errors
/// The first failure of any.
pub async fn closed<C, F, Fut>(clients: Vec<C>, time: Duration, one: F) -> Result<Load>
where
    C: Send + 'static,
    F: Fn(C) -> Fut + Copy + Send + 'static,
    Fut: Future<Output = Result<C>> + Send,
{
    let began = Instant::now();
    let tasks = clients.into_iter().map(|mut client| {
        tokio::spawn(async move {
            let mut latencies = Vec::with_capacity(4096);
            while began.elapsed() < time {
                let sent = Instant::now();
                client = one(client).await?;
                latencies.push(sent.elapsed().as_secs_f64());
            }
            anyhow::Ok(latencies)
        })
    });
    gather(tasks.collect(), began).await
}

/// Requests are due at a fixed rate, whatever becomes of those before. A latency
/// counts from the moment at which the request was due: one that has to wait
/// for a free client is as late as its user sees it.
///
/// # Errors
/// The first failure of any.
pub async fn paced<C, F, Fut>(clients: Vec<C>, rate: u32, time: Duration, one: F) -> Result<Load>
where
    C: Send + 'static,
    F: Fn(C) -> Fut + Copy + Send + 'static,
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
                client = one(client).await?;
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
