//! Batch content mode: a caller's own batch is stored all at once, or not at all.

use std::time::Duration;

use murmur_mesh::stream::EVENTS;
use murmur_sidecar::limits::Limits;
use serde_json::{Value, json};

use crate::support::{Answer, Setup, Wire, World, eventually, post};

const BATCH: (&str, &str) = ("content-type", "application/cloudevents-batch+json");

fn event(id: &str) -> Value {
    json!({"specversion": "1.0", "type": "T", "id": id, "source": "/s", "data": {"of": id}})
}

fn events(ids: impl Iterator<Item = usize>) -> Vec<Value> {
    ids.map(|id| event(&id.to_string())).collect()
}

async fn send(world: &World, batch: &[Value]) -> Answer {
    post(world.local, "/v1/events", &[BATCH], serde_json::to_vec(batch).unwrap()).await
}

/// The results of a batch that was stored: id, sequence, duplicate.
fn results(answer: &Answer) -> Vec<(String, u64, bool)> {
    assert_eq!(answer.status, 200, "{answer:?}");
    let json = answer.json();
    let result = |one: &Value| {
        (
            one["id"].as_str().unwrap().to_owned(),
            one["sequence"].as_u64().unwrap(),
            one["duplicate"].as_bool().unwrap(),
        )
    };
    json["results"].as_array().unwrap().iter().map(result).collect()
}

#[tokio::test]
async fn a_batch_is_stored_and_each_event_is_where_its_result_says() {
    let world = World::start(Setup::default()).await;
    world.publish("before", "k").await;
    let mut batch = events(1..4);
    batch[1].as_object_mut().unwrap().remove("id");
    let answer = send(&world, &batch).await;
    let results = results(&answer);
    assert_eq!(results.iter().map(|(_, sequence, _)| *sequence).collect::<Vec<_>>(), [2, 3, 4]);
    for (id, sequence, duplicate) in &results {
        let message = world.message(EVENTS, *sequence).await;
        assert_eq!(message.headers.get("ce-id").unwrap().as_str(), id);
        assert!(!duplicate);
    }
    assert_eq!(world.message(EVENTS, 4).await.payload, r#"{"of":"3"}"#);
    assert_eq!(results[0].0, "1");
    assert!(results[1].0.len() > 30, "an id was filled in");
}

#[tokio::test]
async fn a_batch_that_comes_twice_is_stored_once_and_answered_with_its_places() {
    let world = World::start(Setup::default()).await;
    let first = results(&send(&world, &events(0..100)).await);
    let again = results(&send(&world, &events(0..100)).await);
    let as_before: Vec<_> = first.into_iter().map(|(id, sequence, _)| (id, sequence, true)).collect();
    assert_eq!(again, as_before);
    assert_eq!(world.stored(EVENTS).await, 100);
}

#[tokio::test]
async fn a_batch_of_which_a_part_was_stored_before_is_refused_and_the_part_is_named() {
    let world = World::start(Setup::default()).await;
    results(&send(&world, &events(1..3)).await);
    let answer = send(&world, &events(0..4)).await;
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (409, "partlyStored"));
    let expected = json!([
        {"id": "0", "source": "/s", "outcome": "notStored"},
        {"id": "1", "source": "/s", "outcome": "stored", "sequence": 1},
        {"id": "2", "source": "/s", "outcome": "stored", "sequence": 2},
        {"id": "3", "source": "/s", "outcome": "notStored"},
    ]);
    assert_eq!(answer.json()["results"], expected);
    assert_eq!(world.stored(EVENTS).await, 2, "a question stores nothing");
    let rest = [event("0"), event("3")];
    assert_eq!(results(&send(&world, &rest).await), [("0".into(), 3, false), ("3".into(), 4, false)]);
}

#[tokio::test]
async fn a_batch_of_1000_is_stored_and_one_of_1001_is_refused() {
    let world = World::start(Setup::default()).await;
    let answer = send(&world, &events(0..1001)).await;
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (413, "tooLarge"));
    assert_eq!(world.stored(EVENTS).await, 0);
    assert_eq!(results(&send(&world, &events(0..1000)).await).last().unwrap().1, 1000);
}

#[tokio::test]
async fn an_empty_batch_has_no_results() {
    let world = World::start(Setup::default()).await;
    assert_eq!(results(&send(&world, &[]).await), []);
}

