//! The filters of a durable: the events that its subscription asks for, and its
//! own dead letters that are driven again, which come the same way and so in the
//! order of their key. Two of one durable must not overlap: the broker refuses
//! that. As few as will do, since more are slower.

use std::collections::BTreeSet;

use murmur_mesh::config::Ordering;
use murmur_mesh::durable::Shard;
use murmur_mesh::name::EventType;
use murmur_mesh::partition::Partition;
use murmur_mesh::subject;

use super::{EventSelector, ValidSubscription};

/// The filters of one shard: sorted, none covered by another.
pub(super) fn of(subscription: &ValidSubscription, shard: Shard) -> Vec<String> {
    let events = &subscription.events;
    let from_any: BTreeSet<&EventType> =
        events.iter().filter(|event| event.from.is_none()).map(|event| &event.event_type).collect();
    // A type from any service covers the same type from one.
    let needed: BTreeSet<&EventSelector> =
        events.iter().filter(|event| event.from.is_none() || !from_any.contains(&event.event_type)).collect();
    let filter = |event: &EventSelector, partition| {
        subject::event_filter(event.from.as_ref(), partition, &event.event_type)
    };
    let partitions: Vec<Option<Partition>> = match (subscription.ordering, shard) {
        (Ordering::Key { shards }, Shard::Number(number)) if shards > 1 => {
            Partition::of_shard(number, shards).map(Some).collect()
        }
        _ => vec![None],
    };
    let mut filters = Vec::with_capacity((needed.len() + 1) * partitions.len());
    for partition in partitions {
        filters.extend(needed.iter().map(|event| filter(event, partition)));
        filters.push(subject::redrive(&subscription.service, &subscription.name, partition));
    }
    filters.sort_unstable();
    filters
}
