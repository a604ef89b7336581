//! Many events that wait at once are stored together: nobody notices but by the clock.

use std::collections::BTreeMap;
use std::time::Duration;

use murmur_mesh::stream::EVENTS;

use crate::support::{Http, Setup, Wire, World, get};

/// More than are stored one by one where every message is synced to disk.
const CLIENTS: usize = 128;

/// A broker that syncs every message, as the bundled one does.
fn synced() -> Setup {
    Setup { jetstream: "sync_interval: always", ..Setup::default() }
}

/// Each client posts its events one after another; gives each id's sequence.
async fn publish(world: &World, rounds: usize, id: fn(usize, usize) -> String) -> BTreeMap<String, u64> {
    let local = world.local;
    let clients: Vec<_> = (0..CLIENTS)
        .map(|client| {
            tokio::spawn(async move {
                let mut http = Http::connect(local).await;
                let mut answers = Vec::new();
                for round in 0..rounds {
                    let id = id(client, round);
                    let headers = [("ce-id", id.as_str()), ("ce-partitionkey", "k")];
                    let mut answer = http.send("POST", "/v1/events/T", &headers, id.clone()).await;
                    // Where connections are lost, a busy machine may make them anew later than a publisher is kept waiting.
                    while answer.status == 503 && answer.json()["outcome"] == "notStored" {
                        answer = http.send("POST", "/v1/events/T", &headers, id.clone()).await;
                    }
                    assert_eq!(answer.status, 200, "{answer:?}");
                    assert_eq!(answer.json()["id"], id);
                    answers.push((id, answer.json()["sequence"].as_u64().unwrap()));
                }
                assert!(answers.is_sorted_by_key(|(_, sequence)| *sequence), "{answers:?}");
                answers
            })
        })
        .collect();
    let mut all = BTreeMap::new();
    for client in clients {
        all.extend(client.await.unwrap());
    }
    all
}

fn own(client: usize, round: usize) -> String {
    format!("{client}-{round}")
}

/// The store holds each event once, where its publisher was told that it is.
async fn check(world: &World, answers: &BTreeMap<String, u64>) {
    let mut stored = BTreeMap::new();
    for sequence in 1..=world.stored(EVENTS).await {
        let message = world.message(EVENTS, sequence).await;
        let id = message.headers.get("ce-id").unwrap().to_string();
        if id != "by another" {
            assert_eq!(message.payload, id);
            assert_eq!(stored.insert(id, sequence), None);
        }
    }
    assert_eq!(&stored, answers);
}

async fn batches(world: &World, outcome: &str) -> u64 {
    let text = String::from_utf8(get(world.admin, "/metrics").await.body.to_vec()).unwrap();
    let line = format!("murmur_sidecar_publish_batches_total{{outcome=\"{outcome}\"}} ");
    text.lines().find_map(|found| found.strip_prefix(&line)).map_or(0, |count| count.parse().unwrap())
}

#[tokio::test]
async fn many_events_that_wait_are_stored_together_and_each_answer_tells_the_true_place() {
    let world = World::start(synced()).await;
    let answers = publish(&world, 12, own).await;
    assert!(batches(&world, "stored").await > 0);
    check(&world, &answers).await;
}

#[tokio::test]
async fn events_that_were_stored_before_are_recognised_among_many() {
    let world = World::start(synced()).await;
    // Every event is posted by two clients.
    let answers = publish(&world, 12, |client, round| own(client / 2, round)).await;
    assert!(batches(&world, "duplicate").await + batches(&world, "stored").await > 0);
    check(&world, &answers).await;
}

#[tokio::test]
async fn when_other_services_use_up_the_brokers_batches_all_goes_on_one_by_one() {
    let world = World::start(synced()).await;
    let client = world.js.client();
    for number in 0..50 {
        let mut headers = async_nats::HeaderMap::new();
        headers.insert("Nats-Batch-Id", format!("open-{number}"));
        headers.insert("Nats-Batch-Sequence", "1");
        headers.insert("ce-id", "by another");
        let first = async_nats::Request::new().headers(headers);
        client.send_request("events.other.0.T", first).await.unwrap();
    }
    let answers = publish(&world, 6, own).await;
    assert!(batches(&world, "failed").await > 0);
    check(&world, &answers).await;
}

#[tokio::test]
async fn a_connection_that_is_lost_in_the_middle_of_batches_loses_and_doubles_nothing() {
    let mut world = World::start(Setup { sidecar: false, ..synced() }).await;
    let wire = Wire::to(world.broker.port(), Duration::ZERO).await;
    world.wire = Some(wire.port);
    world.run().await;
    let cut = tokio::spawn(async move {
        loop {
            tokio::time::sleep(Duration::from_millis(250)).await;
            wire.cut();
        }
    });
    let answers = publish(&world, 12, own).await;
    cut.abort();
    check(&world, &answers).await;
}

#[tokio::test]
async fn when_the_answer_to_a_batch_never_comes_nobody_is_told_that_nothing_was_stored() {
    let mut world = World::start(Setup { sidecar: false, ..synced() }).await;
    let wire = Wire::to(world.broker.port(), Duration::ZERO).await;
    world.wire = Some(wire.port);
    world.run().await;
    let local = world.local;
    let clients: Vec<_> = (0..CLIENTS)
        .map(|client| {
            tokio::spawn(async move {
                let mut http = Http::connect(local).await;
                for round in 0.. {
                    let id = own(client, round);
                    let answer = http.send("POST", "/v1/events/T", &[("ce-id", id.as_str())], "").await;
                    if answer.status != 200 {
                        return (id, answer.json()["outcome"].as_str().unwrap().to_owned());
                    }
                }
                unreachable!()
            })
        })
        .collect();
    while batches(&world, "stored").await < 5 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // What is sent now is stored without an answer.
    wire.hold();
    tokio::time::sleep(Duration::from_millis(500)).await;
    wire.end();
    let mut outcomes = BTreeMap::new();
    for client in clients {
        let (id, outcome) = client.await.unwrap();
        outcomes.insert(id, outcome);
    }
    let mut open = 0;
    for sequence in 1..=world.stored(EVENTS).await {
        let id = world.message(EVENTS, sequence).await.headers.get("ce-id").unwrap().to_string();
        if let Some(outcome) = outcomes.get(&id) {
            assert_eq!(outcome, "unknown", "{id} is stored");
            open += 1;
        }
    }
    assert!(open > 0, "no answer was on its way: {outcomes:?}");
}
