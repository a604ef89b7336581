//! Connections to HTTP servers, kept for a moment after their last use.

mod exchange;

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::Body;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

pub(crate) use exchange::{Failure, exchange};

/// How long an idle connection is kept: less than any server's own idle time.
const IDLE: Duration = Duration::from_secs(3);
/// Idle connections to one address, at most.
const MOST_IDLE: usize = 32;
/// The largest head of an answer.
const LARGEST_HEAD: usize = 64 << 10;

/// The idle connections; clones share them.
#[derive(Debug)]
pub(crate) struct Connections<B>(Arc<Mutex<Kept<B>>>);

impl<B> Clone for Connections<B> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<B> Default for Connections<B> {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Kept { idle: HashMap::new(), pruning: false })))
    }
}

#[derive(Debug)]
struct Kept<B> {
    idle: HashMap<SocketAddr, VecDeque<(SendRequest<B>, Instant)>>,
    pruning: bool,
}

impl<B> Connections<B>
where
    B: Body<Data = Bytes> + Unpin + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    /// The idle connection that was used last, if any is still good.
    pub(crate) fn take(&self, address: SocketAddr) -> Option<SendRequest<B>> {
        let mut kept = self.lock();
        let idle = kept.idle.get_mut(&address)?;
        while let Some((connection, since)) = idle.pop_back() {
            if since.elapsed() < IDLE && connection.is_ready() {
                return Some(connection);
            }
        }
        None
    }

    /// A new connection.
    pub(crate) async fn connect(&self, address: SocketAddr) -> io::Result<SendRequest<B>> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = http1::Builder::new()
            .max_buf_size(LARGEST_HEAD)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(io::Error::other)?;
        tokio::spawn(async move {
            // Its end shows where it is used.
            let _ = connection.await;
        });
        Ok(sender)
    }

    /// Keeps a connection whose answer was read to its end.
    pub(crate) fn keep(&self, address: SocketAddr, connection: SendRequest<B>) {
        if connection.is_closed() {
            return;
        }
        let mut kept = self.lock();
        let idle = kept.idle.entry(address).or_default();
        if idle.len() >= MOST_IDLE {
            idle.pop_front();
        }
        idle.push_back((connection, Instant::now()));
        if !kept.pruning {
            kept.pruning = true;
            tokio::spawn(self.clone().prune());
        }
    }

    /// Closes what has been idle too long, until nothing is left.
    async fn prune(self) {
        loop {
            sleep(IDLE).await;
            let mut kept = self.lock();
            for idle in kept.idle.values_mut() {
                idle.retain(|(connection, since)| since.elapsed() < IDLE && !connection.is_closed());
            }
            kept.idle.retain(|_, idle| !idle.is_empty());
            if kept.idle.is_empty() {
                kept.pruning = false;
                return;
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Kept<B>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
