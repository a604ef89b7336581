//! A dead letter that is redriven comes to its subscription again, and to no other.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use murmur_mesh::stream::DEAD_LETTERS;
use serde_json::json;

use crate::support::{Service, Setup, World, eventually, subscription};

#[tokio::test]
async fn a_redriven_event_comes_again_to_the_subscription_that_rejected_it_and_to_no_other() {
    let broken = Arc::new(AtomicBool::new(true));
    let state = broken.clone();
    let rejecting = Service::start(move |one| {
        let rejects = one.id() == "bad" && state.load(Ordering::Relaxed);
        (if rejects { 422 } else { 200 }, Duration::ZERO)
    })
    .await;
    let taking = Service::ok().await;
    let ordering = json!({"policy": "key", "shards": 1});
    let subscriptions = vec![
        subscription("rejecting", rejecting.port, ordering.clone()),
        subscription("taking", taking.port, ordering),
    ];
    let mut world = World::start(Setup { sidecar: false, subscriptions, ..Setup::default() }).await;
    // As the operator makes them: the events, and the redrives of that subscription alone.
    for name in ["rejecting", "taking"] {
        world.filter(&format!("{name}-0"), &["events.>", &format!("redrive.users.{name}.*")]).await;
    }
    world.run().await;
    world.publish("bad", "k").await;
    world.publish("good", "k").await;
    world.until_done("rejecting-0").await;
    world.until_done("taking-0").await;
    assert_eq!(world.stored(DEAD_LETTERS).await, 1);

    broken.store(false, Ordering::Relaxed);
    // Twice, as after a crash: it is stored once.
    for _ in 0..2 {
        world.redrive(1, None).await;
    }
    eventually("it comes again", async || rejecting.count() == 3).await;
    world.until_done("rejecting-0").await;
    world.until_done("taking-0").await;
    assert_eq!(rejecting.ids(), ["bad", "good", "bad"]);
    assert_eq!(taking.ids(), ["bad", "good"]);
    let received = rejecting.received();
    assert_eq!(received[2].body, Bytes::from("data of bad"));
    assert_eq!(received[2].header("ce-partitionkey"), "k");
    assert_eq!(received[2].header("murmur-subscription"), "rejecting");
}
