//! Wires the kinds to what wakes them, and runs them until told to stop.

mod control;
mod offers;
mod wake;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use kube::runtime::watcher;
use kube::{Api, ResourceExt};
use murmur_crds::{EventSubscription, Mesh, Microservice};
use murmur_plan::object;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use self::control::control;
pub use self::offers::Offers;
use self::wake::{hear, mesh_seen, microservice_seen, subscription_seen};
use crate::bus::{Meshes, Sweep, SystemConnection};
use crate::cluster::{Applier, Backoff, Cache, Events, Queue, StatusWriter, queue, store, watch};
use crate::context::Context;
use crate::metrics::Metrics;
use crate::people::Keeper;
use crate::settings::Settings;
use crate::{event_subscription, mesh, microservice, trust};

/// How often meshes without any object are let go.
const RETAIN: Duration = Duration::from_secs(60);
/// Longest wait between two attempts to read the trust material.
const LONGEST_RETRY: Duration = Duration::from_secs(30);

/// The queues of the kinds.
#[derive(Clone)]
struct Queues {
    microservices: Queue<Microservice>,
    subscriptions: Queue<EventSubscription>,
    meshes: Queue<Mesh>,
}

/// Runs all controllers until `stop`; then what is in progress ends first.
/// Dropping the future cuts everything off.
pub async fn run(client: kube::Client, settings: Arc<Settings>, metrics: Metrics, stop: CancellationToken) {
    let trust = tokio::select! {
        () = stop.cancelled() => return,
        trust = load(|| trust::load_trust(&client, &settings)) => trust,
    };
    let authority = tokio::select! {
        () = stop.cancelled() => return,
        authority = load(|| trust::load_authority(&client, &settings)) => authority,
    };
    let (microservice_queue, microservice_requests) = queue();
    let (subscription_queue, subscription_requests) = queue();
    let (mesh_queue, mesh_requests) = queue();
    let queues =
        Queues { microservices: microservice_queue, subscriptions: subscription_queue, meshes: mesh_queue };
    // Aborted when this is dropped.
    let mut tasks = JoinSet::new();
    let (microservices, microservice_writer) = store();
    let (subscriptions, subscription_writer) = store();
    let (mesh_resources, mesh_writer) = store();
    let kinds: Vec<_> = object::prunable()
        .into_iter()
        .filter(|kind| kind.kind != "Secret")
        .chain([object::claim()])
        .collect();
    let cache = Arc::new(Cache::watch(&client, &kinds, &queues.microservices, &mut tasks));
    let events = Events::new(client.clone(), &settings.identity);
    let meshes = Meshes::new(
        client.clone(),
        settings.namespace.clone(),
        settings.nats_url.clone(),
        SystemConnection::new(settings.nats_url.clone(), trust),
        Sweep {
            client: client.clone(),
            subscriptions: subscriptions.clone(),
            microservices: microservices.clone(),
        },
        Keeper {
            client: client.clone(),
            url: settings.plan.bus_url.clone(),
            events: events.clone(),
            metrics: metrics.clone(),
        },
    );
    let news = meshes.changes().subscribe();
    let context = Arc::new(Context {
        applier: Applier::new(client.clone(), cache.clone(), metrics.clone()),
        status: StatusWriter::new(client.clone(), events, metrics.clone()),
        backoff: Backoff::default(),
        offers: Offers::default(),
        scales: microservice::Scales::default(),
        turns: microservice::Turns::default(),
        database_turns: microservice::Turns::default(),
        authority,
        client: client.clone(),
        settings,
        metrics,
        microservices: microservices.clone(),
        subscriptions: subscriptions.clone(),
        mesh_resources: mesh_resources.clone(),
        cache: cache.clone(),
        meshes,
    });

    {
        let (queues, context) = (queues.clone(), context.clone());
        tasks.spawn(watch(
            Api::<Microservice>::all(client.clone()),
            watcher::Config::default(),
            microservice_writer,
            |_| {},
            move |seen| {
                let (queues, context) = (queues.clone(), context.clone());
                async move { microservice_seen(&queues, &context, seen).await }
            },
        ));
    }
    {
        let (queues, context) = (queues.clone(), context.clone());
        tasks.spawn(watch(
            Api::<EventSubscription>::all(client.clone()),
            watcher::Config::default(),
            subscription_writer,
            |_| {},
            move |seen| {
                let (queues, context) = (queues.clone(), context.clone());
                async move { subscription_seen(&queues, &context, seen).await }
            },
        ));
    }
    {
        let (queues, context) = (queues.clone(), context.clone());
        tasks.spawn(watch(
            Api::<Mesh>::all(client.clone()),
            watcher::Config::default(),
            mesh_writer,
            |_| {},
            move |seen| {
                let (queues, context) = (queues.clone(), context.clone());
                async move { mesh_seen(&queues, &context, seen).await }
            },
        ));
    }
    tasks.spawn(hear(news, context.clone(), queues.clone()));
    tasks.spawn(retain(context.clone()));

    // Nothing is done before everything has been seen once.
    let seen = async {
        cache.ready().await;
        let _ = microservices.wait_until_ready().await;
        let _ = subscriptions.wait_until_ready().await;
        let _ = mesh_resources.wait_until_ready().await;
    };
    tokio::select! {
        () = stop.cancelled() => return,
        () = seen => tracing::info!("all objects have been seen; acting"),
    }
    tokio::join!(
        control(
            "Microservice",
            microservices,
            microservice_requests,
            &context,
            &stop,
            microservice::reconcile
        ),
        control(
            "EventSubscription",
            subscriptions,
            subscription_requests,
            &context,
            &stop,
            event_subscription::reconcile
        ),
        control("Mesh", mesh_resources, mesh_requests, &context, &stop, mesh::reconcile),
    );
}

/// Reads trust material as soon as it can be had: without it nothing works.
async fn load<T, F>(read: impl Fn() -> F) -> T
where
    F: Future<Output = Result<T, trust::TrustError>>,
{
    let mut delay = Duration::from_millis(500);
    loop {
        match read().await {
            Ok(trust) => return trust,
            Err(error) => tracing::error!(%error, "the trust material is not there; trying again"),
        }
        tokio::time::sleep(delay).await;
        delay = (delay * 2).min(LONGEST_RETRY);
    }
}

/// Lets meshes go in whose namespace nothing is left.
async fn retain(context: Arc<Context>) {
    loop {
        tokio::time::sleep(RETAIN).await;
        let mut live: HashSet<String> = HashSet::new();
        live.extend(context.microservices.state().iter().filter_map(|object| object.namespace()));
        live.extend(context.subscriptions.state().iter().filter_map(|object| object.namespace()));
        live.extend(context.mesh_resources.state().iter().filter_map(|object| object.namespace()));
        context.meshes.retain(&live).await;
        context.metrics.meshes.set(i64::try_from(context.meshes.len().await).unwrap_or(i64::MAX));
    }
}
