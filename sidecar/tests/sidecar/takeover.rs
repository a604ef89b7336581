//! Replicas that die, stop and come back: the order that was promised stays.

use std::collections::{BTreeMap, HashSet};
use std::ops::RangeInclusive;
use std::time::Duration;

use murmur_mesh::durable::ACK_WAIT;
use murmur_mesh::stream::DEAD_LETTERS;
use serde_json::{Value, json};

use crate::support::{Process, Received, Service, Setup, Wire, World, eventually, subscription};

const EVENTS: usize = 600;

fn one_shard() -> Value {
    json!({"policy": "key", "shards": 1})
}

/// A world without a sidecar of its own, with one subscription.
async fn world(ordering: Value, service: &Service) -> World {
    let subscriptions = vec![subscription("all", service.port, ordering)];
    World::start(Setup { subscriptions, sidecar: false, ..Setup::default() }).await
}

/// Events of each key came in stream order, and none was passed over. One that came before may come again later: its
/// answer was lost with its sidecar, or that of a pod that stood still counts once it wakes.
fn assert_in_order(received: &[Received], key: impl Fn(&Received) -> String) {
    let mut keys: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for one in received {
        keys.entry(key(one)).or_default().push(one.id().parse().unwrap());
    }
    for (key, ids) in &keys {
        let mut seen = HashSet::new();
        let first: Vec<_> = ids.iter().filter(|id| seen.insert(**id)).collect();
        assert!(first.is_sorted(), "{key}: {ids:?}");
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
    // And what it had answered a moment before: the acknowledgements may not have left yet.
    let again = service.count() - EVENTS;
    assert!(again <= 48, "only what was with the service comes again, not {again}");
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

/// Three replicas, of which one is killed and another stopped past its pin and
/// continued, while one event in seven fails at first.
async fn survives_the_loss_of_two_of_three(ordering: Value, durables: &[&str], key: fn(&Received) -> String) {
    let service = Service::start(|one| {
        let id: u64 = one.id().parse().unwrap();
        let fails = id.is_multiple_of(7) && one.attempt() == 1;
        (if fails { 500 } else { 200 }, Duration::from_millis(10))
    })
    .await;
    let world = world(ordering, &service).await;
    let mut replicas =
        BTreeMap::from(["a", "b", "c"].map(|pod| (pod.to_owned(), Process::replica(&world, pod))));
    world.fill(EVENTS, |id| format!("k{}", id % 23)).await;
    eventually("some arrive", async || service.count() >= EVENTS / 6).await;
    let first = holder(&service);
    replicas.get_mut(&first).unwrap().child.kill().unwrap();
    let killed = service.count();
    eventually("the others deliver", async || service.count() > killed + 30).await;
    let second = holder(&service);
    assert_ne!(second, first);
    replicas[&second].signal("STOP");
    tokio::time::sleep(Duration::from_secs(16)).await;
    replicas[&second].signal("CONT");
    for durable in durables {
        world.until_done(durable).await;
    }
    assert_in_order(&service.received(), key);
    assert_eq!(world.stored(DEAD_LETTERS).await, 0);
}

#[tokio::test]
async fn with_key_the_order_survives_the_loss_of_two_of_three_replicas() {
    let four = json!({"policy": "key", "shards": 4});
    survives_the_loss_of_two_of_three(four, &["all-0", "all-1", "all-2", "all-3"], partition_key).await;
}

#[tokio::test]
async fn with_strict_the_order_survives_the_loss_of_two_of_three_replicas() {
    survives_the_loss_of_two_of_three(json!({"policy": "strict"}), &["all-all"], |_| String::new()).await;
}

/// The longest time in which nothing arrived, and what came after it.
fn longest_silence(received: &[Received]) -> (Duration, String) {
    let silence =
        |pair: &[Received]| (pair[1].at - pair[0].at, format!("before {} at {}", pair[1].id(), pair[1].path));
    received.windows(2).map(silence).max().unwrap()
}

/// What was lost on the way would come again after the ack wait, counted from when others still arrived.
const NO_STALL: Duration = Duration::from_secs(7);

const DURABLES: [&str; 4] = ["all-0", "all-1", "all-2", "all-3"];

/// Stores events of many keys, one after another.
async fn flow(world: &World, ids: RangeInclusive<usize>, every: Duration) {
    let mut waiting = Vec::new();
    for id in ids {
        waiting.push(world.store(&id.to_string(), &format!("k{}", id % 97)).await);
        tokio::time::sleep(every).await;
    }
    for one in waiting {
        one.await.unwrap();
    }
}

#[tokio::test]
async fn shards_that_come_back_after_longer_than_the_ack_wait_are_received_at_once() {
    let every = Duration::from_millis(20);
    let service = Service::ok().await;
    let world = world(json!({"policy": "key", "shards": 4}), &service).await;
    let a = Process::replica(&world, "a");
    a.until_connected().await;
    flow(&world, 1..=50, every).await;
    let b = Process::replica(&world, "b");
    let by_b = || service.received().iter().filter(|one| one.path == "/b").count();
    let mut last = 50;
    while by_b() < 30 {
        flow(&world, last + 1..=last + 50, every).await;
        last += 50;
        assert!(last < 2000, "b receives its share");
    }
    // Quiet, and longer than what was heard of b's shards counts at a.
    tokio::time::sleep(ACK_WAIT + Duration::from_secs(1)).await;
    let before = service.count();
    b.terminate();
    flow(&world, last + 1..=last + 100, every).await;
    for durable in DURABLES {
        world.until_done(durable).await;
    }
    let received = service.received();
    assert_eq!(received.len(), last + 100, "each came once");
    let (silence, before_what) = longest_silence(&received[before..]);
    assert!(silence < NO_STALL, "{silence:?} {before_what}");
}

#[tokio::test]
async fn what_is_on_a_slow_way_to_a_replica_that_lets_go_is_given_back_at_once() {
    let every = Duration::from_millis(10);
    let service = Service::ok().await;
    let mut world = world(json!({"policy": "key", "shards": 4}), &service).await;
    // Something is always on the way.
    let wire = Wire::to(world.broker.port(), Duration::from_millis(30)).await;
    world.wire = Some(wire.port);
    let a = Process::replica(&world, "a");
    a.until_connected().await;
    flow(&world, 1..=200, every).await;
    let b = Process::replica(&world, "b");
    flow(&world, 201..=600, every).await;
    assert!(service.received().iter().any(|one| one.path == "/b"), "b has its share");
    b.terminate();
    flow(&world, 601..=800, every).await;
    for durable in DURABLES {
        world.until_done(durable).await;
    }
    let received = service.received();
    assert_eq!(received.len(), 800, "each came once");
    let (silence, before_what) = longest_silence(&received);
    assert!(silence < NO_STALL, "{silence:?} {before_what}");
}

#[tokio::test]
async fn shards_move_when_replicas_come_and_go_and_each_event_comes_once() {
    let service = Service::start(|_| (200, Duration::from_millis(5))).await;
    let world = world(json!({"policy": "key", "shards": 4}), &service).await;
    let publish = async |round: usize| {
        flow(&world, round * 200 + 1..=round * 200 + 200, Duration::from_millis(5)).await;
    };
    let by = |pod: &str, from: usize| {
        service.received()[from..].iter().filter(|one| one.path == format!("/{pod}")).count()
    };
    let _a = Process::replica(&world, "a");
    publish(0).await;
    assert_eq!(by("a", 0), service.count(), "one pod has all");
    // The shards move while events flow.
    let mut b = Process::replica(&world, "b");
    publish(1).await;
    eventually("all arrive", async || service.count() >= 400).await;
    publish(2).await;
    eventually("all arrive", async || service.count() >= 600).await;
    assert!(
        by("a", 420) > 30 && by("b", 420) > 30,
        "both have their share: {} {}",
        by("a", 420),
        by("b", 420)
    );
    b.terminate();
    publish(3).await;
    for durable in DURABLES {
        world.until_done(durable).await;
    }
    assert!(b.child.wait().unwrap().success());
    let received = service.received();
    assert_eq!(received.len(), 800, "each came once");
    assert!(received[780..].iter().all(|one| one.path == "/a"));
    let mut keys: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for one in &received {
        keys.entry(partition_key(one)).or_default().push(one.id().parse().unwrap());
    }
    assert!(keys.values().all(|ids| ids.is_sorted()), "{keys:?}");
    let (silence, before_what) = longest_silence(&received);
    assert!(silence < NO_STALL, "a move took {silence:?} {before_what}");
}
