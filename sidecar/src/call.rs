//! Calls: a request to another service of the mesh, sent to one of its pods.
//!
//! [`headers`] says what is passed on, [`dns`] where the pods are, [`target`]
//! keeps that up to date, [`replicas`] chooses one, and
//! [`download`] passes its answer on. The bus has no part in it.
//!
//! A call is sent again only if nobody can have read it: when there was no
//! connection, or when it has no body, may be repeated (RFC 9110, 9.2.2), and
//! the connection ended before an answer.

mod dns;
mod download;
mod headers;
mod replicas;
mod target;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderValue, Request, Response, Uri, Version};
use http_body_util::{Either, Empty};
use hyper::body::{Body, Incoming};
use murmur_mesh::config::{Call, SidecarConfig};
use murmur_mesh::name::ServiceName;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, timeout_at};

pub(crate) use dns::Dns;
pub(crate) use download::Download;

use crate::connections::{Connections, Failure, exchange};
use crate::http::timeout;
use crate::metrics::{CallMetrics, Called};
use crate::trace::{Context, Kind, Tracer};
use download::Source;
use replicas::Ended;
use target::Target;

/// So often one call is sent, at most.
const MOST_TRIES: usize = 4;
/// The longest time that a client may ask for.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(3600);

/// The body of a request: none, or what the client sends as it comes.
type Upload = Either<Empty<Bytes>, Incoming>;

/// Makes calls.
pub(crate) struct Calls {
    configuration: watch::Receiver<Arc<SidecarConfig>>,
    /// Absent where there is no DNS; why.
    dns: Result<Arc<Dns>, String>,
    targets: Arc<Mutex<BTreeMap<ServiceName, Arc<Target>>>>,
    connections: Connections<Upload>,
    /// Calls under way.
    room: Arc<Semaphore>,
    metrics: CallMetrics,
    tracer: Tracer,
}

/// Why a call has no answer from its target.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    /// Not in the configuration.
    #[error("{0:?} is not among the services that this one calls: add it to spec.calls of the Microservice")]
    NotAllowed(String),
    /// Another protocol is asked for.
    #[error("the upgrade to another protocol is not supported: send plain HTTP")]
    Upgrade,
    /// Not a duration, or too long a one.
    #[error(transparent)]
    Timeout(#[from] timeout::Invalid),
    /// Too many are under way.
    #[error("more calls are under way than the sidecar takes at once: call again, more slowly")]
    TooMany,
    /// There is nobody to call.
    #[error("there is no replica of {service}: {cause}")]
    NoReplicas { service: ServiceName, cause: String },
    /// Nobody listens.
    #[error("no replica of {service} can be reached: {cause}; the request was not sent")]
    Unreachable { service: ServiceName, cause: String },
    /// The connection broke, or what came is not HTTP.
    #[error("{service} gave no answer: {cause}; it may have taken the request")]
    Broken { service: ServiceName, cause: String },
    /// It took too long.
    #[error("{service} did not answer within {timeout:?}; it may have taken the request")]
    TimedOut { service: ServiceName, timeout: Duration },
}

impl CallError {
    fn counted(&self) -> Called {
        match self {
            Self::NotAllowed(_) | Self::Upgrade | Self::Timeout(_) => Called::Refused,
            Self::TooMany => Called::TooMany,
            Self::NoReplicas { .. } => Called::NoReplicas,
            Self::Unreachable { .. } => Called::Unreachable,
            Self::Broken { .. } => Called::Broken,
            Self::TimedOut { .. } => Called::TimedOut,
        }
    }
}

impl Calls {
    /// At most `most` calls at once.
    pub(crate) fn new(
        configuration: watch::Receiver<Arc<SidecarConfig>>,
        dns: Result<Dns, String>,
        most: usize,
        metrics: CallMetrics,
        tracer: Tracer,
    ) -> Self {
        Self {
            configuration,
            dns: dns.map(Arc::new),
            targets: Arc::default(),
            connections: Connections::default(),
            room: Arc::new(Semaphore::new(most)),
            metrics,
            tracer,
        }
    }

    /// Makes the call that a request under `/v1/services/` asks for.
    pub(crate) async fn call(&self, request: Request<Incoming>) -> Result<Response<Download>, CallError> {
        let (name, path) = headers::target(request.uri())
            .ok_or_else(|| CallError::NotAllowed(request.uri().path().to_owned()))?;
        let Some(call) = self.allowed(name) else {
            let error = CallError::NotAllowed(name.chars().take(64).collect());
            self.metrics.count("", error.counted());
            return Err(error);
        };
        let started = Instant::now();
        let name = || format!("{} {}", request.method(), call.service);
        let mut span = self.tracer.start(Context::extract(request.headers()), Kind::Client, name);
        span.note("server.address", &call.service);
        let mut request = request;
        span.inject(request.headers_mut());
        let result = self.make(&call, path, request).await;
        match &result {
            Ok(response) if response.status().is_server_error() => span.fails(&response.status()),
            Ok(response) => span.count("http.response.status_code", response.status().as_u16().into()),
            Err(error) => span.fails(error),
        }
        let counted = match &result {
            Ok(response) if response.status().is_server_error() => Called::Failed,
            Ok(_) => Called::Answered,
            Err(error) => error.counted(),
        };
        self.metrics.count(call.service.as_str(), counted);
        self.metrics.observe(call.service.as_str(), started.elapsed());
        result
    }

