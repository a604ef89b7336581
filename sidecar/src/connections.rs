//! Connections to HTTP servers, kept for a moment after their last use.

mod exchange;
mod idle;

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use hyper::body::Body;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until};

pub(crate) use exchange::{Failure, exchange};
pub(crate) use idle::{Idle, Reusable};

/// Idle connections to one address, at most.
const MOST_IDLE: usize = 32;
/// The largest head of an answer.
pub(crate) const LARGEST_HEAD: usize = 64 << 10;

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
    idle: HashMap<SocketAddr, Idle<SendRequest<B>>>,
    pruning: bool,
}

impl<B> Reusable for SendRequest<B> {
    fn is_good(&self) -> bool {
        self.is_ready()
    }
}

impl<B> Connections<B>
where
    B: Body<Data = Bytes> + Unpin + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    /// The idle connection that was used last, if any is still good.
    pub(crate) fn take(&self, address: SocketAddr) -> Option<SendRequest<B>> {
        self.lock().idle.get_mut(&address)?.take(Instant::now())
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
        let idle = kept.idle.entry(address).or_insert_with(|| Idle::new(MOST_IDLE));
        idle.keep(connection, Instant::now());
        if !kept.pruning {
            kept.pruning = true;
            tokio::spawn(self.clone().prune());
        }
    }

    /// Closes what has been idle too long, until nothing is left.
    async fn prune(self) {
        loop {
            let next = {
                let (mut kept, now, mut next) = (self.lock(), Instant::now(), None);
                kept.idle.retain(|_, idle| {
                    let until = idle.prune(now);
                    next = next.into_iter().chain(until).min();
                    until.is_some()
                });
                kept.pruning = next.is_some();
                next
            };
            let Some(next) = next else { return };
            sleep_until(next).await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Kept<B>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
