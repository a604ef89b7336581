//! The life of the process: listen, stand for election, act while leading, and
//! stop in an orderly way.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::leader::Election;
use crate::metrics::Metrics;
use crate::settings::Settings;
use crate::{controllers, http, logging};

/// How long reconciles in progress may take to end.
const STOP_TIMEOUT: Duration = Duration::from_secs(20);
/// Longest wait between two attempts to reach the API server at the start.
const LONGEST_RETRY: Duration = Duration::from_secs(10);

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// It was asked to.
    Stopped,
    /// Another replica leads now: the process ends, so that nothing half done goes on.
    LostLease,
}

/// Runs the process until SIGTERM or SIGINT.
pub fn start(settings: Settings) -> ExitCode {
    logging::start(&settings.log_level);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "the runtime could not be started");
            return ExitCode::FAILURE;
        }
    };
    let ended = runtime.block_on(async {
        let stop = CancellationToken::new();
        tokio::spawn(on_signal(stop.clone()));
        let client =
            kube::Client::try_default().await.context("no configuration for the Kubernetes API was found")?;
        run(settings, client, stop).await
    });
    // What still runs after the time-outs must not keep the process alive.
    runtime.shutdown_timeout(Duration::from_secs(1));
    match ended {
        Ok(Ended::Stopped) => ExitCode::SUCCESS,
        Ok(Ended::LostLease) => {
            tracing::error!("the lease is lost; the process ends and starts anew");
            ExitCode::FAILURE
        }
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "the operator cannot run");
            ExitCode::FAILURE
        }
    }
}

/// Runs until `stop`, or until the lease is lost.
///
/// # Errors
/// When the listening address is taken.
pub async fn run(settings: Settings, client: kube::Client, stop: CancellationToken) -> anyhow::Result<Ended> {
    let settings = Arc::new(settings);
    let (metrics, registry) = Metrics::new();
    let (ready, is_ready) = watch::channel(false);
    let listener = http::bind(settings.listen)
        .await
        .with_context(|| format!("{} cannot be listened on", settings.listen))?;
    // Probes and metrics answer until the very end.
    let serving = CancellationToken::new();
    let server = AbortOnDropHandle::new(tokio::spawn(http::serve(
        listener,
        Arc::new(registry),
        is_ready,
        serving.clone(),
    )));

    let ended = tokio::select! {
        () = stop.cancelled() => Ended::Stopped,
        election = enter(&client, &settings) => lead(election, &settings, &client, metrics, &ready, &stop).await,
    };
    serving.cancel();
    let _ = tokio::time::timeout(Duration::from_secs(2), server).await;
    Ok(ended)
}

/// Stands for election as soon as the API server lets it.
async fn enter(client: &kube::Client, settings: &Settings) -> Election {
    let mut delay = Duration::from_millis(500);
    loop {
        match Election::enter(client.clone(), settings).await {
            Ok(election) => return election,
            Err(error) => {
                let lease = &settings.lease_name;
                tracing::warn!(lease, %error, "the lease can be neither read nor made; trying again");
            }
        }
        tokio::time::sleep(delay).await;
        delay = (delay * 2).min(LONGEST_RETRY);
    }
}

async fn lead(
    mut election: Election,
    settings: &Arc<Settings>,
    client: &kube::Client,
    metrics: Metrics,
    ready: &watch::Sender<bool>,
    stop: &CancellationToken,
) -> Ended {
    ready.send_replace(true);
    tracing::info!(lease = settings.lease_name, identity = settings.identity, "standing by");
    tokio::select! {
        () = stop.cancelled() => {
            election.leave().await;
            return Ended::Stopped;
        }
        () = election.won() => {}
    }
    tracing::info!("leading");
    metrics.leader.set(1);
    let acting = CancellationToken::new();
    // Cut off when this future is dropped.
    let mut controllers = AbortOnDropHandle::new(tokio::spawn(controllers::run(
        client.clone(),
        settings.clone(),
        metrics.clone(),
        acting.clone(),
    )));
    let ended = tokio::select! {
        () = stop.cancelled() => Ended::Stopped,
        () = election.lost() => Ended::LostLease,
        result = &mut controllers => {
            tracing::error!(?result, "the controllers ended by themselves");
            election.leave().await;
            return Ended::LostLease;
        }
    };
    metrics.leader.set(0);
    acting.cancel();
    match ended {
        Ended::Stopped => {
            // What is in progress ends while the lease is still ours.
            if tokio::time::timeout(STOP_TIMEOUT, &mut controllers).await.is_err() {
                tracing::warn!("reconciles in progress did not end in time; they are cut off");
                controllers.abort();
            }
            election.leave().await;
        }
        // Someone else may be writing already: cut off at once.
        Ended::LostLease => controllers.abort(),
    }
    ended
}

async fn on_signal(stop: CancellationToken) {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut terminate), Ok(mut interrupt)) =
        (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        tracing::error!("signals cannot be listened to; the process will be killed instead of stopped");
        return;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("stopping: reconciles in progress end first");
    stop.cancel();
}
