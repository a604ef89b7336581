//! Order per key.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;

use crate::support::{Received, Service, Setup, World, eventually, subscription};

/// The ids that succeeded, by key, in the order in which they did.
fn by_key(received: &[Received], succeeded: impl Fn(&Received) -> bool) -> BTreeMap<String, Vec<u64>> {
    let mut keys: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for one in received.iter().filter(|one| succeeded(one)) {
        keys.entry(one.header("ce-partitionkey").to_owned()).or_default().push(one.id().parse().unwrap());
    }
    keys
}

#[tokio::test]
async fn events_of_a_key_succeed_in_stream_order_although_many_are_retried() {
    // One in seven fails at first, one in eleven twice.
    let succeeds = |one: &Received| {
        let id: u64 = one.id().parse().unwrap();
        one.attempt() > u32::from(id.is_multiple_of(7)) + u32::from(id.is_multiple_of(11))
    };
    let service = Service::start(move |one| {
        let id: u64 = one.id().parse().unwrap();
        (if succeeds(one) { 200 } else { 500 }, Duration::from_millis(id % 3))
    })
    .await;
    let subscriptions = vec![subscription("all", service.port, json!({"policy": "key", "shards": 4}))];
    let world = World::start(Setup { subscriptions, ..Setup::default() }).await;
    world.fill(600, |id| format!("k{}", id % 13)).await;
    for shard in 0..4 {
        world.until_done(&format!("all-{shard}")).await;
    }
    let keys = by_key(&service.received(), succeeds);
    assert_eq!(keys.values().map(Vec::len).sum::<usize>(), 600);
    for (key, ids) in keys {
        assert!(ids.is_sorted(), "{key}: {ids:?}");
    }
}

#[tokio::test]
async fn events_of_a_key_are_never_with_the_service_at_the_same_time() {
    let service = Service::start(|_| (200, Duration::from_millis(20))).await;
    let subscriptions = vec![subscription("all", service.port, json!({"policy": "key", "shards": 1}))];
    let world = World::start(Setup { subscriptions, ..Setup::default() }).await;
    world.fill(60, |id| format!("k{}", id % 6)).await;
    eventually("all arrive", async || service.count() == 60).await;
    let mut last = BTreeMap::new();
    for one in service.received() {
        let key = one.header("ce-partitionkey").to_owned();
        if let Some(before) = last.insert(key, one.at) {
            assert!(one.at - before >= Duration::from_millis(20));
        }
    }
}

#[tokio::test]
async fn without_an_order_a_retried_event_holds_up_no_other() {
    let service =
        Service::start(|one| (if one.id() == "1" && one.attempt() == 1 { 500 } else { 200 }, Duration::ZERO))
            .await;
    let mut free = subscription("all", service.port, json!({"policy": "none"}));
    free["retry"]["initialDelay"] = 1000.into();
    free["retry"]["maxDelay"] = 1000.into();
    let world = World::start(Setup { subscriptions: vec![free], ..Setup::default() }).await;
    world.fill(50, |_| "same".to_owned()).await;
    eventually("all arrive", async || service.count() == 51).await;
    assert_eq!(service.received().last().unwrap().id(), "1");
    world.until_done("all-all").await;
}
