//! The sidecar of a Murmur service: local HTTP on one side, JetStream on the
//! other. What the service posts it publishes (`publish`), what the
//! service subscribed to it delivers (`deliver`), so that the service
//! itself knows neither NATS nor any library of ours.
//!
//! [`Settings`] are parsed before anything is bound; [`run`] then locks the
//! volume, makes the database, binds, connects and works until it is stopped.
//! The bus gates nothing: while it is away the service runs, publishing is
//! answered with 503, and deliveries wait.

mod board;
pub(crate) mod bus;
pub(crate) mod call;
pub mod cli;
mod connections;
pub mod database;
pub(crate) mod deliver;
pub mod drain;
mod http;
pub mod limits;
pub mod lock;
pub mod logging;
mod metrics;
pub(crate) mod outbox;
mod peers;
mod project;
pub(crate) mod publish;
pub(crate) mod query;
mod report;
pub mod settings;
pub mod startup;
pub mod trace;

use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use murmur_mesh::config::SidecarConfig;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use settings::{Settings, SettingsError};

use crate::board::Board;
use crate::bus::Bus;
use crate::bus::configuration::Follower;
use crate::call::{Calls, Dns};
use crate::database::DatabaseSettings;
use crate::deliver::Deliveries;
use crate::drain::Drain;
use crate::http::admin::Admin;
use crate::http::local::Local;
use crate::http::server::Server;
use crate::logging::Level;
use crate::metrics::Metrics;
use crate::peers::Peers;
use crate::publish::{Door, GroupCommit, InFlight, Publisher};
use crate::query::{Answers, Asks};
use crate::report::Reporter;
use crate::startup::Readiness;
use crate::trace::{Exporter, TraceSettings, Tracer};

/// Connections to the admin listener: the kubelet's and Prometheus'.
const ADMIN_CONNECTIONS: usize = 32;

/// The sockets of a sidecar, bound by whoever runs it: tests use their own ports.
#[derive(Debug)]
pub struct Listeners {
    /// Where the service comes in; one for each address family.
    pub local: Vec<TcpListener>,
    /// Where the kubelet and Prometheus come in.
    pub admin: TcpListener,
}

