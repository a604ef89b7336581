//! Who is looked at when something changes, in the cluster or on the bus.

use std::sync::Arc;

use kube::ResourceExt;
use kube::runtime::reflector::ObjectRef;
use murmur_crds::{EventSubscription, Mesh, Microservice};
use murmur_plan::microservice::{Offer, concerns};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use super::Queues;
use super::control::key;
use crate::bus::Changed;
use crate::cluster::Seen;
use crate::context::Context;

/// A Microservice came, changed or went.
pub(super) async fn microservice_seen(queues: &Queues, context: &Context, seen: Seen<Microservice>) {
    let gone = matches!(seen, Seen::Gone(_));
    let (Seen::There(service) | Seen::Gone(service)) = seen;
    let (namespace, name) = (service.namespace().unwrap_or_default(), service.name_any());
    if gone {
        context.backoff.succeeded(&key("Microservice", &service));
        context.status.forget(&service.uid().unwrap_or_default());
        context.scales.forget(&service.uid().unwrap_or_default());
        context.applier.forget(&namespace, &name);
        context.meshes.sweep(&namespace).await;
    }
    // Whether it is there is all that its subscriptions ask: news only at its first and last sight.
    let first = service.status.is_none();
    if gone || first {
        for subscription in context.subscriptions_of(&namespace, &name) {
            queues.subscriptions.add(ObjectRef::from_obj(&*subscription)).await;
        }
    }
    let now = (!gone).then(|| Offer::of(&service));
    let before = context.offers.replace(&service, now.clone());
    if before != now {
        let concerned = context.microservices.state_filter(|other| {
            other.namespace().as_deref() == Some(&*namespace)
                && concerns(other, &name, before.as_ref(), now.as_ref())
        });
        for other in concerned {
            queues.microservices.add(ObjectRef::from_obj(&*other)).await;
        }
    }
    if !gone {
        queues.microservices.add(ObjectRef::from_obj(&service)).await;
    }
}

/// An EventSubscription came, changed or went.
pub(super) async fn subscription_seen(queues: &Queues, context: &Context, seen: Seen<EventSubscription>) {
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

/// A Mesh came, changed or went.
pub(super) async fn mesh_seen(queues: &Queues, context: &Context, seen: Seen<Mesh>) {
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
pub(super) async fn hear(mut news: Receiver<Changed>, context: Arc<Context>, queues: Queues) {
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
                let key = ObjectRef::<EventSubscription>::new(&subscription).within(&mesh);
                let service = context.subscriptions.get(&key).map(|it| it.spec.microservice_ref.name.clone());
                // Its service asks how much waits only to scale by it.
                if let Some(service) = service
                    && context.microservice(&mesh, &service).is_some_and(|it| it.spec.autoscaling.is_some())
                {
                    queues.microservices.add(ObjectRef::new(&service).within(&mesh)).await;
                }
                queues.subscriptions.add(key).await;
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
