//! Replicas that die, stop and come back: the order that was promised stays.

use std::collections::BTreeMap;
use std::time::Duration;

use murmur_mesh::stream::DEAD_LETTERS;
use serde_json::{Value, json};

use crate::support::{Process, Received, Service, Setup, World, eventually, subscription};

const EVENTS: usize = 600;

fn one_shard() -> Value {
    json!({"policy": "key", "shards": 1})
}

/// A world without a sidecar of its own, with one subscription.
async fn world(ordering: Value, service: &Service) -> World {
    let subscriptions = vec![subscription("all", service.port, ordering)];
    World::start(Setup { subscriptions, sidecar: false, ..Setup::default() }).await
}

/// Events of each key came in stream order; one may come twice in a row, as
/// what was with the service when its sidecar died is sent again.
fn assert_in_order(received: &[Received], key: impl Fn(&Received) -> String) {
    let mut keys: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for one in received {
        keys.entry(key(one)).or_default().push(one.id().parse().unwrap());
    }
    for (key, ids) in &keys {
        assert!(ids.is_sorted(), "{key}: {ids:?}");
    }
    let mut ids: Vec<_> = keys.into_values().flatten().collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), EVENTS, "each came");
}

fn partition_key(one: &Received) -> String {
    one.header("ce-partitionkey").to_owned()
}

/// The replica that delivered last.
fn holder(service: &Service) -> String {
    service.received().last().unwrap().path.trim_start_matches('/').to_owned()
}

#[tokio::test]
async fn the_order_of_every_key_is_kept_when_the_holder_of_a_shard_is_killed() {
    let service = Service::start(|_| (200, Duration::from_millis(20))).await;
    let world = world(one_shard(), &service).await;
    let mut replicas = BTreeMap::from(["a", "b"].map(|pod| (pod.to_owned(), Process::replica(&world, pod))));
    world.fill(EVENTS, |id| format!("k{}", id % 23)).await;
    eventually("some arrive", async || service.count() >= EVENTS / 6).await;
    let first = holder(&service);
    replicas.get_mut(&first).unwrap().child.kill().unwrap();
    world.until_done("all-0").await;
    assert_ne!(holder(&service), first);
    assert_in_order(&service.received(), partition_key);
    assert!(service.count() <= EVENTS + 16, "only what was with the service comes again");
    assert_eq!(world.stored(DEAD_LETTERS).await, 0);
}

#[tokio::test]
async fn a_holder_that_is_stopped_past_its_pin_and_continued_delivers_nothing_out_of_order() {
    let service = Service::start(|_| (200, Duration::from_millis(20))).await;
    let world = world(one_shard(), &service).await;
    let replicas = BTreeMap::from(["a", "b"].map(|pod| (pod.to_owned(), Process::replica(&world, pod))));
    world.fill(EVENTS, |id| format!("k{}", id % 23)).await;
    eventually("some arrive", async || service.count() >= EVENTS / 6).await;
    let first = holder(&service);
    replicas[&first].signal("STOP");
    let stopped = service.count();
    eventually("the other one delivers", async || service.count() > stopped + 20).await;
    // In the middle of the other one's work, with all that the first had in its hands.
    replicas[&first].signal("CONT");
    world.until_done("all-0").await;
    assert_in_order(&service.received(), partition_key);
    assert_eq!(world.stored(DEAD_LETTERS).await, 0);
}