/// Why a sidecar could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The volume.
    #[error(transparent)]
    Lock(#[from] lock::LockError),
    /// The database.
    #[error(transparent)]
    Database(#[from] database::DatabaseError),
    /// A socket.
    #[error("cannot listen on {address}: {cause}; is another program using the port?")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// Why.
        cause: io::Error,
    },
    /// The client of the bus.
    #[error("cannot set up the connection to the bus: {0}")]
    Bus(#[source] async_nats::Error),
}

impl Listeners {
    /// Binds both. With 127.0.0.1 the same port of ::1 is bound too, where there is IPv6.
    ///
    /// # Errors
    /// When an address cannot be bound.
    pub async fn bind(local: SocketAddr, admin: SocketAddr) -> Result<Self, StartError> {
        let bind = |address| async move {
            TcpListener::bind(address).await.map_err(|cause| StartError::Bind { address, cause })
        };
        let mut locals = vec![bind(local).await?];
        if local.ip() == Ipv4Addr::LOCALHOST {
            match TcpListener::bind((Ipv6Addr::LOCALHOST, local.port())).await {
                Ok(listener) => locals.push(listener),
                Err(error) => tracing::debug!(%error, "no IPv6 on loopback; 127.0.0.1 alone is served"),
            }
        }
        Ok(Self { local: locals, admin: bind(admin).await? })
    }
}

/// Runs a sidecar until `stop`, then lets what is in flight end.
///
/// `bind` is awaited once the volume is locked and the database is there: who
/// can connect can rely on both.
///
/// # Errors
/// When it cannot start. Once it runs, nothing ends it but `stop`.
pub async fn run(
    settings: Settings,
    bind: impl Future<Output = Result<Listeners, StartError>>,
    level: Level,
    stop: impl Future<Output = ()>,
) -> Result<(), StartError> {
    let mut stop = std::pin::pin!(stop);
    let _lock = match &settings.data {
        Some(volume) => tokio::select! {
            lock = lock::hold(volume) => Some(lock?),
            () = &mut stop => return Ok(()),
        },
        None => None,
    };
    if let Some(path) = settings.database.as_ref().and_then(DatabaseSettings::sqlite) {
        database::sqlite::prepare(path)?;
    }
    if let (Some(database), true) = (&settings.database, settings.config.outbox) {
        tokio::select! {
            () = outbox::prepare(database) => {}
            () = &mut stop => return Ok(()),
        }
    }
    let listeners = bind.await?;
    let sidecar = Sidecar::start(settings, listeners, level).await?;
    stop.await;
    sidecar.end().await;
    Ok(())
}

/// A sidecar that runs.
struct Sidecar {
    limits: limits::Limits,
    bus: Bus,
    reporter: Reporter,
    drain: Drain,
    connections: TaskTracker,
    accepting: CancellationToken,
    background: CancellationToken,
    /// The service has ended.
    ending: CancellationToken,
    /// The relay of the outbox, which goes on until it has nothing left to publish.
    relaying: TaskTracker,
    /// The export of spans, which goes on until all else has ended.
    exporting: TaskTracker,
}

impl Sidecar {
    async fn start(settings: Settings, listeners: Listeners, level: Level) -> Result<Self, StartError> {
        let Settings {
            bus,
            config,
            config_file,
            credentials,
            message_id_key,
            authorization,
            pod,
            dns,
            traces,
            database,
            wait_for,
            limits,
            ..
        } = settings;
        tracing::info!(
            version = env!("CARGO_PKG_VERSION"), service = %config.service, mesh = %config.mesh,
            generation = config.generation, "started"
        );
        let metrics = Arc::new(Metrics::new());
        let board = Arc::new(Board::default());
        let drain = Drain::default();
        let credentials = Arc::new(credentials);
        let name = format!("{}/{pod}", config.service);
        let bus = Bus::start(&bus, credentials.clone(), message_id_key.inbox_prefix(), name, metrics.clone())
            .await
            .map_err(StartError::Bus)?;
        let publisher = Publisher::new(bus.clone(), limits.publish_timeout, limits.reconnect_grace);
        let first = Arc::new(config);
        let sender = watch::Sender::new(first.clone());
        let configuration = sender.subscribe();
        let dns = Dns::new(dns, &configuration.borrow().mesh).map_err(|error| {
            tracing::warn!(%error, "without the cluster's DNS no other service can be called");
            format!("cannot use the cluster's DNS: {error}")
        });
        let (tracer, exporter) = tracing_of(traces, &configuration.borrow(), &pod, &metrics);
        let calls =
            Calls::new(configuration.clone(), dns, limits.calls, metrics.calls.clone(), tracer.clone());
        let door = watch::Sender::new(Arc::new(Door::new(&first)));
        let group = GroupCommit::new(publisher.clone(), metrics.clone());
        let outbox = outbox::With {
            service: configuration.borrow().service.clone(),
            source: default_source(&configuration.borrow()),
            key: message_id_key.clone(),
            configuration: configuration.clone(),
            door: door.subscribe(),
            bus: bus.clone(),
            publisher: publisher.clone(),
            group: group.clone(),
            headroom: limits.headroom,
            tracer: tracer.clone(),
            metrics: metrics.clone(),
            board: board.clone(),
            stop: CancellationToken::new(),
        };
        let local = Local {
            service: configuration.borrow().service.clone(),
            source: default_source(&configuration.borrow()),
            message_id_key,
            configuration: configuration.clone(),
            bus: bus.clone(),
            door: door.subscribe(),
            publisher: group,
            in_flight: InFlight::new(
                limits.publishes,
                limits.publish_bytes,
                metrics.publishes.in_flight.clone(),
            ),
            calls,
            asks: Asks::new(bus.clone(), configuration.clone(), limits.reconnect_grace),
            tracer: tracer.clone(),
            queries_in_flight: InFlight::new(
                limits.queries,
                limits.query_bytes,
                metrics.queries.asking.clone(),
            ),
            limits: limits.clone(),
            metrics: metrics.clone(),
            board: board.clone(),
            drain: drain.clone(),
        };
        let answers = Answers::new(
            bus.clone(),
            configuration.clone(),
            authorization.clone(),
            drain.clone(),
            &limits,
            metrics.queries.clone(),
            tracer.clone(),
        );
        let peers = watch::Sender::new(Arc::new(Peers::default()));
        let deliveries = Deliveries {
            bus: bus.clone(),
            publisher,
            authorization,
            tracer,
            limits: limits.clone(),
            database: database.clone(),
            metrics: metrics.clone(),
            board: board.clone(),
            drain: drain.clone(),
            configuration: configuration.clone(),
            peers: peers.subscribe(),
        };
        let service = configuration.borrow().service.clone();
        let reporter = Reporter {
            bus: bus.clone(),
            board: board.clone(),
            configuration: configuration.clone(),
            pod: pod.clone(),
            drain: drain.clone(),
        };
        let sidecar = Self {
            limits,
            bus: bus.clone(),
            reporter: reporter.clone(),
            drain,
            connections: TaskTracker::new(),
            accepting: CancellationToken::new(),
            background: CancellationToken::new(),
            ending: outbox.stop.clone(),
            relaying: TaskTracker::new(),
            exporting: TaskTracker::new(),
        };
        let readiness = Readiness::new(wait_for);
        let admin = Admin { metrics: metrics.clone(), board: board.clone(), readiness: readiness.clone() };
        sidecar.serve(listeners, local, admin);
        sidecar.in_background(startup::run(bus.clone(), configuration.clone(), readiness));
        let follower = Follower { bus: bus.clone(), credentials, file: config_file, current: sender };
        sidecar.in_background(follower.run());
        sidecar.in_background(Door::follow(first, configuration.clone(), door));
        sidecar.in_background(deliveries.run());
        sidecar.in_background(answers.run());
        if let Some(database) = database {
            sidecar.relaying.spawn(outbox.run(database));
        }
        if let Some(exporter) = exporter {
            sidecar.exporting.spawn(exporter.run(sidecar.background.clone()));
        }
        sidecar.in_background(peers::run(bus, board, service, pod, peers));
        sidecar.in_background(reporter.run());
        sidecar.in_background(apply(configuration, level, metrics));
        Ok(sidecar)
    }

    fn serve(&self, listeners: Listeners, local: Local, admin: Admin) {
        let server = |connections| Server {
            connections,
            head_timeout: self.limits.head_timeout,
            stop: self.accepting.clone(),
            tracker: self.connections.clone(),
        };
        let local = Arc::new(local);
        for listener in listeners.local {
            tokio::spawn(server(self.limits.connections).serve(listener, local.clone()));
        }
        // Probes go on until the very end.
        let admin_server = Server {
            stop: self.background.clone(),
            tracker: TaskTracker::new(),
            ..server(ADMIN_CONNECTIONS)
        };
        tokio::spawn(admin_server.serve(listeners.admin, Arc::new(admin)));
    }

    fn in_background(&self, task: impl Future<Output = ()> + Send + 'static) {
        let ended = self.background.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = task => {}
                () = ended.cancelled() => {}
            }
        });
    }

    /// Deliveries and publishes in flight end, within bounds; then the process may.
    async fn end(self) {
        tracing::info!("ending: what is in flight is finished first");
        self.drain.start();
        self.accepting.cancel();
        self.connections.close();
        self.ending.cancel();
        self.relaying.close();
        let all = async {
            tokio::join!(self.drain.finished(), self.connections.wait(), self.relaying.wait());
        };
        if tokio::time::timeout(self.limits.shutdown, all).await.is_err() {
            tracing::warn!("ended before all that was in flight was finished; the bus will deliver it again");
        }
        if self.bus.link().connected {
            let last = async {
                self.reporter.end().await;
                self.bus.client().flush().await
            };
            let _ = tokio::time::timeout(self.limits.shutdown, last).await;
        }
        self.background.cancel();
        self.exporting.close();
        self.exporting.wait().await;
    }
}

