//! A service that receives events: it writes each request down, answers as it
//! is told, and crashes.

use std::convert::Infallible;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use murmur_test_support::broker::free_port;
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};

use crate::history::{Delivery, Log};

/// What a service answers, and after how long; it knows how many requests there
/// were before for the same event and subscription.
pub type Behaviour = dyn Fn(&Delivery, u32) -> (u16, Duration) + Send + Sync;

/// The service of one pod.
pub struct Service {
    port: u16,
    pod: usize,
    log: Arc<Log>,
    behaviour: Arc<Behaviour>,
    server: Option<JoinHandle<()>>,
}

impl Service {
    /// Starts it.
    ///
    /// # Errors
    /// When there is no port for it.
    pub async fn start(pod: usize, log: Arc<Log>, behaviour: Arc<Behaviour>) -> Result<Self> {
        let mut service = Self { port: free_port()?, pod, log, behaviour, server: None };
        service.come_back().await?;
        Ok(service)
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// It listens no more, and every connection breaks off.
    pub fn crash(&mut self) {
        if let Some(server) = self.server.take() {
            server.abort();
        }
    }

    /// It listens again, on the same port.
    ///
    /// # Errors
    /// When another has taken the port.
    pub async fn come_back(&mut self) -> Result<()> {
        self.crash();
        let mut tries = 0;
        let listener = loop {
            match TcpListener::bind((Ipv4Addr::LOCALHOST, self.port)).await {
                Ok(listener) => break listener,
                // The one before is just being closed.
                Err(_) if tries < 100 => tries += 1,
                Err(error) => return Err(error.into()),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        let (pod, log, behaviour) = (self.pod, self.log.clone(), self.behaviour.clone());
        self.server = Some(tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (log, behaviour) = (log.clone(), behaviour.clone());
                let answer = service_fn(move |request| receive(pod, log.clone(), behaviour.clone(), request));
                connections.spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), answer));
                while connections.try_join_next().is_some() {}
            }
        }));
        Ok(())
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.crash();
    }
}

async fn receive(
    pod: usize,
    log: Arc<Log>,
    behaviour: Arc<Behaviour>,
    request: Request<Incoming>,
) -> Result<Response<Empty<Bytes>>, Infallible> {
    let (parts, body) = request.into_parts();
    let Ok(body) = body.collect().await else { return Ok(answer(400)) };
    let header = |name: &str| {
        let value = parts.headers.get(name).and_then(|value| value.to_str().ok());
        value.unwrap_or_default().to_owned()
    };
    let delivery = Delivery {
        pod,
        subscription: header("murmur-subscription"),
        sequence: header("murmur-sequence").parse().unwrap_or_default(),
        id: header("ce-id"),
        key: header("ce-partitionkey"),
        data: String::from_utf8_lossy(&body.to_bytes()).into_owned(),
        began: 0,
        answered: None,
    };
    let (number, before) = log.begins(delivery.clone());
    let (status, time) = behaviour(&delivery, before);
    tokio::time::sleep(time).await;
    log.ends(number, status);
    Ok(answer(status))
}

fn answer(status: u16) -> Response<Empty<Bytes>> {
    let mut response = Response::new(Empty::new());
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response
}
