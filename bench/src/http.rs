//! The HTTP on both sides of the sidecar: clients that publish and a service
//! that is delivered to, as lean as hyper makes them.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty, Full};
use hyper::client::conn::http1::SendRequest;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

/// Posts `body` once as an event of type `Tick`.
///
/// # Errors
/// When the answer is not 200.
pub async fn publish(sender: &mut SendRequest<Full<Bytes>>, body: &Bytes) -> Result<()> {
    let (status, answer) = exchange(sender, body).await?;
    ensure!(status == StatusCode::OK, "publish: {status} {}", String::from_utf8_lossy(&answer));
    Ok(())
}

async fn exchange(sender: &mut SendRequest<Full<Bytes>>, body: &Bytes) -> Result<(StatusCode, Bytes)> {
    sender.ready().await?;
    let request = Request::post("/v1/events/Tick")
        .header("host", "localhost")
        .header("content-type", "application/json")
        .body(Full::new(body.clone()))?;
    let response = sender.send_request(request).await?;
    let status = response.status();
    Ok((status, response.into_body().collect().await?.to_bytes()))
}

/// Posts `body` once to a server that answers 204.
///
/// # Errors
/// When the answer is another.
pub async fn post(sender: &mut SendRequest<Full<Bytes>>, body: &Bytes) -> Result<()> {
    let status = exchange(sender, body).await?.0;
    ensure!(status == StatusCode::NO_CONTENT, "post: {status}");
    Ok(())
}

/// A service that answers 204 to everything and counts.
pub struct Receiver {
    /// Its port.
    pub port: u16,
    count: Arc<AtomicU64>,
}

impl Receiver {
    /// Starts it on a free port.
    ///
    /// # Errors
    /// When there is none.
    pub async fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        let count = Arc::new(AtomicU64::new(0));
        let counter = count.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let _ = stream.set_nodelay(true);
                let counter = counter.clone();
                let service = service_fn(move |request: Request<hyper::body::Incoming>| {
                    let counter = counter.clone();
                    async move {
                        let _ = request.into_body().collect().await;
                        counter.fetch_add(1, Ordering::Relaxed);
                        let mut response = Response::new(Empty::<Bytes>::new());
                        *response.status_mut() = StatusCode::NO_CONTENT;
                        Ok::<_, Infallible>(response)
                    }
                });
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service),
                );
            }
        });
        Ok(Self { port, count })
    }

    /// Forgets what was counted.
    pub fn reset(&self) {
        self.count.store(0, Ordering::Relaxed);
    }

    /// Waits for `wanted` requests; gives the rate between the first and the last.
    ///
    /// # Errors
    /// When they do not come within two minutes.
    pub async fn rate_of(&self, wanted: u64) -> Result<f64> {
        let limit = Instant::now() + Duration::from_secs(120);
        let mut first = None;
        loop {
            let count = self.count.load(Ordering::Relaxed);
            if count > 0 && first.is_none() {
                first = Some((Instant::now(), count));
            }
            if count >= wanted {
                let (began, before) = first.context("nothing came")?;
                return Ok((count - before) as f64 / began.elapsed().as_secs_f64());
            }
            ensure!(Instant::now() < limit, "only {count} of {wanted} came within two minutes");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}
