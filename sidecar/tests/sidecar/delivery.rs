//! What arrives at the service, and what its answers lead to.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_nats::HeaderMap;
use murmur_mesh::durable::{ACK_WAIT, DurableName, Shard};
use murmur_mesh::stream::{DEAD_LETTERS, EVENTS};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::support::{Received, Service, Setup, World, eventually, get, post, subscription};

const NOW: Duration = Duration::ZERO;

pub(crate) fn none() -> serde_json::Value {
    json!({"policy": "none"})
}

pub(crate) fn keyed() -> serde_json::Value {
    json!({"policy": "key", "shards": 1})
}

pub(crate) async fn world(subscriptions: Vec<serde_json::Value>) -> World {
    World::start(Setup { subscriptions, ..Setup::default() }).await
}

#[tokio::test]
async fn an_event_arrives_as_it_was_posted_with_what_the_sidecar_knows_of_it() {
    let service = Service::ok().await;
    let world = world(vec![subscription("all", service.port, keyed())]).await;
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let headers = [
        ("content-type", "text/x-mine"),
        ("ce-id", "Euro%20%E2%82%AC"),
        ("ce-source", "/mine"),
        ("ce-time", "2026-11-21T09:00:00Z"),
        ("ce-partitionkey", "k"),
        ("ce-myextension", "7"),
        ("traceparent", trace),
        ("tracestate", "a=1"),
    ];
    post(world.local, "/v1/events/T", &headers, "the data").await;
    eventually("it arrives", async || service.count() == 1).await;
    world.until_done("all-0").await;
    let received = &service.received()[0];
    assert_eq!((received.path.as_str(), &received.body[..]), ("/events", &b"the data"[..]));
    for (name, value) in headers {
        assert_eq!(received.header(name), value, "{name}");
    }
    for (name, value) in [
        ("ce-specversion", "1.0"),
        ("ce-type", "T"),
        ("murmur-subscription", "all"),
        ("murmur-sequence", "1"),
        ("murmur-attempt", "1"),
        ("murmur-replay", "false"),
        ("authorization", "Bearer a-token"),
        ("content-length", "8"),
    ] {
        assert_eq!(received.header(name), value, "{name}");
    }
    assert!(!received.headers.contains_key("nats-msg-id"));
    assert!(!received.headers.contains_key("murmur-format"));
}

#[tokio::test]
async fn every_event_reaches_every_subscription_once() {
    let service = Service::ok().await;
    let four = json!({"policy": "key", "shards": 4});
    let world =
        world(vec![subscription("free", service.port, none()), subscription("keyed", service.port, four)])
            .await;
    world.fill(500, |id| format!("k{}", id % 50)).await;
    eventually("all arrive", async || service.count() >= 1000).await;
    world.until_done("free-all").await;
    for shard in 0..4 {
        world.until_done(&format!("keyed-{shard}")).await;
    }
    for name in ["free", "keyed"] {
        let mut ids: Vec<_> = service
            .received()
            .iter()
            .filter(|one| one.header("murmur-subscription") == name)
            .map(|one| one.id().to_owned())
            .collect();
        assert_eq!(ids.len(), 500, "{name}");
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), 500, "{name}: some came twice");
    }
}

