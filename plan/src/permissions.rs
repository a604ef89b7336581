//! What a service may do on the bus: one pure function of the mesh's resources.
//! And what people may: [`of_person`].

mod people;

use murmur_mesh::durable::DurableName;
use murmur_mesh::message_id::MessageIdKey;
use murmur_mesh::subject;

use crate::microservice::{Neighbours, ValidMicroservice};
use crate::subscription::ValidSubscription;

pub use people::of_person;

/// The subjects that a service's user may publish and subscribe to; nothing else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Permissions {
    /// Sorted, without repeats.
    pub publish: Vec<String>,
    /// Sorted, without repeats.
    pub subscribe: Vec<String>,
}

/// The permissions of a service with the subscriptions that name it.
///
/// Publish: events of its own declared types, requests and acknowledgements of
/// its own durables, the place of its outbox's durable, its own dead letters and reports, the queries that it asks
/// (to each service that answers them), and answers if it gives any. Subscribe:
/// its own configuration, its pods' reports, its own inbox, which nobody can
/// guess, who leads its durables, the queries that it answers (in the queue group of its name alone) and
/// the answers to those that it asks.
pub fn of(
    service: &ValidMicroservice,
    subscriptions: &[ValidSubscription],
    neighbours: &Neighbours,
    key: &MessageIdKey,
) -> Permissions {
    let name = &service.name;
    let mut publish = vec![subject::config_request(name), subject::report_permission(name)];
    let mut subscribe =
        vec![subject::config(name), subject::report_permission(name), format!("{}.>", key.inbox_prefix())];
    publish.extend(service.publishes.iter().map(|event_type| subject::publish_permission(name, event_type)));
    for subscription in subscriptions.iter().filter(|subscription| subscription.service == *name) {
        publish.push(subject::dead_letters_of(name, &subscription.name));
        let mut runs = subscription.place.allowed.clone();
        runs.insert(subscription.place.replay.as_ref().map(|replay| replay.id.clone()));
        for (run, shard) in
            runs.iter().flat_map(|run| subscription.ordering.shards().map(move |it| (run, it)))
        {
            let durable = DurableName::new(&subscription.name, shard, run.as_deref());
            publish.extend(subject::durable_permissions(&durable));
            subscribe.push(subject::leader_elected(&durable));
            // Where the database says how far it is, the durable follows.
            publish.extend(subscription.projection().map(|_| subject::reset_request(&durable)));
        }
    }
    if service.outbox {
        publish.extend(subject::outbox_permissions(&DurableName::outbox(name)));
    }
    for query in &service.asks {
        publish.extend(neighbours.answering(query).iter().map(|asked| subject::query(asked, query)));
    }
    if !service.answers.is_empty() {
        publish.push(subject::ALL_ANSWERS.to_owned());
    }
    publish.sort_unstable();
    publish.dedup();

    // NATS writes a subject that may only be heard in a queue group with the group behind a space.
    subscribe.extend(service.answers.iter().map(|it| format!("{} {name}", subject::query(name, &it.query))));
    if !service.asks.is_empty() {
        subscribe.push(format!("{}.>", subject::answers(name)));
    }
    subscribe.sort_unstable();
    subscribe.dedup();
    Permissions { publish, subscribe }
}

#[cfg(test)]
mod tests;
