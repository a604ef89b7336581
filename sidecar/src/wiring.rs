//! Who knows whom: makes the parts of a sidecar, and starts them.

use std::sync::Arc;

use murmur_mesh::config::SidecarConfig;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::board::Board;
use crate::bus::Bus;
use crate::bus::configuration::Follower;
use crate::call::{Calls, Dns};
use crate::deliver::Deliveries;
use crate::drain::Drain;
use crate::http::admin::Admin;
use crate::http::local::Local;
use crate::listeners::Listeners;
use crate::logging::Level;
use crate::metrics::Metrics;
use crate::peers::{self, Peers};
use crate::publish::{Door, GroupCommit, InFlight, Publisher};
use crate::query::{Answers, Asks};
use crate::report::Reporter;
use crate::running::Running;
use crate::startup::{self, Readiness};
use crate::trace::{Exporter, TraceSettings, Tracer};
use crate::{Settings, StartError, outbox};

/// A sidecar that runs with these settings.
///
/// # Errors
/// When the client of the bus cannot be set up.
pub(crate) async fn start(
    settings: Settings,
    listeners: Listeners,
    level: Level,
) -> Result<Running, StartError> {
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
    let calls = Calls::new(configuration.clone(), dns, limits.calls, metrics.calls.clone(), tracer.clone());
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
        in_flight: InFlight::new(limits.publishes, limits.publish_bytes, metrics.publishes.in_flight.clone()),
        calls,
        asks: Asks::new(bus.clone(), configuration.clone(), limits.reconnect_grace),
        tracer: tracer.clone(),
        queries_in_flight: InFlight::new(limits.queries, limits.query_bytes, metrics.queries.asking.clone()),
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
    let running = Running::new(limits, bus.clone(), reporter.clone(), drain, outbox.stop.clone());
    let readiness = Readiness::new(wait_for);
    let admin = Admin { metrics: metrics.clone(), board: board.clone(), readiness: readiness.clone() };
    running.serve(listeners, local, admin);
    running.in_background(startup::run(bus.clone(), configuration.clone(), readiness));
    let follower = Follower { bus: bus.clone(), credentials, file: config_file, current: sender };
    running.in_background(follower.run());
    running.in_background(Door::follow(first, configuration.clone(), door));
    running.in_background(deliveries.run());
    running.in_background(answers.run());
    if let Some(database) = database {
        running.relay(outbox.run(database));
    }
    if let Some(exporter) = exporter {
        running.export(exporter);
    }
    running.in_background(peers::run(bus, board, service, pod, peers));
    running.in_background(reporter.run());
    running.in_background(apply(configuration, level, metrics));
    Ok(running)
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
