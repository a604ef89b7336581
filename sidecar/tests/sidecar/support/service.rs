//! A service that receives events and answers as the test says.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// One request as the service saw it.
#[derive(Debug, Clone)]
pub(crate) struct Received {
    pub(crate) at: Instant,
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Received {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub(crate) fn id(&self) -> &str {
        self.header("ce-id")
    }

    pub(crate) fn attempt(&self) -> u32 {
        self.header("murmur-attempt").parse().unwrap()
    }
}

/// What the service answers, and how long it takes.
type Behaviour = dyn Fn(&Received) -> (u16, Duration) + Send + Sync;

/// The body of its answer.
type Saying = dyn Fn(&Received) -> String + Send + Sync;

#[derive(Default)]
struct AtOnce {
    now: AtomicUsize,
    most: AtomicUsize,
}

struct Shared {
    received: Mutex<Vec<Received>>,
    at_once: AtOnce,
    behaviour: Box<Behaviour>,
    says: Option<Box<Saying>>,
}

pub(crate) struct Service {
    pub(crate) port: u16,
    shared: Arc<Shared>,
    server: Option<JoinHandle<()>>,
}

impl Service {
    pub(crate) async fn start(
        behaviour: impl Fn(&Received) -> (u16, Duration) + Send + Sync + 'static,
    ) -> Self {
        Self::start_on(super::free_port().unwrap(), behaviour).await
    }

    pub(crate) async fn start_on(
        port: u16,
        behaviour: impl Fn(&Received) -> (u16, Duration) + Send + Sync + 'static,
    ) -> Self {
        let shared = Arc::new(Shared {
            received: Mutex::default(),
            at_once: AtOnce::default(),
            behaviour: Box::new(behaviour),
            says: None,
        });
        let mut service = Self { port, shared, server: None };
        service.listen().await;
        service
    }

    /// One that answers 200 with this body.
    pub(crate) async fn saying(says: impl Fn(&Received) -> String + Send + Sync + 'static) -> Self {
        let behaviour: Box<Behaviour> = Box::new(|_| (200, Duration::ZERO));
        let shared = Shared {
            received: Mutex::default(),
            at_once: AtOnce::default(),
            behaviour,
            says: Some(Box::new(says)),
        };
        let port = super::free_port().unwrap();
        let mut service = Self { port, shared: Arc::new(shared), server: None };
        service.listen().await;
        service
    }

    /// One that takes everything at once.
    pub(crate) async fn ok() -> Self {
        Self::start(|_| (204, Duration::ZERO)).await
    }

    async fn listen(&mut self) {
        let router = Router::new().fallback(receive).with_state(self.shared.clone());
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, self.port)).await.unwrap();
        self.server = Some(tokio::spawn(async move { axum::serve(listener, router).await.unwrap() }));
    }

    pub(crate) fn received(&self) -> Vec<Received> {
        self.shared.received.lock().unwrap().clone()
    }

    pub(crate) fn ids(&self) -> Vec<String> {
        self.received().iter().map(|one| one.id().to_owned()).collect()
    }

    /// How many requests were with it at the same time, at most.
    pub(crate) fn most_at_once(&self) -> usize {
        self.shared.at_once.most.load(Ordering::SeqCst)
    }

    pub(crate) fn count(&self) -> usize {
        self.shared.received.lock().unwrap().len()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if let Some(server) = &self.server {
            server.abort();
        }
    }
}

async fn receive(State(shared): State<Arc<Shared>>, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    let now = shared.at_once.now.fetch_add(1, Ordering::SeqCst) + 1;
    shared.at_once.most.fetch_max(now, Ordering::SeqCst);
    let received = Received { at: Instant::now(), path: uri.to_string(), headers, body };
    let (status, time) = (shared.behaviour)(&received);
    let said = shared.says.as_ref().map_or_else(|| format!("said {status}"), |says| says(&received));
    shared.received.lock().unwrap().push(received);
    tokio::time::sleep(time).await;
    // Before its answer is on its way, after which the next one may come.
    shared.at_once.now.fetch_sub(1, Ordering::SeqCst);
    (StatusCode::from_u16(status).unwrap(), said).into_response()
}
