//! The end of receiving: asked for by the pod's preStop, or by SIGTERM.
//! Publishing goes on until the process ends.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::watch;

/// How far the drain is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Receiving,
    Draining,
    Drained,
}

/// The drain; clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Drain(Arc<watch::Sender<Phase>>);

impl Default for Drain {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(Phase::Receiving)))
    }
}

impl Drain {
    /// Asks for the drain; asking again changes nothing.
    pub(crate) fn start(&self) {
        self.reach(Phase::Draining);
    }

    /// Says that nothing is received any more.
    pub(crate) fn finish(&self) {
        self.reach(Phase::Drained);
    }

    /// Whether it was asked for.
    pub(crate) fn is_started(&self) -> bool {
        *self.0.borrow() >= Phase::Draining
    }

    /// Waits until it is asked for.
    pub(crate) async fn started(&self) {
        self.wait(Phase::Draining).await;
    }

    /// Waits until nothing is received any more.
    pub(crate) async fn finished(&self) {
        self.wait(Phase::Drained).await;
    }

    fn reach(&self, phase: Phase) {
        self.0.send_if_modified(|current| {
            let later = phase > *current;
            *current = phase.max(*current);
            later
        });
    }

    async fn wait(&self, phase: Phase) {
        // The sender lives as long as self.
        let _ = self.0.subscribe().wait_for(|current| *current >= phase).await;
    }
}

/// Why the sidecar in this pod could not be drained.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot drain the sidecar at {address}: {cause}; is it running, and is MURMUR_LOCAL_ADDRESS its address?"
)]
pub struct DrainError {
    address: SocketAddr,
    cause: String,
}

/// Asks the sidecar at this address to drain, and waits until it has: as long
/// as its deliveries take, which the pod's grace period bounds.
///
/// # Errors
/// When it cannot be asked, or ends before it answers.
pub async fn request(address: SocketAddr) -> Result<(), DrainError> {
    let failed = |cause: String| DrainError { address, cause };
    let answered = ask(address).await.map_err(|error| failed(error.to_string()))?;
    if answered.is_success() { Ok(()) } else { Err(failed(format!("it answered {answered}"))) }
}

async fn ask(address: SocketAddr) -> io::Result<http::StatusCode> {
    let stream = TcpStream::connect(address).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
    let request = Request::builder()
        .method(Method::POST)
        .uri("/v1/drain")
        .header(http::header::HOST, address.to_string())
        .body(Empty::<Bytes>::new())
        .map_err(io::Error::other)?;
    tokio::select! {
        response = sender.send_request(request) => Ok(response.map_err(io::Error::other)?.status()),
        ended = connection => Err(ended.err().map_or_else(
            || io::Error::other("it closed the connection"),
            io::Error::other,
        )),
    }
}
