//! What the broker hands to a connection that is gone comes again at once, in its order.

use std::time::{Duration, Instant};

use async_nats::jetstream::Context;
use futures::StreamExt;
use murmur_mesh::durable::ACK_WAIT;
use murmur_mesh::stream::EVENTS;
use serde_json::{Value, json};

use crate::support::{Service, Setup, Wire, World, eventually, subscription};

fn one_shard() -> Value {
    json!({"policy": "key", "shards": 1})
}

/// The places in the stream of so many events from a durable, and how often each was handed out.
async fn pull(js: &Context, durable: &str, batch: usize) -> Vec<(u64, i64)> {
    let client = js.client();
    let inbox = client.new_inbox();
    let mut answers = client.subscribe(inbox.clone()).await.unwrap();
    let request = json!({"batch": batch, "expires": 1_000_000_000});
    let subject = format!("$JS.API.CONSUMER.MSG.NEXT.{EVENTS}.{durable}");
    client.publish_with_reply(subject, inbox, request.to_string().into()).await.unwrap();
    let mut places = Vec::new();
    while let Some(message) = answers.next().await
        && message.status.is_none()
    {
        let message = async_nats::jetstream::Message { message, context: js.clone() };
        let info = message.info().unwrap();
        places.push((info.stream_sequence, info.delivered));
        if places.len() == batch {
            break;
        }
    }
    places
}

#[tokio::test]
async fn of_places_that_are_given_back_unseen_the_broker_delivers_those_again_that_are_out_and_no_other() {
    let subscriptions = vec![subscription("all", 1, json!({"policy": "none"}))];
    let world = World::start(Setup { sidecar: false, subscriptions, ..Setup::default() }).await;
    world.fill(10, |id| format!("k{id}")).await;
    assert_eq!(pull(&world.js, "all-all", 5).await, [(1, 1), (2, 1), (3, 1), (4, 1), (5, 1)]);
    let client = world.js.client();
    // The answer shows that the word was heard.
    let say = async |place: u64, word: &'static str| {
        let subject = format!("$JS.ACK.{EVENTS}.all-all.1.{place}.5.0.0");
        client.request(subject, word.into()).await.unwrap();
    };
    say(1, "+ACK").await;
    say(3, "+ACK").await;
    // Done, done a moment ago, not handed out yet, never there; and, last, two that are out.
    for place in [1, 3, 6, 10, 11, 1000, 5, 4] {
        say(place, "-NAK").await;
    }
    assert_eq!(pull(&world.js, "all-all", 4).await, [(5, 2), (4, 2), (6, 1), (7, 1)]);
    // One that is acknowledged after it was given back does not come again either.
    say(7, "-NAK").await;
    say(7, "+ACK").await;
    assert_eq!(pull(&world.js, "all-all", 2).await, [(8, 1), (9, 1)]);
}

/// Loses what the broker sends, and then the connection: what was handed out meanwhile is
/// delivered much sooner than the broker would deliver it again.
async fn comes_back_soon(ordering: Value, durable: &str, replicas: usize, settle: Duration) {
    let service = Service::ok().await;
    let subscriptions = vec![subscription("all", service.port, ordering)];
    let mut world = World::start(Setup { subscriptions, sidecar: false, ..Setup::default() }).await;
    let wire = Wire::to(world.broker.port(), Duration::ZERO).await;
    world.wire = Some(wire.port);
    world.run().await;
    let mut others = Vec::new();
    for _ in 1..replicas {
        others.push(world.another().await);
    }
    tokio::time::sleep(settle).await;
    for id in 1..=20 {
        world.store(&id.to_string(), "k").await.await.unwrap();
    }
    world.until_done(durable).await;
    wire.hold();
    for id in 21..=60 {
        world.store(&id.to_string(), "k").await.await.unwrap();
    }
    eventually("some are handed out", async || world.outstanding(durable).await.0 > 0).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let handed_out = Instant::now();
    wire.cut();
    world.until_done(durable).await;
    let took = handed_out.elapsed();
    assert!(took < ACK_WAIT * 3 / 4, "{took:?}");
    let ids: Vec<u64> = service.ids().iter().map(|id| id.parse().unwrap()).collect();
    assert_eq!(ids, (1..=60).collect::<Vec<_>>());
}

#[tokio::test]
async fn what_is_lost_on_its_way_to_the_holder_of_a_pin_comes_back_soon_whoever_else_is_there() {
    comes_back_soon(one_shard(), "all-0", 2, Duration::from_secs(2)).await;
}

#[tokio::test]
async fn what_is_lost_on_its_way_to_the_only_pod_comes_back_soon_without_a_pin_too() {
    comes_back_soon(json!({"policy": "strict"}), "all-all", 1, ACK_WAIT + Duration::from_secs(2)).await;
}
