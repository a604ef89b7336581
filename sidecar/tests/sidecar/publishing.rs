//! What a service posts, and what then is in the event store.

use std::time::Duration;

use murmur_mesh::stream::EVENTS;
use murmur_sidecar::limits::Limits;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{Http, Setup, World, eventually, get, key, post};

fn headers(message: &async_nats::jetstream::message::StreamMessage) -> Vec<(String, String)> {
    let mut headers: Vec<_> = message
        .headers
        .iter()
        .flat_map(|(name, values)| values.iter().map(move |value| (name.to_string(), value.to_string())))
        .collect();
    headers.sort();
    headers
}

#[tokio::test]
async fn a_binary_event_is_stored_byte_for_byte() {
    let world = World::start(Setup::default()).await;
    let data: Vec<u8> = (0..=255).collect();
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let answer = post(
        world.local,
        "/v1/events",
        &[
            ("content-type", "application/x-mine"),
            ("ce-specversion", "1.0"),
            ("ce-type", "T"),
            ("ce-id", "id-1"),
            ("ce-source", "/mine"),
            ("ce-time", "2026-11-21T09:00:00Z"),
            ("ce-subject", "Euro%20%E2%82%AC"),
            ("ce-partitionkey", "user-1"),
            ("ce-myextension", "7"),
            ("traceparent", trace),
        ],
        data.clone(),
    )
    .await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.json(), serde_json::json!({"id": "id-1", "sequence": 1, "duplicate": false}));
    assert_eq!(answer.headers["ce-id"], "id-1");

    let message = world.message(EVENTS, 1).await;
    assert_eq!(message.subject.as_str(), "events.users.9.T");
    assert_eq!(message.payload, data);
    let message_id = key().message_id(&"users".parse().unwrap(), "/mine", "id-1");
    let expected: Vec<(String, String)> = [
        ("Nats-Msg-Id", message_id.as_str()),
        ("ce-datacontenttype", "application/x-mine"),
        ("ce-id", "id-1"),
        ("ce-myextension", "7"),
        ("ce-partitionkey", "user-1"),
        ("ce-source", "/mine"),
        ("ce-specversion", "1.0"),
        ("ce-subject", "Euro%20%E2%82%AC"),
        ("ce-time", "2026-11-21T09:00:00Z"),
        ("ce-type", "T"),
        ("murmur-format", "1"),
        ("traceparent", trace),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .to_vec();
    assert_eq!(headers(&message), expected);
}