#[tokio::test]
async fn a_rejected_event_becomes_a_dead_letter_at_once_and_blocks_nothing() {
    let service = Service::start(|one| (if one.id() == "bad" { 422 } else { 200 }, NOW)).await;
    let world = world(vec![subscription("all", service.port, keyed())]).await;
    world.publish("1", "k").await;
    world.publish("bad", "k").await;
    world.publish("3", "k").await;
    world.until_done("all-0").await;
    assert_eq!(service.ids(), ["1", "bad", "3"]);
    assert_eq!(world.stored(DEAD_LETTERS).await, 1);
    let letter = world.message(DEAD_LETTERS, 1).await;
    let original = world.message(EVENTS, 2).await;
    assert_eq!(letter.subject.as_str(), "dead.users.all.0.2");
    assert_eq!(letter.payload, original.payload);
    for (name, values) in original.headers.iter() {
        let text: &str = name.as_ref();
        if !text.starts_with("Nats-") {
            assert_eq!(letter.headers.get(text), values.first(), "{text}");
        }
    }
    let header = |name: &str| letter.headers.get(name).map(ToString::to_string).unwrap_or_default();
    assert_eq!(header("murmur-dead-reason"), "rejected");
    assert_eq!(header("murmur-dead-cause"), "the service answered 422 Unprocessable Entity: said 422");
    assert_eq!(header("murmur-dead-attempts"), "1");
    assert_eq!(header("murmur-dead-sequence"), "2");
    assert_eq!(header("murmur-dead-stream"), "2026-11-21T09:00:00Z");
    assert_eq!(header("murmur-dead-subject"), original.subject.as_str());
    for name in ["murmur-dead-first-attempt", "murmur-dead-last-attempt"] {
        assert!(header(name).parse::<jiff::Timestamp>().is_ok(), "{name}");
    }
}

#[tokio::test]
async fn an_event_that_fails_for_ever_becomes_a_dead_letter_while_other_keys_go_on() {
    let service = Service::start(|one| (if one.id() == "7" { 500 } else { 200 }, NOW)).await;
    let mut all = subscription("all", service.port, keyed());
    // A busy machine has sent the others by then.
    all["retry"]["initialDelay"] = 2_000.into();
    all["retry"]["maxDelay"] = 2_000.into();
    let world = world(vec![all]).await;
    world.fill(100, |id| format!("k{}", id % 10)).await;
    world.until_done("all-0").await;
    let received = service.received();
    let attempts: Vec<_> = received.iter().filter(|one| one.id() == "7").map(Received::attempt).collect();
    assert_eq!(attempts, [1, 2, 3]);
    // The others of its key waited for it, those of other keys did not.
    let last_try = received.iter().rposition(|one| one.id() == "7").unwrap();
    let position = |id: &str| received.iter().position(|one| one.id() == id).unwrap();
    assert!(position("17") > last_try);
    assert!(position("98") < last_try);
    assert_eq!(world.stored(DEAD_LETTERS).await, 1);
    let letter = world.message(DEAD_LETTERS, 1).await;
    assert_eq!(letter.headers.get("murmur-dead-reason").unwrap().as_str(), "exhausted");
    assert_eq!(letter.headers.get("murmur-dead-attempts").unwrap().as_str(), "3");
}

#[tokio::test]
async fn with_discard_an_event_that_is_given_up_is_dropped() {
    let service = Service::start(|_| (400, NOW)).await;
    let mut discard = subscription("all", service.port, none());
    discard["deadLetter"] = "discard".into();
    let world = world(vec![discard]).await;
    world.publish("1", "k").await;
    eventually("it arrives", async || service.count() == 1).await;
    world.until_done("all-all").await;
    assert_eq!(world.stored(DEAD_LETTERS).await, 0);
}

#[tokio::test]
async fn one_event_given_up_by_two_subscriptions_gives_two_dead_letters() {
    let service = Service::start(|_| (400, NOW)).await;
    let world =
        world(vec![subscription("a", service.port, none()), subscription("b", service.port, keyed())]).await;
    world.publish("1", "k").await;
    eventually("both are stored", async || world.stored(DEAD_LETTERS).await == 2).await;
}

