//! Runs the reconciles of one kind: in parallel, each object at most once at a
//! time, with a back-off of its own after a failure.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::{FutureExt, StreamExt};
use kube::runtime::applier;
use kube::runtime::controller::{Action, Config};
use kube::runtime::reflector::Store;
use kube::{Resource, ResourceExt};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::cluster::{Requests, paced};
use crate::context::Context;
use crate::error::Error;
use crate::metrics::{Failure, Kind};

/// How many objects of a kind are reconciled at once.
const CONCURRENCY: u16 = 16;
/// When an object is looked at again whose trouble is over soon.
const SOON: Duration = Duration::from_secs(1);

/// Runs one kind until `stop`; what is in progress ends first.
pub(super) async fn control<K, F>(
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
        let task = AbortOnDropHandle::new(tokio::spawn(async move {
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
        let wait = if error.is_over_soon() { SOON } else { context.backoff.failed(&key(kind, &*object)) };
        let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
        if error.waits_for_change() || error.is_over_soon() {
            tracing::debug!(kind, namespace, name, reason, %error, "waits for something else");
        } else {
            tracing::warn!(kind, namespace, name, reason, %error, again_in = ?wait, "could not be reconciled");
        }
        Action::requeue(wait)
    };
    let queue = paced(requests).take_until(stop.clone().cancelled_owned()).boxed();
    let config = Config::default().concurrency(CONCURRENCY);
    applier(reconciler, failed, context.clone(), objects, queue, config)
        // Failures are handled above; an object that is gone needs nothing.
        .for_each(|_| std::future::ready(()))
        .await;
}

/// What names an object among those of all kinds.
pub(super) fn key<K: Resource<DynamicType = ()>>(kind: &str, object: &K) -> String {
    format!("{kind}/{}/{}", object.namespace().unwrap_or_default(), object.name_any())
}