#[tokio::test]
async fn a_batch_with_one_event_that_cannot_be_published_stores_nothing_and_names_it() {
    let world = World::start(Setup { broker: "max_payload: 200000".into(), ..Setup::default() }).await;
    let mut other_type = event("2");
    other_type["type"] = "Other".into();
    let mut large = event("2");
    large["data"] = "x".repeat(200_000).into();
    let cases = [
        (json!({"type": "T", "id": ""}), 400, "malformed"),
        (json!({"id": "2"}), 400, "malformed"),
        (json!(2), 400, "malformed"),
        (event("1"), 400, "malformed"),
        (other_type, 403, "typeNotPublished"),
        (large, 413, "tooLarge"),
    ];
    for (second, status, code) in cases {
        let answer = send(&world, &[event("1"), second, event("3")]).await;
        assert_eq!((answer.status.as_u16(), answer.code().as_str()), (status, code), "{answer:?}");
        let json = answer.json();
        let detail = json["detail"].as_str().unwrap();
        assert!(detail.starts_with("event 1 of the batch"), "{detail}");
    }
    assert_eq!(world.stored(EVENTS).await, 0);
}

#[tokio::test]
async fn a_batch_for_which_there_is_no_room_in_the_store_is_not_stored_in_part() {
    let world = World::start(Setup { max_bytes: 20_000, ..Setup::default() }).await;
    let answer = send(&world, &events(0..200)).await;
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (507, "storeFull"), "{answer:?}");
    assert_eq!(answer.json()["outcome"], "notStored");
    assert_eq!(answer.json()["results"][7], json!({"id": "7", "source": "/s", "outcome": "notStored"}));
    assert_eq!(world.stored(EVENTS).await, 0);
    results(&send(&world, &events(0..10)).await);
}

#[tokio::test]
async fn a_batch_waits_until_others_have_ended_theirs_and_says_so_if_they_do_not() {
    let limits = Limits { publish_timeout: Duration::from_secs(1), ..Limits::default() };
    let world = World::start(Setup { limits, ..Setup::default() }).await;
    let client = world.js.client();
    for number in 0..50 {
        let mut headers = async_nats::HeaderMap::new();
        headers.insert("Nats-Batch-Id", format!("open-{number}"));
        headers.insert("Nats-Batch-Sequence", "1");
        let first = async_nats::Request::new().headers(headers);
        client.send_request("events.other.0.T", first).await.unwrap();
    }
    let answer = send(&world, &events(0..3)).await;
    // 504 where the machine was too busy for the last refusal to arrive in time.
    assert!([503, 504].contains(&answer.status.as_u16()), "{answer:?}");
    assert_eq!(world.stored(EVENTS).await, 0);
    // The broker gives up open batches after 10 s.
    eventually("it is stored", async || send(&world, &events(0..3)).await.status == 200).await;
    assert_eq!(world.stored(EVENTS).await, 3);
}

#[tokio::test]
async fn batches_survive_a_short_loss_of_the_connection_whole_and_once() {
    let mut world = World::start(Setup { sidecar: false, ..Setup::default() }).await;
    let wire = Wire::to(world.broker.port(), Duration::ZERO).await;
    world.wire = Some(wire.port);
    world.run().await;
    let cut = tokio::spawn(async move {
        loop {
            tokio::time::sleep(Duration::from_millis(100)).await;
            wire.cut();
        }
    });
    for batch in 0..50 {
        let batch = events(batch * 100..(batch + 1) * 100);
        let mut answer = send(&world, &batch).await;
        // On a busy machine there may be too little time between two cuts.
        while answer.status == 503 && answer.json()["outcome"] == "unknown" {
            answer = send(&world, &batch).await;
        }
        let results = results(&answer);
        let first = results[0].1;
        assert!(results.iter().zip(first..).all(|((_, sequence, _), expected)| *sequence == expected));
    }
    cut.abort();
    assert_eq!(world.stored(EVENTS).await, 5000);
}

#[tokio::test]
async fn a_batch_while_the_bus_is_away_is_answered_with_503_and_its_ids() {
    let mut world = World::start(Setup::default()).await;
    world.broker.kill().await.unwrap();
    let mut answer = send(&world, &events(0..2)).await;
    // The first may have been sent before the loss was noticed: then its outcome is open.
    while answer.json()["outcome"] != "notStored" {
        answer = send(&world, &events(0..2)).await;
    }
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (503, "busAway"));
    assert_eq!(answer.json()["results"][1], json!({"id": "1", "source": "/s", "outcome": "notStored"}));
    assert!(answer.headers.contains_key("retry-after"));
}