#[tokio::test]
async fn a_message_that_is_no_event_becomes_a_dead_letter_and_is_not_delivered() {
    let service = Service::ok().await;
    let world = world(vec![subscription("all", service.port, keyed())]).await;
    world.js.publish("events.users.1.T", "bare".into()).await.unwrap().await.unwrap();
    let mut headers = HeaderMap::new();
    headers.insert("ce-id", "1");
    headers.insert("Nats-Msg-Id", "1");
    world.js.publish_with_headers("events.users.1.T", headers, "half".into()).await.unwrap().await.unwrap();
    world.publish("good", "k").await;
    world.until_done("all-0").await;
    assert_eq!(service.ids(), ["good"]);
    assert_eq!(world.stored(DEAD_LETTERS).await, 2);
    for (sequence, payload) in [(1, "bare"), (2, "half")] {
        let letter = world.message(DEAD_LETTERS, sequence).await;
        assert_eq!(letter.payload, payload);
        assert_eq!(letter.headers.get("murmur-dead-reason").unwrap().as_str(), "malformed");
    }
}

#[tokio::test]
async fn a_dead_letter_that_is_there_already_is_not_stored_again() {
    let service = Service::start(|_| (400, NOW)).await;
    let world = world(vec![subscription("all", service.port, keyed())]).await;
    // As if the sidecar had died between the copy and the end of the original.
    world.js.publish("dead.users.all.0.1", "first".into()).await.unwrap().await.unwrap();
    world.publish("1", "k").await;
    eventually("it arrives", async || service.count() == 1).await;
    world.until_done("all-0").await;
    assert_eq!(world.stored(DEAD_LETTERS).await, 1);
    assert_eq!(world.message(DEAD_LETTERS, 1).await.payload, "first");
}

#[tokio::test]
async fn never_more_events_are_with_the_service_than_the_concurrency_allows() {
    let service = Service::start(|_| (200, Duration::from_millis(20))).await;
    let mut four = subscription("all", service.port, json!({"policy": "key", "shards": 2}));
    four["deliver"]["concurrency"] = 4.into();
    let world = world(vec![four]).await;
    world.fill(100, |id| id.to_string()).await;
    eventually("all arrive", async || service.count() == 100).await;
    assert_eq!(service.most_at_once(), 4);
}

#[tokio::test]
async fn a_slow_service_is_not_hit_twice() {
    let slow = ACK_WAIT + Duration::from_secs(4);
    let service = Service::start(move |one| (200, if one.id() == "1" { slow } else { NOW })).await;
    let world = world(vec![subscription("all", service.port, none())]).await;
    // What the broker delivers again may go to another replica.
    let _second = world.another().await;
    world.publish("1", "k").await;
    world.until_done("all-all").await;
    assert_eq!(service.ids(), ["1"]);
}

#[tokio::test]
async fn a_service_that_answers_too_late_is_tried_again() {
    let service =
        Service::start(|one| (200, if one.attempt() == 1 { Duration::from_secs(5) } else { NOW })).await;
    let mut hasty = subscription("all", service.port, none());
    hasty["deliver"]["timeout"] = 200.into();
    let world = world(vec![hasty]).await;
    world.publish("1", "k").await;
    eventually("it is tried again", async || service.count() == 2).await;
    world.until_done("all-all").await;
    assert_eq!(world.stored(DEAD_LETTERS).await, 0);
}

#[tokio::test]
async fn a_kept_connection_that_the_service_closes_costs_no_attempt() {
    // A service that takes the second request of each connection and closes without a word.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let attempts = Arc::new(Mutex::new(Vec::new()));
    let seen = attempts.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let seen = seen.clone();
            tokio::spawn(async move {
                let mut buffer = vec![0; 8192];
                for answered in [true, false] {
                    let length = stream.read(&mut buffer).await.unwrap();
                    if length == 0 {
                        return;
                    }
                    let text = String::from_utf8_lossy(&buffer[..length]).to_string();
                    let line =
                        text.lines().find(|line| line.starts_with("murmur-attempt")).unwrap().to_owned();
                    if answered {
                        seen.lock().unwrap().push(line);
                        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
                    }
                }
            });
        }
    });
    let world = world(vec![subscription("all", port, keyed())]).await;
    for id in ["1", "2", "3"] {
        world.publish(id, "k").await;
    }
    world.until_done("all-0").await;
    assert_eq!(*attempts.lock().unwrap(), ["murmur-attempt: 1"; 3]);
    let status = get(world.local, "/v1/status").await.json();
    assert_eq!(status["subscriptions"][0]["held"], serde_json::Value::Null);
}

