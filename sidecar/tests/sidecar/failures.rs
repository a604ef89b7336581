//! The service is away, the bus is away: nothing is lost, nothing is given up.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use futures::StreamExt;
use murmur_mesh::report::Report;
use murmur_mesh::stream::{DEAD_LETTERS, EVENTS};
use murmur_mesh::subject::ALL_REPORTS;
use serde_json::json;

use crate::support::{Service, Setup, Wire, World, eventually, free_port, get, post, subscription};

const NOW: Duration = Duration::ZERO;

fn keyed() -> serde_json::Value {
    json!({"policy": "key", "shards": 2})
}

async fn held(world: &World) -> String {
    let status = get(world.local, "/v1/status").await.json();
    status["subscriptions"][0]["held"].as_str().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn a_service_that_is_down_for_longer_than_all_retries_gets_all_its_events_afterwards() {
    let port = free_port().unwrap();
    let subscriptions = vec![subscription("all", port, keyed())];
    let world = World::start(Setup { subscriptions, ..Setup::default() }).await;
    world.fill(1000, |id| format!("k{}", id % 97)).await;
    eventually("the subscription holds", async || held(&world).await.contains("cannot connect")).await;
    // All attempts of an event take less than half a second.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let service = Service::start_on(port, |_| (200, NOW)).await;
    for shard in 0..2 {
        world.until_done(&format!("all-{shard}")).await;
    }
    let ids: BTreeSet<_> = service.ids().into_iter().collect();
    assert_eq!((ids.len(), service.count()), (1000, 1000));
    assert!(service.received().iter().all(|one| one.attempt() == 1));
    assert_eq!(world.stored(DEAD_LETTERS).await, 0);
    assert_eq!(held(&world).await, "");
}

#[tokio::test]
async fn a_service_that_says_503_is_probed_with_one_event_at_a_time() {
    // Slow to answer: all that may go at first has gone by then.
    let service = Service::start(|_| (503, Duration::from_millis(500))).await;
    let subscriptions = vec![subscription("all", service.port, json!({"policy": "none"}))];
    let mut world = World::start(Setup { subscriptions, sidecar: false, ..Setup::default() }).await;
    world.fill(100, |id| id.to_string()).await;
    world.run().await;
    eventually("the subscription holds", async || held(&world).await.contains("503")).await;
    tokio::time::sleep(Duration::from_millis(1200)).await;
    // The first sixteen went out together; then came probes, each a while after the one before was answered.
    assert_eq!(service.most_at_once(), 16);
    let probes = service.count() - 16;
    assert!((1..=3).contains(&probes), "{probes} probes");
    assert_eq!(world.stored(DEAD_LETTERS).await, 0);
}

#[tokio::test]
async fn a_service_that_fails_every_event_is_held_instead_of_losing_them_to_dead_letters() {
    let service = Service::start(|_| (500, NOW)).await;
    let subscriptions = vec![subscription("all", service.port, json!({"policy": "none"}))];
    let world = World::start(Setup { subscriptions, ..Setup::default() }).await;
    world.fill(100, |id| id.to_string()).await;
    eventually("the subscription holds", async || held(&world).await.contains("have all failed")).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(world.stored(DEAD_LETTERS).await, 0);
}

#[tokio::test]
async fn the_operator_hears_at_once_that_a_subscription_holds_and_that_it_goes_on() {
    let port = free_port().unwrap();
    let subscriptions = vec![subscription("all", port, keyed())];
    let world = World::start(Setup { subscriptions, sidecar: false, ..Setup::default() }).await;
    let mut reports = world.js.client().subscribe(ALL_REPORTS).await.unwrap();
    let mut world = world;
    world.run().await;
    world.publish("1", "k").await;
    let mut next = async |held: bool| loop {
        let message = reports.next().await.unwrap();
        assert_eq!(message.subject.as_str(), "report.users.users-1");
        let report: Report = serde_json::from_slice(&message.payload).unwrap();
        assert_eq!((report.pod.as_str(), report.generation), ("users-1", 1));
        if report.subscriptions.iter().any(|one| one.held.is_some() == held) {
            return report.subscriptions[0].held.clone().unwrap_or_default();
        }
    };
    assert!(next(true).await.contains("cannot connect"));
    let _service = Service::start_on(port, |_| (200, NOW)).await;
    next(false).await;
}

#[tokio::test]
async fn a_bus_that_dies_and_comes_back_loses_nothing_that_was_acknowledged() {
    let service = Service::ok().await;
    let subscriptions = vec![subscription("all", service.port, keyed())];
    let mut world = World::start(Setup { subscriptions, ..Setup::default() }).await;
    let mut acknowledged = Vec::new();
    for id in 0..50 {
        world.publish(&format!("before-{id}"), "k").await;
        acknowledged.push(format!("before-{id}"));
    }
    world.broker.kill().await.unwrap();
    eventually("publishing is refused at once", async || {
        let answer = post(world.local, "/v1/events/T", &[("ce-id", "meanwhile")], "").await;
        answer.status == 503 && answer.json()["outcome"] == "notStored" && answer.json()["id"] == "meanwhile"
    })
    .await;
    assert_eq!(get(world.admin, "/livez").await.status, 200);
    assert_eq!(get(world.admin, "/readyz").await.status, 200);
    world.broker.resume().await.unwrap();
    world.until_connected().await;
    for id in 0..50 {
        let id = format!("after-{id}");
        eventually("publishing works again", async || {
            post(world.local, "/v1/events/T", &[("ce-id", &id)], "").await.status == 200
        })
        .await;
        acknowledged.push(id);
    }
    eventually("all that was acknowledged has arrived", async || {
        let ids: BTreeSet<_> = service.ids().into_iter().collect();
        acknowledged.iter().all(|id| ids.contains(id))
    })
    .await;
    assert_eq!(world.stored(EVENTS).await, 100, "meanwhile was not stored");
    assert_eq!(world.stored(DEAD_LETTERS).await, 0);
}

#[tokio::test]
async fn publishing_under_way_survives_a_short_loss_of_the_connection() {
    let mut world = World::start(Setup { sidecar: false, ..Setup::default() }).await;
    let wire = Wire::to(world.broker.port(), NOW).await;
    world.wire = Some(wire.port);
    world.run().await;
    let (local, stored) = (world.local, Arc::new(AtomicUsize::new(0)));
    let client = tokio::spawn({
        let stored = stored.clone();
        async move {
            for id in 0..300 {
                let answer = post(local, "/v1/events/T", &[("ce-id", &id.to_string())], "").await;
                assert_eq!(answer.status, 200, "{answer:?}");
                stored.fetch_add(1, Relaxed);
            }
        }
    });
    let (mut cuts, mut before) = (0, 0);
    while !client.is_finished() {
        tokio::time::sleep(Duration::from_millis(50)).await;
        // Cut again before anything has passed, it would be a long loss: a busy machine takes its time to connect.
        let now = stored.load(Relaxed);
        if now > before {
            (cuts, before) = (cuts + 1, now);
            wire.cut();
        }
    }
    client.await.unwrap();
    assert!(cuts > 0, "nothing was cut");
    assert_eq!(world.stored(EVENTS).await, 300);
}

#[tokio::test]
async fn an_answer_that_was_lost_leaves_the_outcome_open_whatever_the_next_try_is_told() {
    let mut world = World::start(Setup { sidecar: false, ..Setup::default() }).await;
    let wire = Wire::to(world.broker.port(), Duration::from_millis(300)).await;
    world.wire = Some(wire.port);
    world.run().await;
    let local = world.local;
    let publish = tokio::spawn(async move { post(local, "/v1/events/T", &[("ce-id", "1")], "").await });
    eventually("it is stored", async || world.stored(EVENTS).await == 1).await;
    // The next try finds nobody who stores, which says nothing of the first.
    world.js.delete_stream(EVENTS).await.unwrap();
    wire.cut();
    let answer = publish.await.unwrap();
    assert_eq!(answer.json()["outcome"], "unknown", "{answer:?}");
}

#[tokio::test]
async fn a_sidecar_that_starts_before_the_bus_works_once_it_is_there() {
    let service = Service::ok().await;
    let subscriptions = vec![subscription("all", service.port, keyed())];
    let mut world = World::start(Setup { subscriptions, sidecar: false, ..Setup::default() }).await;
    world.broker.kill().await.unwrap();
    world.run_unconnected().await;
    assert_eq!(get(world.admin, "/startedz").await.status, 200);
    world.broker.resume().await.unwrap();
    world.until_connected().await;
    world.publish("1", "k").await;
    eventually("it arrives", async || service.count() == 1).await;
}

#[tokio::test]
async fn a_subscription_whose_durable_is_made_later_starts_by_itself() {
    let service = Service::ok().await;
    let world = World::start(Setup::default()).await;
    let late = subscription("late", service.port, keyed());
    let mut world = world;
    world.configure(|config| config["subscriptions"] = json!([late.clone()])).await;
    world.until_configured().await;
    world.publish("1", "k").await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    world.durables(&late).await;
    eventually("it arrives", async || service.count() == 1).await;
}
