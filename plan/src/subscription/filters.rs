//! The filters of a durable. Two of one durable must not overlap: the broker
//! refuses that. As few as will do: one wildcard filter is four times as fast as two.

use std::collections::BTreeSet;

use murmur_mesh::config::Ordering;
use murmur_mesh::durable::Shard;
use murmur_mesh::name::EventType;
use murmur_mesh::partition::Partition;
use murmur_mesh::subject;

use super::EventSelector;

/// The filters for these events in one shard: sorted, none covered by another.
pub(super) fn of(events: &[EventSelector], ordering: Ordering, shard: Shard) -> Vec<String> {
    let from_any: BTreeSet<&EventType> =
        events.iter().filter(|event| event.from.is_none()).map(|event| &event.event_type).collect();
    // A type from any service covers the same type from one.
    let needed: BTreeSet<&EventSelector> =
        events.iter().filter(|event| event.from.is_none() || !from_any.contains(&event.event_type)).collect();
    let filter = |event: &EventSelector, partition| {
        subject::event_filter(event.from.as_ref(), partition, &event.event_type)
    };
    let mut filters: Vec<String> = match (ordering, shard) {
        (Ordering::Key { shards }, Shard::Number(number)) if shards > 1 => needed
            .into_iter()
            .flat_map(|event| {
                Partition::of_shard(number, shards).map(move |partition| filter(event, Some(partition)))
            })
            .collect(),
        _ => needed.into_iter().map(|event| filter(event, None)).collect(),
    };
    filters.sort_unstable();
    filters
}