#[tokio::test]
async fn a_structured_event_keeps_the_bytes_of_its_data_and_gets_what_it_lacks() {
    let world = World::start(Setup::default()).await;
    let body = r#"{"specversion":"1.0","type":"com.example.größe","data":{ "b" : 1.0,"a":"x" }}"#;
    let answer =
        post(world.local, "/v1/events", &[("content-type", "application/cloudevents+json")], body).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let id = answer.json()["id"].as_str().unwrap().to_owned();
    assert_eq!(answer.headers["ce-id"], id.as_str());

    let message = world.message(EVENTS, 1).await;
    assert_eq!(message.payload, r#"{ "b" : 1.0,"a":"x" }"#);
    assert!(message.subject.as_str().ends_with(".com.example.gr%C3%B6%C3%9Fe"));
    let header = |name: &str| message.headers.get(name).unwrap().to_string();
    assert_eq!(header("ce-id"), id);
    assert_eq!(header("ce-source"), "/shop/users");
    assert_eq!(header("ce-datacontenttype"), "application/json");
    assert!(header("ce-time").parse::<jiff::Timestamp>().is_ok());
}

#[tokio::test]
async fn an_event_posted_by_path_needs_nothing_but_a_body() {
    let world = World::start(Setup::default()).await;
    let answer =
        post(world.local, "/v1/events/com.example.gr%C3%B6%C3%9Fe", &[("content-type", "text/plain")], "hi")
            .await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let message = world.message(EVENTS, 1).await;
    assert_eq!(message.payload, "hi");
    assert_eq!(message.headers.get("ce-type").unwrap().as_str(), "com.example.gr%C3%B6%C3%9Fe");
    assert_eq!(message.headers.get("ce-datacontenttype").unwrap().as_str(), "text/plain");
}

#[tokio::test]
async fn an_event_that_comes_twice_is_stored_once_and_answered_with_its_place() {
    let world = World::start(Setup::default()).await;
    world.publish("a", "k").await;
    world.publish("b", "k").await;
    let again = world.publish("a", "k").await;
    assert_eq!(again.json(), serde_json::json!({"id": "a", "sequence": 1, "duplicate": true}));
    assert_eq!(world.stored(EVENTS).await, 2);
}

#[tokio::test]
async fn a_request_that_is_no_event_is_refused_with_a_reason() {
    let world = World::start(Setup::default()).await;
    let json = "application/cloudevents+json";
    let type_t = ("ce-type", "T");
    type Case<'a> = (&'a str, Vec<(&'a str, &'a str)>, &'a str, u16, &'a str);
    let cases: Vec<Case<'_>> = vec![
        ("/v1/events", vec![], "", 400, "malformed"),
        ("/v1/events", vec![("content-type", json)], "{", 400, "malformed"),
        ("/v1/events", vec![("content-type", json)], r#"{"type":"T","id":""}"#, 400, "malformed"),
        ("/v1/events", vec![("content-type", "application/cloudevents+avro")], "", 415, "formatNotSupported"),
        ("/v1/events", vec![type_t, ("ce-specversion", "0.3")], "", 400, "malformed"),
        ("/v1/events", vec![type_t, ("ce-time", "yesterday")], "", 400, "malformed"),
        ("/v1/events/T", vec![("ce-type", "U")], "", 400, "malformed"),
        ("/v1/events/T", vec![("content-type", json)], r#"{"type":"T"}"#, 400, "malformed"),
        ("/v1/events/%FF", vec![], "", 400, "malformed"),
        ("/v1/events/a..b", vec![], "", 400, "malformed"),
        ("/v1/events/Other", vec![], "", 403, "typeNotPublished"),
        ("/v2/events", vec![], "", 404, "notFound"),
    ];
    for (path, headers, body, status, code) in cases {
        let answer = post(world.local, path, &headers, body).await;
        assert_eq!((answer.status.as_u16(), answer.code().as_str()), (status, code), "{path} {headers:?}");
        assert!(answer.json()["detail"].as_str().unwrap().len() > 10);
        assert_eq!(answer.headers["murmur-error"], code);
    }
    assert_eq!(get(world.local, "/v1/events").await.status, 405);
    assert_eq!(world.stored(EVENTS).await, 0);
}

#[tokio::test]
async fn a_body_over_the_bus_limit_is_refused_and_one_below_is_stored() {
    let world = World::start(Setup { broker: "max_payload: 200000".into(), ..Setup::default() }).await;
    let limit = 200_000 - Limits::default().headroom;
    let fits = post(world.local, "/v1/events/T", &[], vec![b'x'; limit]).await;
    assert_eq!(fits.status, 200, "{fits:?}");
    let too_large = post(world.local, "/v1/events/T", &[], vec![b'x'; limit + 1]).await;
    assert_eq!((too_large.status.as_u16(), too_large.code().as_str()), (413, "tooLarge"));
    // Without a length announced it shows only on the way.
    let mut stream = TcpStream::connect(world.local).await.unwrap();
    stream
        .write_all(b"POST /v1/events/T HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n")
        .await
        .unwrap();
    let chunk = [format!("{limit:x}\r\n").into_bytes(), vec![b'x'; limit], b"\r\n".to_vec()].concat();
    for _ in 0..2 {
        let _ = stream.write_all(&chunk).await;
    }
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 413");
}

#[tokio::test]
async fn a_full_store_is_answered_with_507_until_there_is_room_again() {
    let world = World::start(Setup { max_bytes: 20_000, ..Setup::default() }).await;
    let mut stored = 0;
    let full = loop {
        let answer =
            post(world.local, "/v1/events/T", &[("ce-id", &stored.to_string())], vec![b'x'; 1000]).await;
        if answer.status != 200 {
            break answer;
        }
        stored += 1;
    };
    assert_eq!((full.status.as_u16(), full.code().as_str()), (507, "storeFull"));
    assert_eq!(full.json()["outcome"], "notStored");
    assert_eq!(full.json()["id"], stored.to_string());
    assert_eq!(full.json()["source"], "/shop/users");
    assert_eq!(world.stored(EVENTS).await, stored);
    world.js.get_stream(EVENTS).await.unwrap().purge().await.unwrap();
    world.publish("again", "k").await;
}

#[tokio::test]
async fn a_missing_event_store_is_answered_with_503_at_once() {
    let world = World::start(Setup::default()).await;
    world.js.delete_stream(EVENTS).await.unwrap();
    let answer = post(world.local, "/v1/events/T", &[("ce-id", "1")], "").await;
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (503, "busAway"));
    assert_eq!(answer.json()["outcome"], "notStored");
    assert!(answer.headers.contains_key("retry-after"));
}

