//! Probes, metrics and status.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use murmur_sidecar::startup::WaitFor;
use serde_json::json;

use crate::support::{Http, Service, Setup, World, eventually, get, subscription};

#[tokio::test]
async fn probes_and_metrics_are_answered_to_get_only() {
    let world = World::start(Setup::default()).await;
    for path in ["/startedz", "/livez", "/readyz"] {
        assert_eq!(get(world.admin, path).await.status, 200, "{path}");
    }
    let post = Http::connect(world.admin).await.send("POST", "/metrics", &[], "").await;
    assert_eq!(post.status, 405);
    assert_eq!(get(world.admin, "/v1/events").await.status, 404);
    assert_eq!(get(world.admin, "/v1/drain").await.status, 404);
}

#[tokio::test]
async fn metrics_count_what_happened() {
    let world = World::start(Setup::default()).await;
    world.publish("1", "k").await;
    world.publish("1", "k").await;
    let text = String::from_utf8(get(world.admin, "/metrics").await.body.to_vec()).unwrap();
    for line in [
        "murmur_sidecar_bus_connected 1",
        "murmur_sidecar_config_generation 1",
        "murmur_sidecar_publishes_total{outcome=\"stored\"} 1",
        "murmur_sidecar_publishes_total{outcome=\"duplicate\"} 1",
        "murmur_sidecar_publish_duration_seconds_count 2",
        "murmur_sidecar_publishes_in_flight 0",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }
}

#[tokio::test]
async fn the_status_says_how_the_bus_and_the_limits_are() {
    let world = World::start(Setup::default()).await;
    let status = get(world.local, "/v1/status").await.json();
    assert_eq!(status["service"], "users");
    assert_eq!(status["bus"]["connected"], true);
    assert_eq!(status["publishes"][0], "T");
    assert!(status["limits"]["bodyBytes"].as_u64().unwrap() > 1_000_000);
}

#[tokio::test]
async fn a_pod_that_waits_until_it_has_caught_up_is_ready_once_it_has_and_stays_so() {
    let away = Arc::new(AtomicBool::new(true));
    let state = away.clone();
    let service = Service::start(move |one| {
        let status = match (state.load(Ordering::Relaxed), one.id()) {
            (true, _) => 503,
            // A dead letter counts as passed.
            (false, "7") => 422,
            (false, _) => 200,
        };
        (status, Duration::ZERO)
    })
    .await;
    let subscriptions = vec![
        subscription("all", service.port, json!({"policy": "key", "shards": 4})),
        subscription("one", service.port, json!({"policy": "none"})),
    ];
    let mut world = World::start(Setup { subscriptions, sidecar: false, ..Setup::default() }).await;
    world.fill(50, |id| id.to_string()).await;
    world.wait_for = WaitFor::CaughtUp;
    world.run().await;
    eventually("it is offered something", async || service.count() > 0).await;
    assert_eq!(get(world.admin, "/readyz").await.status, 503);
    assert_eq!(get(world.admin, "/startedz").await.status, 200);
    away.store(false, Ordering::Relaxed);
    eventually("it is ready", async || get(world.admin, "/readyz").await.status == 200).await;
    assert!(service.count() >= 100, "it has what there was");
    away.store(true, Ordering::Relaxed);
    world.store("later", "k").await.await.unwrap();
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert_eq!(get(world.admin, "/readyz").await.status, 200);
}

#[tokio::test]
async fn a_pod_that_started_with_an_older_configuration_waits_for_the_subscriptions_of_the_last() {
    let away = Arc::new(AtomicBool::new(true));
    let state = away.clone();
    let service =
        Service::start(move |_| (if state.load(Ordering::Relaxed) { 503 } else { 200 }, Duration::ZERO))
            .await;
    let mut world = World::start(Setup { sidecar: false, ..Setup::default() }).await;
    let all = subscription("all", service.port, json!({"policy": "key", "shards": 1}));
    world.durables(&all).await;
    world.fill(5, |id| id.to_string()).await;
    world.configure(|config| config["subscriptions"] = json!([all])).await;
    world.with_file(|config| {
        config["subscriptions"] = json!([]);
        config["generation"] = json!(1);
    });
    world.wait_for = WaitFor::CaughtUp;
    world.run().await;
    eventually("it is offered something", async || service.count() > 0).await;
    assert_eq!(get(world.admin, "/readyz").await.status, 503);
    away.store(false, Ordering::Relaxed);
    eventually("it is ready", async || get(world.admin, "/readyz").await.status == 200).await;
}

#[tokio::test]
async fn without_the_bus_a_pod_that_waits_until_it_has_caught_up_is_not_ready() {
    let service = Service::ok().await;
    let subscriptions = vec![subscription("all", service.port, json!({"policy": "key", "shards": 1}))];
    let mut world = World::start(Setup { subscriptions, sidecar: false, ..Setup::default() }).await;
    world.fill(5, |id| id.to_string()).await;
    world.wait_for = WaitFor::CaughtUp;
    world.broker.kill().await.unwrap();
    world.run_unconnected().await;
    eventually("it is started", async || get(world.admin, "/startedz").await.status == 200).await;
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert_eq!(get(world.admin, "/readyz").await.status, 503);
    world.broker.resume().await.unwrap();
    eventually("it is ready", async || get(world.admin, "/readyz").await.status == 200).await;
    assert_eq!(service.count(), 5);
}
