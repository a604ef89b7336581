//! Delivery in batches: what comes together, and what an answer says of each.

use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use murmur_mesh::stream::DEAD_LETTERS;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::delivery::{keyed, none, world};
use crate::support::{Received, Service, subscription};

fn batched() -> serde_json::Value {
    json!({"maxEvents": 10, "maxWait": 100})
}

/// The ids of the events in a batch, and their places in the store.
fn members(one: &Received) -> Vec<(String, String)> {
    let events: Vec<serde_json::Value> = serde_json::from_slice(&one.body).unwrap();
    let text = |event: &serde_json::Value, name: &str| event[name].as_str().unwrap_or_default().to_owned();
    events.iter().map(|event| (text(event, "id"), text(event, "murmursequence"))).collect()
}

#[tokio::test]
async fn events_come_in_batches_with_one_of_each_key() {
    let service = Service::ok().await;
    let mut many = subscription("all", service.port, keyed());
    many["deliver"]["batch"] = batched();
    let world = world(vec![many]).await;
    world.fill(100, |id| format!("k{}", id % 20)).await;
    world.until_done("all-0").await;
    let received = service.received();
    let all: Vec<_> = received.iter().flat_map(members).collect();
    assert_eq!(all.len(), 100, "each came once");
    assert!(received.len() < 40, "{} requests", received.len());
    for one in &received {
        assert_eq!(one.header("content-type"), "application/cloudevents-batch+json");
        let mut keys: Vec<_> = members(one).iter().map(|(id, _)| id.parse::<u64>().unwrap() % 20).collect();
        let number = keys.len();
        keys.sort_unstable();
        keys.dedup();
        assert!((1..=10).contains(&number) && keys.len() == number);
    }
    for key in 0..20 {
        let ids = all.iter().map(|(id, _)| id.parse::<u64>().unwrap()).filter(|id| id % 20 == key);
        assert!(ids.is_sorted());
    }
    let event = &serde_json::from_slice::<serde_json::Value>(&received[0].body).unwrap()[0];
    assert_eq!(
        (&event["type"], &event["data"], &event["specversion"]),
        (&json!("T"), &json!({}), &json!("1.0"))
    );
}

#[tokio::test]
async fn the_results_of_a_batch_say_what_becomes_of_each_event_and_who_is_not_named_comes_again() {
    let service = Service::saying(|one| {
        let results: Vec<_> = members(one)
            .into_iter()
            .filter(|(id, _)| id != "3" || one.body.windows(18).any(|part| part == b"\"murmurattempt\":2,"))
            .map(|(id, sequence)| {
                let outcome = if id == "5" { "reject" } else { "done" };
                json!({"sequence": sequence, "outcome": outcome, "reason": "no fives"})
            })
            .collect();
        json!({"results": results}).to_string()
    })
    .await;
    let mut many = subscription("all", service.port, none());
    many["deliver"]["batch"] = batched();
    let world = world(vec![many]).await;
    world.fill(8, |id| id.to_string()).await;
    world.until_done("all-all").await;
    let ids: Vec<_> = service.received().iter().flat_map(members).map(|(id, _)| id).collect();
    assert_eq!(ids.iter().filter(|id| *id == "3").count(), 2);
    assert_eq!(ids.len(), 9);
    assert_eq!(world.stored(DEAD_LETTERS).await, 1);
    let letter = world.message(DEAD_LETTERS, 1).await;
    assert_eq!(letter.headers.get("murmur-dead-cause").unwrap().as_str(), "no fives");
}

#[tokio::test]
async fn one_bad_event_in_a_batch_takes_no_other_with_it() {
    let service = Service::start(|one| {
        (if members(one).iter().any(|(id, _)| id == "4") { 400 } else { 200 }, Duration::ZERO)
    })
    .await;
    let mut many = subscription("all", service.port, none());
    many["deliver"]["batch"] = batched();
    let world = world(vec![many]).await;
    world.fill(10, |id| id.to_string()).await;
    world.until_done("all-all").await;
    assert_eq!(world.stored(DEAD_LETTERS).await, 1);
    assert_eq!(world.message(DEAD_LETTERS, 1).await.headers.get("ce-id").unwrap().as_str(), "4");
}

#[tokio::test]
async fn the_answer_to_a_batch_counts_only_when_it_is_all_there_however_late() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let batches = Arc::<Mutex<Vec<String>>>::default();
    let seen = batches.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = Vec::new();
            // One event, whose batch ends with the first closing bracket.
            while !request.ends_with(b"]") {
                request.push(stream.read_u8().await.unwrap());
            }
            let number = {
                let mut seen = seen.lock().unwrap();
                seen.push(String::from_utf8(request).unwrap());
                seen.len()
            };
            let head = "HTTP/1.1 200 OK\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n";
            stream.write_all(head.as_bytes()).await.unwrap();
            let body = match number {
                1 => {
                    tokio::time::sleep(Duration::from_millis(1500)).await;
                    r#"{"results": [{"sequence": "1", "outcome": "retry"}]}"#
                }
                // Cut before the first byte.
                2 => continue,
                _ => "{}",
            };
            let body = format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
            stream.write_all(body.as_bytes()).await.unwrap();
        }
    });
    let mut many = subscription("all", port, none());
    many["deliver"]["batch"] = batched();
    let world = world(vec![many]).await;
    world.fill(1, |id| id.to_string()).await;
    world.until_done("all-all").await;
    let batches = batches.lock().unwrap();
    assert_eq!(batches.len(), 3, "{batches:#?}");
    assert!(batches[2].contains(r#""murmurattempt":3"#), "{batches:#?}");
    assert!(batches[2].contains(r#""murmurreplay":"false""#), "{batches:#?}");
}