#[tokio::test]
async fn a_bus_that_never_answers_is_answered_with_504_and_the_outcome_is_unknown() {
    let limits = Limits { publish_timeout: Duration::from_secs(2), ..Limits::default() };
    let world = World::start(Setup { limits, ..Setup::default() }).await;
    world.js.delete_stream(EVENTS).await.unwrap();
    let _silent = world.listen_without_an_answer().await;
    let answer = post(world.local, "/v1/events/T", &[("ce-id", "1")], "").await;
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (504, "noAnswer"));
    assert_eq!(answer.json()["outcome"], "unknown");
    assert_eq!(answer.json()["id"], "1");
}

#[tokio::test]
async fn more_than_may_be_in_flight_is_answered_with_429() {
    let limits = Limits { publishes: 2, publish_timeout: Duration::from_secs(2), ..Limits::default() };
    let world = World::start(Setup { limits, ..Setup::default() }).await;
    world.js.delete_stream(EVENTS).await.unwrap();
    let _silent = world.listen_without_an_answer().await;
    let local = world.local;
    let waiting: Vec<_> =
        (0..2).map(|_| tokio::spawn(async move { post(local, "/v1/events/T", &[], "").await })).collect();
    eventually("two are in flight", async || {
        let metrics = get(world.admin, "/metrics").await.body;
        String::from_utf8_lossy(&metrics).contains("murmur_sidecar_publishes_in_flight 2")
    })
    .await;
    let refused = post(local, "/v1/events/T", &[("ce-id", "3"), ("ce-source", "/s")], "").await;
    assert_eq!((refused.status.as_u16(), refused.code().as_str()), (429, "tooMuchInFlight"));
    let json = refused.json();
    assert_eq!(
        (&json["id"], &json["source"], &json["outcome"]),
        (&"3".into(), &"/s".into(), &"notStored".into())
    );
    assert!(refused.headers.contains_key("retry-after"));
    // Nothing was stored, and nobody was told otherwise.
    for one in waiting {
        assert_eq!(one.await.unwrap().status, 504);
    }
}

#[tokio::test]
async fn more_bytes_than_may_be_in_flight_are_answered_with_429_and_their_room_comes_back() {
    let limits = Limits { publish_bytes: 1_000_000, ..Limits::default() };
    let world = World::start(Setup { limits, ..Setup::default() }).await;
    let mut half_sent = TcpStream::connect(world.local).await.unwrap();
    half_sent
        .write_all(b"POST /v1/events/T HTTP/1.1\r\nhost: x\r\ncontent-length: 600000\r\n\r\n")
        .await
        .unwrap();
    let large = || post(world.local, "/v1/events/T", &[("ce-id", "1")], vec![b'x'; 600_000]);
    eventually("there is no more room", async || {
        let answer = large().await;
        answer.status == 429 && answer.code() == "tooMuchInFlight" && answer.json()["id"] == "1"
    })
    .await;
    world.publish("small", "k").await;
    drop(half_sent);
    eventually("there is room again", async || large().await.status == 200).await;
}

#[tokio::test]
async fn many_publishes_at_once_are_all_stored_once() {
    let world = World::start(Setup::default()).await;
    let local = world.local;
    let clients: Vec<_> = (0..8)
        .map(|client| {
            tokio::spawn(async move {
                let mut http = Http::connect(local).await;
                for number in 0..100 {
                    let id = format!("{client}-{number}");
                    let answer = http.send("POST", "/v1/events/T", &[("ce-id", &id)], "x").await;
                    assert_eq!(answer.status, 200, "{answer:?}");
                    assert_eq!(answer.json()["id"], id);
                }
            })
        })
        .collect();
    for client in clients {
        client.await.unwrap();
    }
    assert_eq!(world.stored(EVENTS).await, 800);
}
