//! What a service's sidecar is told.

use murmur_mesh::config::{Ask, Call, Deliver, SidecarConfig, StreamIdentity, Subscription, Target};
use murmur_mesh::name::EventType;

use super::{Neighbours, ValidMicroservice};
use crate::subscription::{ValidSubscription, ValidTarget};

/// The configuration of a service's sidecar, without its JWT.
///
/// `previous` is the one that was last told, if any: the generation rises when
/// the rest differs from it, and only then. So a subscription that goes raises
/// it just as one that comes.
pub fn config(
    service: &ValidMicroservice,
    subscriptions: &[ValidSubscription],
    neighbours: &Neighbours,
    event_store: Option<StreamIdentity>,
    previous: Option<&SidecarConfig>,
) -> SidecarConfig {
    let mut publishes = service.publishes.clone();
    publishes.sort_unstable();
    let mut subscriptions: Vec<Subscription> = subscriptions
        .iter()
        .filter(|subscription| subscription.service == service.name)
        .map(|subscription| told(service, subscription))
        .collect();
    subscriptions.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    let mut config = SidecarConfig {
        generation: previous.map_or(1, |previous| previous.generation),
        service: service.name.clone(),
        mesh: service.mesh.clone(),
        // An identity that was seen stays until another one is seen.
        event_store: event_store.or_else(|| previous.and_then(|previous| previous.event_store.clone())),
        publishes,
        schemas: service.schemas.clone(),
        subscriptions,
        answers: service.answers.clone(),
        asks: asks(service, neighbours),
        calls: calls(service, neighbours),
        outbox: service.outbox,
        log_level: service.log_level,
        user_jwt: None,
    };
    if let Some(previous) = previous {
        let same = SidecarConfig { user_jwt: None, ..previous.clone() } == config;
        config.generation += u64::from(!same);
    }
    config
}

fn asks(service: &ValidMicroservice, neighbours: &Neighbours) -> Vec<Ask> {
    let ask = |query: &EventType| Ask { query: query.clone(), services: neighbours.answering(query) };
    service.asks.iter().map(ask).collect()
}

fn calls(service: &ValidMicroservice, neighbours: &Neighbours) -> Vec<Call> {
    let calls = service.calls.iter().map(|call| Call {
        service: call.service.clone(),
        port: neighbours.port(&call.service),
        timeout: call.timeout,
    });
    calls.collect()
}

fn told(service: &ValidMicroservice, subscription: &ValidSubscription) -> Subscription {
    Subscription {
        name: subscription.name.clone(),
        ordering: subscription.ordering,
        target: match &subscription.target {
            ValidTarget::Deliver(deliver) => Target::Deliver(Deliver {
                port: deliver.port.unwrap_or(service.port),
                path: deliver.path.clone(),
                timeout: deliver.timeout,
                concurrency: deliver.concurrency,
                batch: deliver.batch.clone(),
                max_per_second: deliver.max_per_second,
            }),
            ValidTarget::Projection(projection) => Target::Projection(projection.clone()),
        },
        retry: subscription.retry.clone(),
        dead_letter: subscription.dead_letter,
        filter: subscription.filter.clone(),
        suspend: subscription.suspend,
        replay: subscription.place.replay.clone(),
    }
}

/// The text of the file in the ConfigMap.
pub(super) fn text(config: &SidecarConfig) -> String {
    // The type has no map with keys other than text, which is all that JSON cannot write.
    serde_json::to_string_pretty(&SidecarConfig { user_jwt: None, ..config.clone() }).unwrap_or_default()
}
