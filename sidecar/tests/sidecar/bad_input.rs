//! Whatever comes in, the answer is clear, others go on, and nothing is stored that should not be.

use std::time::Duration;

use async_nats::HeaderMap;
use murmur_mesh::message_id::MessageIdKey;
use murmur_mesh::stream::EVENTS;
use murmur_sidecar::limits::Limits;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{Setup, World, key, post};

const JSON: (&str, &str) = ("content-type", "application/cloudevents+json");

/// The request is refused so, nothing is stored, and the next event is.
async fn refused(path: &str, headers: &[(&str, &str)], body: &str, status: u16, code: &str) -> String {
    let world = World::start(Setup::default()).await;
    let answer = post(world.local, path, headers, body.to_owned()).await;
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (status, code), "{answer:?}");
    assert_eq!(world.stored(EVENTS).await, 0);
    world.publish("1", "k").await;
    answer.json()["detail"].as_str().unwrap().to_owned()
}

/// Sends bytes as they are; gives the first line of the answer.
async fn raw(world: &World, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(world.local).await.unwrap();
    stream.write_all(request).await.unwrap();
    let mut answer = [0; 12];
    let read = tokio::time::timeout(Duration::from_secs(20), stream.read_exact(&mut answer));
    read.await.unwrap().unwrap();
    String::from_utf8(answer.to_vec()).unwrap()
}

#[tokio::test]
async fn malformed_json_is_refused_and_the_place_is_named() {
    let body = r#"{"type":"T","data":{"a":}}"#;
    let detail = refused("/v1/events", &[JSON], body, 400, "malformed").await;
    assert!(detail.contains("line 1 column"), "{detail}");
}

#[tokio::test]
async fn json_nested_without_end_is_refused() {
    let body = format!(r#"{{"type":"T","data":{}"#, "[".repeat(200_000));
    refused("/v1/events", &[JSON], &body, 400, "malformed").await;
}

#[tokio::test]
async fn another_specversion_is_refused_and_named() {
    let body = r#"{"specversion":"0.3","type":"T"}"#;
    let detail = refused("/v1/events", &[JSON], body, 400, "malformed").await;
    assert!(detail.contains("0.3"), "{detail}");
}

#[tokio::test]
async fn a_type_that_is_no_valid_name_is_refused() {
    for name in ["a..b", ".a", "a.", "%00", "%FF"] {
        refused(&format!("/v1/events/{name}"), &[], "", 400, "malformed").await;
    }
}

#[tokio::test]
async fn a_type_that_would_reach_into_others_subjects_is_not_published() {
    for name in ["*", "%3E", "T.%3E"] {
        refused(&format!("/v1/events/{name}"), &[], "", 403, "typeNotPublished").await;
    }
}

#[tokio::test]
async fn a_body_of_10_mib_is_refused_before_it_is_read() {
    let world = World::start(Setup::default()).await;
    for content_type in ["text/plain", "application/cloudevents-batch+json"] {
        let head = format!(
            "POST /v1/events HTTP/1.1\r\nhost: x\r\nce-type: T\r\ncontent-type: {content_type}\r\n\
             content-length: 10485760\r\n\r\n"
        );
        assert_eq!(raw(&world, head.as_bytes()).await, "HTTP/1.1 413");
    }
    world.publish("1", "k").await;
    assert_eq!(world.stored(EVENTS).await, 1);
}

#[tokio::test]
async fn a_head_that_is_no_http_is_refused() {
    let world = World::start(Setup::default()).await;
    assert_eq!(raw(&world, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\r\n\r\n").await, "HTTP/1.1 400");
    world.publish("1", "k").await;
}

#[tokio::test]
async fn a_body_that_ends_in_the_middle_is_not_stored() {
    let world = World::start(Setup::default()).await;
    let mut stream = TcpStream::connect(world.local).await.unwrap();
    stream
        .write_all(b"POST /v1/events/T HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\nabc")
        .await
        .unwrap();
    stream.shutdown().await.unwrap();
    let mut rest = Vec::new();
    let ended = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut rest)).await;
    assert!(ended.is_ok(), "the connection is still open");
    assert!(!rest.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&rest));
    world.publish("1", "k").await;
    assert_eq!(world.stored(EVENTS).await, 1);
}

#[tokio::test]
async fn an_id_that_another_service_guesses_beforehand_is_still_free() {
    let world = World::start(Setup::default()).await;
    let (users, other) = ("users".parse().unwrap(), MessageIdKey::from_bytes([8; 32]));
    let guesses = ["id-1".to_owned(), other.message_id(&users, "/shop/users", "id-1")];
    for guess in &guesses {
        let mut headers = HeaderMap::new();
        headers.insert("Nats-Msg-Id", guess.as_str());
        let sent = world.js.publish_with_headers("events.other.0.T", headers, "".into());
        sent.await.unwrap().await.unwrap();
    }
    let answer = world.publish("id-1", "k").await;
    assert_eq!(answer.json(), serde_json::json!({"id": "id-1", "sequence": 3, "duplicate": false}));
    // Who has the key would have taken it: the test is one.
    let own = key().message_id(&users, "/shop/users", "id-2");
    let mut headers = HeaderMap::new();
    headers.insert("Nats-Msg-Id", own.as_str());
    world.js.publish_with_headers("events.other.0.T", headers, "".into()).await.unwrap().await.unwrap();
    assert_eq!(world.publish("id-2", "k").await.json()["duplicate"], true);
}

#[tokio::test]
async fn a_client_that_never_finishes_its_head_is_cut_off() {
    let limits = Limits { head_timeout: Duration::from_millis(200), ..Limits::default() };
    let world = World::start(Setup { limits, ..Setup::default() }).await;
    let mut stream = TcpStream::connect(world.local).await.unwrap();
    stream.write_all(b"POST /v1/events/T HTTP/1.1\r\nhost: x\r\n").await.unwrap();
    let mut rest = Vec::new();
    let ended = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut rest)).await;
    assert!(ended.is_ok(), "the connection is still open");
}

#[tokio::test]
async fn a_head_without_end_is_refused() {
    let world = World::start(Setup::default()).await;
    let mut stream = TcpStream::connect(world.local).await.unwrap();
    let _ = stream.write_all(b"POST /v1/events/T HTTP/1.1\r\nhost: x\r\n").await;
    for _ in 0..200 {
        let line = format!("ce-x: {}\r\n", "x".repeat(1000));
        if stream.write_all(line.as_bytes()).await.is_err() {
            break;
        }
    }
    let mut answer = [0; 12];
    if stream.read_exact(&mut answer).await.is_ok() {
        assert_eq!(&answer, b"HTTP/1.1 431");
    }
    world.publish("1", "k").await;
}

#[tokio::test]
async fn a_client_that_never_finishes_its_body_is_told_so() {
    let limits = Limits { body_timeout: Duration::from_millis(200), ..Limits::default() };
    let world = World::start(Setup { limits, ..Setup::default() }).await;
    let mut stream = TcpStream::connect(world.local).await.unwrap();
    stream
        .write_all(b"POST /v1/events/T HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\nabc")
        .await
        .unwrap();
    let mut answer = [0; 12];
    tokio::time::timeout(Duration::from_secs(20), stream.read_exact(&mut answer)).await.unwrap().unwrap();
    assert_eq!(&answer, b"HTTP/1.1 408");
    assert_eq!(world.stored(EVENTS).await, 0);
}
