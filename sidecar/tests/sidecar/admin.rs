//! Probes, metrics and status.

use crate::support::{Http, Setup, World, get};

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
