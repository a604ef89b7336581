//! How many events a second a service receives.

use std::time::Duration;

use futures::StreamExt;
use murmur_mesh::report::Report;
use murmur_mesh::subject;
use murmur_test_support::mesh;
use serde_json::{Value, json};

use crate::support::{Service, Setup, World, eventually, get, subscription};

fn limited(name: &str, port: u16, ordering: Value, per_second: u32) -> Value {
    let mut limited = subscription(name, port, ordering);
    limited["deliver"]["maxPerSecond"] = per_second.into();
    limited
}

/// How long the service took from the first event to the last.
fn took(service: &Service) -> Duration {
    let received = service.received();
    received[received.len() - 1].at - received[0].at
}

/// The deliveries of a subscription that a sidecar has made.
async fn made(admin: std::net::SocketAddr, subscription: &str) -> u64 {
    let text = String::from_utf8(get(admin, "/metrics").await.body.to_vec()).unwrap();
    let line = format!(
        "murmur_sidecar_delivery_attempts_total{{subscription=\"{subscription}\",outcome=\"done\"}} "
    );
    text.lines().find_map(|one| one.strip_prefix(&line)).map_or(0, |number| number.parse().unwrap())
}

#[tokio::test]
async fn no_more_events_a_second_are_sent_than_the_rate_allows() {
    let service = Service::ok().await;
    let subscriptions = vec![limited("all", service.port, json!({"policy": "none"}), 50)];
    let world = World::start(Setup { subscriptions, ..Setup::default() }).await;
    world.fill(120, |id| id.to_string()).await;
    eventually("all arrive", async || service.count() == 120).await;
    // The first five may go at once; a busy machine only takes longer.
    assert!(took(&service) >= Duration::from_millis(2200), "{:?}", took(&service));
}

#[tokio::test]
async fn two_pods_together_send_no_more_events_a_second_than_the_rate_allows() {
    let (keyed, free) = (Service::ok().await, Service::ok().await);
    let subscriptions = vec![
        limited("keyed", keyed.port, json!({"policy": "key", "shards": 4}), 100),
        limited("free", free.port, json!({"policy": "none"}), 100),
    ];
    let world = World::start(Setup { subscriptions, ..Setup::default() }).await;
    let client = async_nats::connect(world.broker.url()).await.unwrap();
    let reports = subject::report_permission(&"users".parse().unwrap());
    let mut reports = mesh::subscribe(&client, reports).await.unwrap();
    let second = world.another().await;
    // The second one's second report tells that it hears the others; then it hears the first one.
    for (pod, number) in [("users-2", 2), ("users-1", 1)] {
        for _ in 0..number {
            loop {
                let report: Report = serde_json::from_slice(&reports.next().await.unwrap().payload).unwrap();
                if report.pod == pod {
                    break;
                }
            }
        }
    }
    world.fill(300, |id| id.to_string()).await;
    for (name, service) in [("keyed", &keyed), ("free", &free)] {
        eventually("all arrive", async || service.count() == 300).await;
        // Ten may go at once. If each pod had the rate for itself it would be half of the time.
        assert!(took(service) >= Duration::from_millis(2500), "{name}: {:?}", took(service));
        for admin in [world.admin, second.admin] {
            assert!(made(admin, name).await > 60, "{name}: each pod has its share");
        }
    }
}
