//! The floor, on one thread, as a process of its own: of anything that takes HTTP requests, a hyper server that reads the
//! body and answers 204; and of anything that publishes them, one that has the bare client of the bus store it first.

use std::future::ready;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result, bail};
use async_nats::jetstream::publish::PublishAck;
use async_nats::jetstream::response::Response;
use async_nats::subject::ToSubject;
use async_nats::{Client, HeaderMap, jetstream};
use bytes::Bytes;
use clap::Args;
use http::StatusCode;
use murmur_mesh::wire::batch;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::TcpListener;
use tokio::process::{Child, Command};

use crate::receiver;

/// What the process is told.
#[derive(Args)]
pub struct Arguments {
    /// The bus where bodies are stored.
    #[arg(long, requires = "subject")]
    store: Option<String>,
    /// The subject that they are stored under.
    #[arg(long)]
    subject: Option<String>,
}

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

    /// One that stores what it is sent on the bus at `url`, and answers then.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn storing(url: &str, subject: &str) -> Result<Self> {
        Self::start(&["--store", url, "--subject", subject]).await
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
    let client = jetstream::new(async_nats::connect(url).await?);
    println!("{port}");
    let count = Arc::new(AtomicU64::new(0));
    let answer = move |body: Bytes| {
        let (client, subject) = (client.clone(), subject.clone());
        let id = format!("relay-{port}-{}", count.fetch_add(1, Ordering::Relaxed));
        async move {
            match store(&client, subject, id, body).await {
                Ok(()) => StatusCode::NO_CONTENT,
                Err(_) => StatusCode::SERVICE_UNAVAILABLE,
            }
        }
    };
    receiver::serve(listener, answer).await
}

/// Publishes as a bare client does, and waits until it is stored.
///
/// # Errors
/// When it is not.
pub async fn store(
    client: &jetstream::Context,
    subject: impl ToSubject,
    id: String,
    body: Bytes,
) -> Result<()> {
    // As many headers as a careful program sets: an id that makes a repeat safe.
    let mut headers = HeaderMap::new();
    headers.insert("Nats-Msg-Id", id);
    client.publish_with_headers(subject, headers, body).await?.await?;
    Ok(())
}

/// Publishes so many messages as one atomic batch, and waits until it is stored. No other batch has its `id`.
///
/// # Errors
/// When it is not.
pub async fn store_batch(
    client: &Client,
    subject: &'static str,
    id: &str,
    size: usize,
    body: &Bytes,
) -> Result<()> {
    for number in 1..=size {
        let mut headers = HeaderMap::new();
        headers.insert("Nats-Msg-Id", format!("{id}-{number}"));
        headers.insert(batch::ID, id);
        headers.insert(batch::SEQUENCE, number.to_string());
        if number < size {
            client.publish_with_headers(subject, headers, body.clone()).await?;
            continue;
        }
        headers.insert(batch::COMMIT, "1");
        let answer = client.request_with_headers(subject, headers, body.clone()).await?;
        if let Response::Err { error } = serde_json::from_slice::<Response<PublishAck>>(&answer.payload)? {
            bail!("a batch was not stored: {error}");
        }
    }
    Ok(())
}
