//! A service, as lean as hyper makes it: one that answers 204 to everything, or as it is told.

use std::convert::Infallible;
use std::future::ready;

use anyhow::{Result, bail};
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use crate::alone;
use crate::arrivals::Arrivals;

/// Such a service, on a thread of its own until it is dropped.
pub struct Receiver {
    /// Its port.
    pub port: u16,
    _running: oneshot::Sender<()>,
}

impl Receiver {
    /// Starts it on a free port; what it is sent is noted in `arrivals`.
    ///
    /// # Errors
    /// When there is none.
    pub fn start(arrivals: Arrivals) -> Result<Self> {
        let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
        listener.set_nonblocking(true)?;
        let port = listener.local_addr()?.port();
        let (running, ended) = oneshot::channel::<()>();
        let serving = alone::run(move || async move {
            let listener = TcpListener::from_std(listener)?;
            tokio::select! {
                failure = serve(listener, move |body| {
                    arrivals.arrived(&body);
                    ready(StatusCode::NO_CONTENT)
                }) => failure,
                _ = ended => Ok(()),
            }
        });
        tokio::spawn(async move {
            if let Err(error) = serving.await.and_then(|ran| ran.result) {
                eprintln!("{error}");
            }
        });
        Ok(Self { port, _running: running })
    }
}

/// Answers each request as `answer` says when it is given the body, until it cannot accept any more.
///
/// # Errors
/// That failure.
pub async fn serve<F, Fut>(listener: TcpListener, answer: F) -> Result<()>
where
    F: Fn(Bytes) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = StatusCode> + Send,
{
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => bail!("the service that is delivered to cannot accept a connection: {error}"),
        };
        // A connection that has ended already is none to speed up.
        let _ = stream.set_nodelay(true);
        let answer = answer.clone();
        let service = service_fn(move |request: Request<Incoming>| {
            let answer = answer.clone();
            async move {
                let mut response = Response::new(Empty::<Bytes>::new());
                *response.status_mut() = match request.into_body().collect().await {
                    Ok(body) => answer(body.to_bytes()).await,
                    Err(_) => StatusCode::BAD_REQUEST,
                };
                Ok::<_, Infallible>(response)
            }
        });
        tokio::spawn(
            hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service),
        );
    }
}