/// What starts spans, and what exports them, if anything does.
fn tracing_of(
    traces: TraceSettings,
    config: &SidecarConfig,
    pod: &str,
    metrics: &Metrics,
) -> (Tracer, Option<Exporter>) {
    let dropped = metrics.spans_dropped.clone();
    let Some(endpoint) = traces.endpoint else {
        return (Tracer::new(traces.sampler, None, dropped), None);
    };
    let (out, spans) = Tracer::queue();
    let resource = vec![
        ("service.name", config.service.to_string()),
        ("service.namespace", config.mesh.to_string()),
        ("service.instance.id", pod.to_owned()),
    ];
    let exported = metrics.spans_exported.clone();
    let exporter = Exporter { endpoint, resource, spans, exported, dropped: dropped.clone() };
    (Tracer::new(traces.sampler, Some(out), dropped), Some(exporter))
}

/// The `source` of events that name none.
fn default_source(config: &SidecarConfig) -> String {
    format!("/{}/{}", config.mesh, config.service)
}

/// Applies the parts of the configuration that belong to nobody else.
async fn apply(mut configuration: watch::Receiver<Arc<SidecarConfig>>, level: Level, metrics: Arc<Metrics>) {
    loop {
        let config = configuration.borrow_and_update().clone();
        level.set(config.log_level);
        metrics.generation.set(i64::try_from(config.generation).unwrap_or(i64::MAX));
        if configuration.changed().await.is_err() {
            return;
        }
    }
}