#[tokio::test]
async fn without_an_order_two_sidecars_share_the_events() {
    let service = Service::start(|_| (200, Duration::from_millis(30))).await;
    let mut free = subscription("all", service.port, none());
    free["deliver"]["concurrency"] = 2.into();
    let world = world(vec![free]).await;
    let second = world.another().await;
    world.fill(200, |id| id.to_string()).await;
    eventually("all arrive", async || service.count() == 200).await;
    for admin in [world.admin, second.admin] {
        let text = String::from_utf8(get(admin, "/metrics").await.body.to_vec()).unwrap();
        let line = "murmur_sidecar_delivery_attempts_total{subscription=\"all\",outcome=\"done\"} ";
        let done = text.lines().find_map(|one| one.strip_prefix(line)).unwrap_or("0");
        assert!(done.parse::<u64>().unwrap() > 50, "{done}");
    }
}

#[tokio::test]
async fn large_events_pass_within_the_bounds_of_memory() {
    let service = Service::ok().await;
    let world = world(vec![subscription("all", service.port, keyed())]).await;
    for id in 0..40 {
        let data = vec![b'x'; 900_000];
        let answer = post(world.local, "/v1/events/T", &[("ce-id", &id.to_string())], data).await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    eventually("all arrive", async || service.count() == 40).await;
    world.until_done("all-0").await;
}

#[tokio::test]
async fn a_replay_says_so_up_to_its_boundary_and_brings_no_redriven_copy_twice() {
    let service = Service::ok().await;
    let mut replayed = subscription("all", service.port, keyed());
    replayed["replay"] = json!({"id": "a b", "boundary": 3});
    let setup = Setup { subscriptions: vec![replayed], sidecar: false, ..Setup::default() };
    let mut world = World::start(setup).await;
    world.fill(2, |_| "k".to_owned()).await;
    for id in ["2", "4"] {
        // The first copy is at the boundary, the second beyond it.
        world.store_at("redrive.users.all.1".to_owned(), id, "k", "{}").await.await.unwrap();
    }
    world.run().await;
    eventually("all arrive", async || service.count() == 3).await;
    let durable = DurableName::new(&"all".parse().unwrap(), Shard::Number(0), Some("a b"));
    world.until_done(durable.as_str()).await;
    let said: Vec<_> = service
        .received()
        .iter()
        .map(|one| format!("{} {} {}", one.id(), one.header("murmur-sequence"), one.header("murmur-replay")))
        .collect();
    assert_eq!(said, ["1 1 a%20b", "2 2 a%20b", "4 4 false"]);
}

#[tokio::test]
async fn a_suspended_subscription_gives_back_what_it_has_and_goes_on_where_it_was() {
    let service = Service::start(|_| (200, Duration::from_millis(50))).await;
    let mut world = world(vec![subscription("all", service.port, keyed())]).await;
    world.fill(200, |id| format!("k{}", id % 5)).await;
    eventually("some arrive", async || service.count() > 10).await;
    world.configure(|config| config["subscriptions"][0]["suspend"] = true.into()).await;
    world.until_configured().await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let before = service.count();
    let status = get(world.local, "/v1/status").await.json();
    assert_eq!(status["subscriptions"][0]["buffered"], 0, "{status}");
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(service.count(), before, "nothing is sent");
    world.configure(|config| config["subscriptions"][0]["suspend"] = false.into()).await;
    world.until_done("all-0").await;
    assert_eq!(service.count(), 200, "each came once");
}

#[tokio::test]
async fn what_the_filter_is_false_for_is_passed_over_and_counted() {
    let service = Service::ok().await;
    let mut filtered = subscription("all", service.port, keyed());
    filtered["filter"] = "event.data.price > 10 && event.extensions.color != 'red'".into();
    let world = world(vec![filtered]).await;
    for (id, data, color) in [
        ("cheap", r#"{"price": 9}"#, "blue"),
        ("dear", r#"{"price": 10.5}"#, "blue"),
        ("red", r#"{"price": 11}"#, "red"),
        ("priceless", "{}", "blue"),
        ("last", r#"{"price": 11}"#, "blue"),
    ] {
        let headers = [("ce-id", id), ("ce-color", color), ("content-type", "application/json")];
        assert_eq!(post(world.local, "/v1/events/T", &headers, data).await.status, 200);
    }
    eventually("what passes arrives", async || service.count() == 2).await;
    world.until_done("all-0").await;
    assert_eq!(service.ids(), ["dear", "last"]);
    let text = String::from_utf8(get(world.admin, "/metrics").await.body.to_vec()).unwrap();
    for (reason, number) in [("filtered", 2), ("filter_failed", 1)] {
        let line = format!(
            "murmur_sidecar_events_passed_over_total{{subscription=\"all\",reason=\"{reason}\"}} {number}"
        );
        assert!(text.contains(&line), "{line} is not in {text}");
    }
}

#[tokio::test]
async fn a_filter_that_does_not_compile_holds_its_subscription_and_says_why() {
    let service = Service::ok().await;
    let mut broken = subscription("all", service.port, keyed());
    broken["filter"] = "event.data.tags.exists(tag, tag == 'new')".into();
    let mut world = world(vec![broken]).await;
    world.publish("1", "k").await;
    eventually("it holds", async || {
        let status = get(world.local, "/v1/status").await.json();
        status["subscriptions"][0]["held"].as_str().is_some_and(|cause| cause.contains("loops"))
    })
    .await;
    assert_eq!(service.count(), 0);
    world.configure(|config| config["subscriptions"][0]["filter"] = "event.id == '1'".into()).await;
    eventually("it goes on", async || service.count() == 1).await;
}

/// A service that answers each request with these bytes and keeps the connection open.
async fn answering(bytes: &'static [u8]) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut buffer = vec![0; 8192];
                while stream.read(&mut buffer).await.is_ok_and(|length| length > 0) {
                    if stream.write_all(bytes).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    port
}

#[tokio::test]
async fn a_service_that_answers_garbage_gets_its_attempts_and_then_the_event_is_a_dead_letter_with_the_cause()
{
    let world = world(vec![
        subscription("garbage", answering(b"SSH-2.0-Open\r\n\r\n").await, none()),
        subscription("good", Service::ok().await.port, none()),
    ])
    .await;
    world.publish("1", "k").await;
    world.until_done("garbage-all").await;
    let letter = world.message(DEAD_LETTERS, 1).await;
    assert!(letter.headers.get("murmur-dead-cause").unwrap().as_str().contains("not HTTP"), "{letter:?}");
    assert_eq!(letter.headers.get("murmur-dead-attempts").unwrap().as_str(), "3");
}

#[tokio::test]
async fn the_status_of_an_answer_whose_body_never_ends_decides() {
    let endless = answering(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\nand so on").await;
    let chunked = answering(b"HTTP/1.1 422 No\r\ntransfer-encoding: chunked\r\n\r\n3\r\nbad\r\n").await;
    let world = world(vec![subscription("done", endless, none()), subscription("no", chunked, none())]).await;
    for id in ["1", "2", "3"] {
        world.publish(id, "k").await;
    }
    world.until_done("done-all").await;
    world.until_done("no-all").await;
    assert_eq!(world.stored(DEAD_LETTERS).await, 3);
    let cause = world.message(DEAD_LETTERS, 1).await.headers.get("murmur-dead-cause").unwrap().to_string();
    assert!(cause.ends_with(": bad"), "{cause}");
}
