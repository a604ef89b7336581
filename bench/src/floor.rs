//! The floor, on one thread, as a process of its own: of anything that takes HTTP requests, a hyper server that reads the
//! body and answers 204; and of anything that publishes them, one that has the bare client of the bus store it first, alone
//! or together with others.

use std::future::ready;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use async_nats::{Client, jetstream};
use bytes::Bytes;
use clap::Args;
use http::StatusCode;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio::sync::{mpsc, oneshot};
use tokio::task::yield_now;
use tokio::time::{Instant, timeout_at};

use crate::bare::{Batch, store};
use crate::receiver;

/// How long a batch waits until it is full.
const LINGER: Duration = Duration::from_millis(10);
/// In so many parts the events of a batch are answered, as the sidecar does.
const WAVES: usize = 8;

/// What the process is told.
#[derive(Args)]
pub struct Arguments {
    /// The bus where bodies are stored.
    #[arg(long, requires = "subject")]
    store: Option<String>,
    /// The subject that they are stored under.
    #[arg(long)]
    subject: Option<String>,
    /// So many are stored at once, as an atomic batch.
    #[arg(long, requires = "store")]
    together: Option<usize>,
}

/// Someone who waits until its event is stored.
type Waiting = (Bytes, oneshot::Sender<()>);

/// The server's process; killed, by its id, when dropped.
pub struct Floor {
    child: Child,
    /// Its port.
    pub port: u16,
}

impl Floor {
    /// One that only answers.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn answering() -> Result<Self> {
        Self::start(&[]).await
    }

    /// One that stores what it is sent on the bus at `url`, so many at once if need be, and answers then.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn storing(url: &str, subject: &str, together: Option<usize>) -> Result<Self> {
        let arguments = ["--store", url, "--subject", subject];
        match together {
            Some(size) => Self::start(&[&arguments[..], &["--together", &size.to_string()]].concat()).await,
            None => Self::start(&arguments).await,
        }
    }

    /// Starts this program once more, as the server.
    async fn start(arguments: &[&str]) -> Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg("floor")
            .args(arguments)
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let out = child.stdout.take().context("the server has no output")?;
        let line = BufReader::new(out).lines().next_line().await?.context("the server has ended")?;
        Ok(Self { child, port: line.parse()? })
    }

    /// Its process id.
    ///
    /// # Errors
    /// When it has ended.
    pub fn pid(&self) -> Result<i32> {
        Ok(i32::try_from(self.child.id().context("the server has ended")?)?)
    }
}

/// Serves until it is killed; the first line of its output is its port.
///
/// # Errors
/// When it cannot listen, or the bus is not there.
#[allow(clippy::print_stdout, reason = "whoever started it reads its port there")]
pub async fn serve(arguments: Arguments) -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let port = listener.local_addr()?.port();
    let (Some(url), Some(subject)) = (arguments.store, arguments.subject) else {
        println!("{port}");
        return receiver::serve(listener, |_| ready(StatusCode::NO_CONTENT)).await;
    };
    let client = async_nats::connect(url).await?;
    println!("{port}");
    match arguments.together {
        Some(size) => {
            let (queue, waiting) = mpsc::channel(size);
            tokio::spawn(gather(client, subject, size, waiting));
            let answer = move |body| answer_of(stored_together(queue.clone(), body));
            receiver::serve(listener, answer).await
        }
        None => {
            let (client, count) = (jetstream::new(client), Arc::new(AtomicU64::new(0)));
            let answer = move |body| {
                let id = format!("relay-{port}-{}", count.fetch_add(1, Ordering::Relaxed));
                let (client, subject) = (client.clone(), subject.clone());
                answer_of(async move { store(&client, subject, id, body).await })
            };
            receiver::serve(listener, answer).await
        }
    }
}

async fn answer_of(stored: impl Future<Output = Result<()>>) -> StatusCode {
    stored.await.map_or(StatusCode::SERVICE_UNAVAILABLE, |()| StatusCode::NO_CONTENT)
}

async fn stored_together(queue: mpsc::Sender<Waiting>, body: Bytes) -> Result<()> {
    let (turn, stored) = oneshot::channel();
    queue.send((body, turn)).await?;
    Ok(stored.await?)
}

/// Stores all who come, so many at once; each is sent once the next one is there.
async fn gather(client: Client, subject: String, size: usize, mut waiting: mpsc::Receiver<Waiting>) {
    while let Some((mut last, turn)) = waiting.recv().await {
        let (until, mut turns) = (Instant::now() + LINGER, vec![turn]);
        let mut batch = Batch::begin(&client, &subject);
        let mut sent = Ok(());
        while turns.len() < size
            && sent.is_ok()
            && let Ok(Some((body, turn))) = timeout_at(until, waiting.recv()).await
        {
            sent = batch.send(std::mem::replace(&mut last, body)).await;
            turns.push(turn);
        }
        if sent.is_ok() && batch.commit(last).await.is_ok() {
            tokio::spawn(answer_all(turns));
        }
    }
}

/// Some at a time: the first of them are here again while the last ones are being answered.
async fn answer_all(turns: Vec<oneshot::Sender<()>>) {
    let wave = turns.len().div_ceil(WAVES);
    for (number, turn) in (1..).zip(turns) {
        // Whoever does not wait any more has given up its connection.
        let _ = turn.send(());
        if number % wave == 0 {
            yield_now().await;
        }
    }
}