    fn allowed(&self, name: &str) -> Option<Call> {
        self.configuration.borrow().calls.iter().find(|call| call.service.as_str() == name).cloned()
    }

    async fn make(
        &self,
        call: &Call,
        path: PathAndQuery,
        request: Request<Incoming>,
    ) -> Result<Response<Download>, CallError> {
        let (mut parts, body) = request.into_parts();
        if headers::is_upgrade(&parts.headers) {
            return Err(CallError::Upgrade);
        }
        let timeout = timeout::asked(&parts.headers, LONGEST_TIMEOUT)?.unwrap_or(call.timeout);
        let room = self.room.clone().try_acquire_owned().map_err(|_| CallError::TooMany)?;
        parts.uri = Uri::from(path);
        parts.version = Version::HTTP_11;
        parts.extensions.clear();
        // Such a name is ASCII.
        let host = HeaderValue::from_str(call.service.as_str());
        headers::forward(&mut parts.headers, host.unwrap_or_else(|_| HeaderValue::from_static("")));
        let body = if body.is_end_stream() { Either::Left(Empty::new()) } else { Either::Right(body) };
        let (response, source) = self.answer(call, parts, body, timeout, room).await?;
        let (mut parts, body) = response.into_parts();
        headers::back(&mut parts.headers);
        parts.version = Version::HTTP_11;
        Ok(Response::from_parts(parts, Download::new(body, timeout, source)))
    }

    /// The head of the answer, from the first replica that gives one.
    async fn answer(
        &self,
        call: &Call,
        parts: Parts,
        body: Upload,
        timeout: Duration,
        room: OwnedSemaphorePermit,
    ) -> Result<(Response<Incoming>, Source), CallError> {
        let service = || call.service.clone();
        let deadline = Instant::now() + timeout;
        let timed_out = || CallError::TimedOut { service: service(), timeout };
        let (target, port) = self.target(call)?;
        match timeout_at(deadline, target.known()).await {
            Ok(Ok(1..)) => {}
            Ok(Ok(_)) => {
                let cause = "the cluster's DNS knows no pod of it that is ready".to_owned();
                return Err(CallError::NoReplicas { service: service(), cause });
            }
            Ok(Err(cause)) => return Err(CallError::NoReplicas { service: service(), cause }),
            Err(_) => {
                let cause = format!("the cluster's DNS did not answer within {timeout:?}");
                return Err(CallError::NoReplicas { service: service(), cause });
            }
        }
        let may_repeat = matches!(body, Either::Left(_)) && parts.method.is_idempotent();
        let mut copy = may_repeat.then(|| parts.clone());
        let mut request = Request::from_parts(parts, body);
        let mut tried = Vec::new();
        // What became of the last try; and of one that may have been read.
        let (mut cause, mut lost) = (String::new(), None);
        for _ in 0..MOST_TRIES {
            let Some(mut lease) = target.lease(&tried) else { break };
            let address = SocketAddr::new(lease.address, port);
            match timeout_at(deadline, exchange(&self.connections, address, request)).await {
                Ok(Ok((response, connection))) => {
                    let failed = response.status().is_server_error();
                    lease.ends(if failed { Ended::Failed } else { Ended::Well });
                    let connections = self.connections.clone();
                    let source = Source { connections, address, connection, _lease: lease, _room: room };
                    return Ok((response, source));
                }
                Ok(Err(Failure::Refused(unread, why))) => {
                    lease.ends(Ended::Unreachable);
                    tried.push(lease.address);
                    (request, cause) = (*unread, why);
                }
                Ok(Err(Failure::Lost { reused, cause: why })) => {
                    lease.ends(if reused { Ended::Abandoned } else { Ended::Failed });
                    // A connection that was idle may just have been closed; else once is enough.
                    let again = if reused { copy.clone() } else { copy.take() };
                    let Some(again) = again else {
                        return Err(CallError::Broken { service: service(), cause: why });
                    };
                    request = Request::from_parts(again, Either::Left(Empty::new()));
                    lost = Some(why);
                }
                Ok(Err(Failure::NotHttp(cause))) => {
                    lease.ends(Ended::Failed);
                    return Err(CallError::Broken { service: service(), cause });
                }
                Err(_) => {
                    lease.ends(Ended::Failed);
                    return Err(timed_out());
                }
            }
        }
        Err(match lost {
            Some(cause) => CallError::Broken { service: service(), cause },
            None => CallError::Unreachable { service: service(), cause },
        })
    }

    /// The service, looked up from now on, and its port.
    fn target(&self, call: &Call) -> Result<(Arc<Target>, u16), CallError> {
        let nobody = |cause: String| CallError::NoReplicas { service: call.service.clone(), cause };
        let port = call.port.ok_or_else(|| nobody("the mesh has no such Microservice".to_owned()))?;
        let dns = self.dns.clone().map_err(nobody)?;
        let mut targets = self.targets.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(target) = targets.get(&call.service) {
            return Ok((target.clone(), port));
        }
        let target = Arc::new(Target::new());
        targets.insert(call.service.clone(), target.clone());
        let (followed, service, all) = (target.clone(), call.service.clone(), self.targets.clone());
        tokio::spawn(async move {
            followed.follow(&dns, &service).await;
            all.lock().unwrap_or_else(PoisonError::into_inner).remove(&service);
        });
        Ok((target, port))
    }
}
