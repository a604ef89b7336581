//! A dead letter that is redriven comes to its subscription again, and to no other.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use murmur_mesh::redrive::redriven;
use murmur_mesh::stream::{DEAD_LETTERS, EVENTS};
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
    let stream = world.js.get_stream(EVENTS).await.unwrap();
    for name in ["rejecting", "taking"] {
        let mut durable = stream.consumer_info(format!("{name}-0")).await.unwrap().config;
        durable.filter_subjects = vec!["events.>".to_owned(), format!("redrive.users.{name}.*")];
        let durable: async_nats::jetstream::consumer::pull::Config =
            async_nats::jetstream::consumer::FromConsumer::try_from_consumer_config(durable).unwrap();
        stream.update_consumer(durable).await.unwrap();
    }
    world.run().await;
    world.publish("bad", "k").await;
    world.publish("good", "k").await;
    world.until_done("rejecting-0").await;
    world.until_done("taking-0").await;
    assert_eq!(world.stored(DEAD_LETTERS).await, 1);

    broken.store(false, Ordering::Relaxed);
    let letter = world.message(DEAD_LETTERS, 1).await;
    let headers: Vec<(String, String)> =
        letter.headers.iter().map(|(name, values)| (name.to_string(), values[0].to_string())).collect();
    let again = redriven(&letter.subject, &headers, letter.sequence).unwrap();
    let mut map = async_nats::HeaderMap::new();
    for (name, value) in &again.headers {
        map.insert(name.as_str(), value.as_str());
    }
    // Twice, as after a crash: it is stored once.
    for _ in 0..2 {
        let stored =
            world.js.publish_with_headers(again.subject.clone(), map.clone(), letter.payload.clone());
        stored.await.unwrap().await.unwrap();
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
