//! A service that is delivered to: it records, and answers as a test tells it.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// One request that came.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// When.
    pub at: Instant,
    /// Its path.
    pub path: String,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
    /// What it was answered with.
    pub status: StatusCode,
}

impl Delivery {
    /// A header as text; empty if it is not there.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// The event's id.
    pub fn id(&self) -> &str {
        self.header("ce-id")
    }
}

/// How to answer.
#[derive(Debug, Clone)]
pub struct Reply {
    /// The status.
    pub status: u16,
    /// After this time.
    pub delay: Duration,
    /// With these headers.
    pub headers: Vec<(&'static str, String)>,
}

impl Reply {
    /// This status, at once.
    pub fn status(status: u16) -> Self {
        Self { status, delay: Duration::ZERO, headers: vec![] }
    }
}

type Decide = Arc<dyn Fn(&HeaderMap) -> Reply + Send + Sync>;

/// The service; its listener can be closed and opened again on the same port.
pub struct Receiver {
    /// Its port.
    pub port: u16,
    deliveries: Arc<Mutex<Vec<Delivery>>>,
    decide: Decide,
    listening: Option<JoinHandle<()>>,
}

impl Receiver {
    /// Starts one that answers as `decide` says from an event's headers.
    ///
    /// # Errors
    /// When there is no port.
    pub async fn start(decide: impl Fn(&HeaderMap) -> Reply + Send + Sync + 'static) -> Result<Self> {
        let port = crate::broker::free_port()?;
        let mut receiver =
            Self { port, deliveries: Arc::default(), decide: Arc::new(decide), listening: None };
        receiver.open().await?;
        Ok(receiver)
    }

    /// Starts one that answers 204 to everything.
    ///
    /// # Errors
    /// When there is no port.
    pub async fn accepting() -> Result<Self> {
        Self::start(|_| Reply::status(204)).await
    }

    /// Listens (again).
    ///
    /// # Errors
    /// When another has taken the port.
    pub async fn open(&mut self) -> Result<()> {
        let listener = TcpListener::bind(("127.0.0.1", self.port)).await?;
        let (deliveries, decide) = (self.deliveries.clone(), self.decide.clone());
        self.listening = Some(tokio::spawn(async move {
            // Connections end with the listener, so that closing refuses at once.
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (deliveries, decide) = (deliveries.clone(), decide.clone());
                connections.spawn(async move {
                    let service =
                        service_fn(move |request| answer(request, deliveries.clone(), decide.clone()));
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        }));
        Ok(())
    }

    /// Refuses connections from now on, and cuts those that are open.
    pub async fn close(&mut self) {
        if let Some(listening) = self.listening.take() {
            listening.abort();
            let _ = listening.await;
        }
    }

    /// All that came so far, in order of arrival.
    pub fn deliveries(&self) -> Vec<Delivery> {
        self.deliveries.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The ids that came, in order of arrival, repeats included.
    pub fn ids(&self) -> Vec<String> {
        self.deliveries().iter().map(|delivery| delivery.id().to_owned()).collect()
    }

    /// Waits until `enough` says so of all that came; gives it.
    ///
    /// # Errors
    /// When it does not within `limit`.
    pub async fn wait(&self, limit: Duration, enough: impl Fn(&[Delivery]) -> bool) -> Result<Vec<Delivery>> {
        let began = Instant::now();
        loop {
            let deliveries = self.deliveries();
            if enough(&deliveries) {
                return Ok(deliveries);
            }
            if began.elapsed() > limit {
                bail!("not within {limit:?}; {} deliveries came: {:?}", deliveries.len(), self.ids());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        if let Some(listening) = self.listening.take() {
            listening.abort();
        }
    }
}

async fn answer(
    request: Request<Incoming>,
    deliveries: Arc<Mutex<Vec<Delivery>>>,
    decide: Decide,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (parts, body) = request.into_parts();
    let Ok(body) = body.collect().await else {
        return Ok(Response::new(Full::default()));
    };
    let reply = decide(&parts.headers);
    let status = StatusCode::from_u16(reply.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let delivery = Delivery {
        at: Instant::now(),
        path: parts.uri.path().to_owned(),
        headers: parts.headers,
        body: body.to_bytes(),
        status,
    };
    deliveries.lock().unwrap_or_else(PoisonError::into_inner).push(delivery);
    tokio::time::sleep(reply.delay).await;
    let mut response = Response::builder().status(status);
    for (name, value) in reply.headers {
        response = response.header(name, value);
    }
    Ok(response.body(Full::default()).unwrap_or_default())
}
