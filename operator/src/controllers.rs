//! Wires the kinds to what wakes them, and runs them until told to stop.

use std::collections::HashSet;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::{FutureExt, StreamExt};
use kube::runtime::applier;
use kube::runtime::controller::{Action, Config};
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::watcher;
use kube::{Api, Resource, ResourceExt};
use murmur_crds::{EventSubscription, Mesh, Microservice};
use murmur_plan::object;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::bus::{Changed, Meshes, Sweep, SystemConnection};
use crate::cluster::{
    Applier, Backoff, Cache, Events, Queue, Requests, Seen, StatusWriter, queue, store, stream, watch,
};
use crate::context::Context;
use crate::error::Error;
use crate::metrics::{Failure, Kind, Metrics};
use crate::settings::Settings;
use crate::{event_subscription, mesh, microservice, trust};

/// How many objects of a kind are reconciled at once.
const CONCURRENCY: u16 = 16;
/// Requests for one object within this time are one.
const DEBOUNCE: Duration = Duration::from_millis(20);
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
        trust = load_trust(&client, &settings) => trust,
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
        Sweep { client: client.clone(), subscriptions: subscriptions.clone() },
    );
    let news = meshes.changes().subscribe();
    let context = Arc::new(Context {
        applier: Applier::new(client.clone(), cache.clone(), metrics.clone()),
        status: StatusWriter::new(client.clone(), events, metrics.clone()),
        backoff: Backoff::default(),
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

/// Reads the trust material as soon as it can be had: without it nothing works.
async fn load_trust(client: &kube::Client, settings: &Settings) -> trust::Trust {
    let mut delay = Duration::from_millis(500);
    loop {
        match trust::load_trust(client, settings).await {
            Ok(trust) => return trust,
            Err(error) => tracing::error!(%error, "the trust material is not there; trying again"),
        }
        tokio::time::sleep(delay).await;
        delay = (delay * 2).min(LONGEST_RETRY);
    }
}

/// Runs one kind.
async fn control<K, F>(
    kind: &'static str,
    objects: Store<K>,
    requests: Requests<K>,
    context: &Arc<Context>,
    stop: &CancellationToken,
    reconcile: impl Fn(Arc<K>, Arc<Context>) -> F + Clone + Send + Sync + 'static,
) where
    K: Resource<DynamicType = ()> + Clone + Debug + Send + Sync + 'static,
    F: Future<Output = Result<Action, Error>> + Send + 'static,
{
    let reconciler = move |object: Arc<K>, context: Arc<Context>| {
        let reconcile = reconcile.clone();
        // A task of its own: objects are reconciled in parallel. It is aborted with the rest.
        let task = tokio_util::task::AbortOnDropHandle::new(tokio::spawn(async move {
            let began = Instant::now();
            let outcome = reconcile(object.clone(), context.clone()).await;
            let label = Kind { kind };
            context.metrics.duration.get_or_create(&label).observe(began.elapsed().as_secs_f64());
            context.metrics.reconciles.get_or_create(&label).inc();
            if outcome.is_ok() {
                context.backoff.succeeded(&key(kind, &*object));
            }
            outcome
        }));
        async move { task.await.unwrap_or_else(|error| Err(Error::Panicked(error.to_string()))) }.boxed()
    };
    let failed = move |object: Arc<K>, error: &Error, context: Arc<Context>| {
        let reason = error.reason();
        context.metrics.failures.get_or_create(&Failure { kind, reason }).inc();
        let wait = context.backoff.failed(&key(kind, &*object));
        let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
        if error.waits_for_change() {
            tracing::debug!(kind, namespace, name, reason, %error, "waiting for a change");
        } else {
            tracing::warn!(kind, namespace, name, reason, %error, again_in = ?wait, "could not be reconciled");
        }
        Action::requeue(wait)
    };
    let queue = stream(requests).take_until(stop.clone().cancelled_owned()).boxed();
    let config = Config::default().concurrency(CONCURRENCY).debounce(DEBOUNCE);
    applier(reconciler, failed, context.clone(), objects, queue, config)
        // Failures are handled above; an object that is gone needs nothing.
        .for_each(|_| std::future::ready(()))
        .await;
}

fn key<K: Resource<DynamicType = ()>>(kind: &str, object: &K) -> String {
    format!("{kind}/{}/{}", object.namespace().unwrap_or_default(), object.name_any())
}

async fn microservice_seen(queues: &Queues, context: &Context, seen: Seen<Microservice>) {
    let gone = matches!(seen, Seen::Gone(_));
    let (Seen::There(service) | Seen::Gone(service)) = seen;
    let (namespace, name) = (service.namespace().unwrap_or_default(), service.name_any());
    if gone {
        context.backoff.succeeded(&key("Microservice", &service));
        context.status.forget(&service.uid().unwrap_or_default());
        context.applier.forget(&namespace, &name);
    }
    // Whether it is there is all that its subscriptions ask: news only at its first and last sight.
    let first = service.status.is_none();
    if gone || first {
        for subscription in context.subscriptions_of(&namespace, &name) {
            queues.subscriptions.add(ObjectRef::from_obj(&*subscription)).await;
        }
    }
    if !gone {
        queues.microservices.add(ObjectRef::from_obj(&service)).await;
    }
}

async fn subscription_seen(queues: &Queues, context: &Context, seen: Seen<EventSubscription>) {
    let gone = matches!(seen, Seen::Gone(_));
    let (Seen::There(subscription) | Seen::Gone(subscription)) = seen;
    let namespace = subscription.namespace().unwrap_or_default();
    // Its service is told of what it asks for, not of how far it is.
    let observed = subscription.status.as_ref().and_then(|status| status.observed_generation);
    if gone || observed != subscription.metadata.generation {
        let service = ObjectRef::new(&subscription.spec.microservice_ref.name).within(&namespace);
        queues.microservices.add(service).await;
    }
    if gone {
        context.backoff.succeeded(&key("EventSubscription", &subscription));
        context.status.forget(&subscription.uid().unwrap_or_default());
        context.meshes.sweep(&namespace).await;
    } else {
        queues.subscriptions.add(ObjectRef::from_obj(&subscription)).await;
    }
}

async fn mesh_seen(queues: &Queues, context: &Context, seen: Seen<Mesh>) {
    match seen {
        Seen::There(mesh) => queues.meshes.add(ObjectRef::from_obj(&mesh)).await,
        Seen::Gone(mesh) => {
            context.backoff.succeeded(&key("Mesh", &mesh));
            context.status.forget(&mesh.uid().unwrap_or_default());
            // The defaults hold again: any service of the mesh sees to that.
            let namespace = mesh.namespace().unwrap_or_default();
            let service =
                context.microservices.find(|service| service.namespace().as_deref() == Some(&namespace));
            if let Some(service) = service {
                queues.microservices.add(ObjectRef::from_obj(&*service)).await;
            }
        }
    }
}

/// Wakes the objects that news from the bus are about.
async fn hear(mut news: tokio::sync::broadcast::Receiver<Changed>, context: Arc<Context>, queues: Queues) {
    use tokio::sync::broadcast::error::RecvError;
    loop {
        match news.recv().await {
            Ok(Changed::Mesh(mesh)) => wake(&context, &queues, Some(&mesh)).await,
            Ok(Changed::Service { mesh, service }) => {
                for subscription in context.subscriptions_of(&mesh, &service) {
                    queues.subscriptions.add(ObjectRef::from_obj(&*subscription)).await;
                }
                queues.microservices.add(ObjectRef::new(&service).within(&mesh)).await;
            }
            Ok(Changed::Subscription { mesh, subscription }) => {
                queues.subscriptions.add(ObjectRef::new(&subscription).within(&mesh)).await;
            }
            // News were missed: everything is looked at.
            Err(RecvError::Lagged(_)) => wake(&context, &queues, None).await,
            Err(RecvError::Closed) => return,
        }
    }
}

/// Wakes all objects, of one namespace or of all.
async fn wake(context: &Context, queues: &Queues, namespace: Option<&str>) {
    let among = |found: Option<String>| namespace.is_none_or(|namespace| found.as_deref() == Some(namespace));
    for object in context.microservices.state_filter(|object| among(object.namespace())) {
        queues.microservices.add(ObjectRef::from_obj(&*object)).await;
    }
    for object in context.subscriptions.state_filter(|object| among(object.namespace())) {
        queues.subscriptions.add(ObjectRef::from_obj(&*object)).await;
    }
    for object in context.mesh_resources.state_filter(|object| among(object.namespace())) {
        queues.meshes.add(ObjectRef::from_obj(&*object)).await;
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
