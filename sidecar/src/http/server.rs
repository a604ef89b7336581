//! Serves one listener: bounded connections, heads and time, a graceful end.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Answer;

/// The largest head of a request: room for CloudEvents' 64 KiB of attributes.
const LARGEST_HEAD: usize = 64 << 10;
/// After a failed accept (no free file descriptors), before the next.
const ACCEPT_RETRY: Duration = Duration::from_millis(50);

/// What answers the requests of a listener.
pub(crate) trait Handler: Send + Sync + 'static {
    /// Answers one request.
    fn handle(&self, request: Request<Incoming>) -> impl Future<Output = Response<Answer>> + Send;
}

/// A server's bounds and its end.
#[derive(Debug, Clone)]
pub(crate) struct Server {
    /// Open connections, at most; those beyond wait in the kernel.
    pub(crate) connections: usize,
    /// For the head of a request, idle time included.
    pub(crate) head_timeout: Duration,
    /// Ends accepting, and each connection after its current request.
    pub(crate) stop: CancellationToken,
    /// Knows when all connections have ended.
    pub(crate) tracker: TaskTracker,
}

impl Server {
    /// Serves until it is stopped.
    pub(crate) async fn serve(self, listener: TcpListener, handler: Arc<impl Handler>) {
        let room = Arc::new(Semaphore::new(self.connections));
        loop {
            let Ok(permit) = room.clone().acquire_owned().await else { return };
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = self.stop.cancelled() => return,
            };
            match accepted {
                Ok((stream, _)) => {
                    let connection = self.clone().connection(stream, permit, handler.clone());
                    self.tracker.spawn(connection);
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_RETRY).await;
                }
            }
        }
    }

    async fn connection(self, stream: TcpStream, _permit: OwnedSemaphorePermit, handler: Arc<impl Handler>) {
        // Answers are small: waiting to fill a segment would only delay them.
        let _ = stream.set_nodelay(true);
        let service = service_fn(|request| {
            let handler = handler.clone();
            async move { Ok::<_, Infallible>(handler.handle(request).await) }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.head_timeout)
            .max_buf_size(LARGEST_HEAD)
            .serve_connection(TokioIo::new(stream), service);
        let mut connection = std::pin::pin!(connection);
        let result = tokio::select! {
            result = connection.as_mut() => result,
            () = self.stop.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = result {
            tracing::debug!(%error, "a connection ended early");
        }
    }
}
