//! Publishing through a real sidecar to a real nats-server.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use async_nats::jetstream::message::StreamMessage;
use http::StatusCode;
use murmur_mesh::stream;
use murmur_test_support::sidecar::Sidecar;
use murmur_test_support::{Broker, mesh};

const BINARY: &str = env!("CARGO_BIN_EXE_murmur-sidecar");

async fn bed(max_bytes: i64, configuration: &str) -> Result<(Broker, Sidecar)> {
    let broker = Broker::start("", configuration).await?;
    mesh::streams(&mesh::client(&broker).await?, max_bytes).await?;
    let sidecar = Sidecar::start(Path::new(BINARY), &broker.url(), &mesh::config(vec![])?, &[]).await?;
    ready(&sidecar).await?;
    Ok((broker, sidecar))
}

/// The bus never gates the start: wait until it is there.
async fn ready(sidecar: &Sidecar) -> Result<()> {
    for _ in 0..500 {
        if sidecar.publish("first", "").await.is_ok_and(|answer| answer.status == StatusCode::OK) {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    anyhow::bail!("no event could be published: {}", sidecar.log())
}

async fn stored(broker: &Broker, sequence: u64) -> Result<StreamMessage> {
    Ok(mesh::client(broker).await?.get_stream(stream::EVENTS).await?.get_raw_message(sequence).await?)
}

fn headers(message: &StreamMessage) -> Vec<String> {
    let mut lines: Vec<_> = message
        .headers
        .iter()
        .flat_map(|(name, values)| values.iter().map(move |value| format!("{name}: {value}")))
        .collect();
    lines.sort();
    lines
}

#[tokio::test]
async fn an_event_by_path_is_stored_with_its_data_and_all_attributes() -> Result<()> {
    let (broker, sidecar) = bed(-1, "").await?;
    let sent = [("content-type", "text/plain"), ("ce-id", "1"), ("ce-subject", "a%20b"), ("ce-extra", "x")];
    let answer = sidecar.post("/v1/events/Tick", &sent, "hello").await?;
    ensure!(answer.status == StatusCode::OK, "{:?}", answer);
    ensure!(answer.json()["id"] == "1" && answer.json()["duplicate"] == false, "{:?}", answer.json());
    ensure!(answer.header("ce-id") == "1");
    let message = stored(&broker, answer.json()["sequence"].as_u64().unwrap_or(0)).await?;
    assert_eq!(message.subject.as_str(), "events.tested.24.Tick");
    assert_eq!(&message.payload[..], b"hello");
    let lines = headers(&message);
    for line in [
        "ce-id: 1",
        "ce-type: Tick",
        "ce-source: /mesh/tested",
        "ce-specversion: 1.0",
        "ce-subject: a%20b",
        "ce-extra: x",
        "ce-datacontenttype: text/plain",
        "murmur-format: 1",
    ] {
        assert!(lines.iter().any(|found| found == line), "{line} is not in {lines:#?}");
    }
    assert!(lines.iter().any(|line| line.starts_with("ce-time: 2")), "{lines:#?}");
    Ok(())
}

#[tokio::test]
async fn binary_and_structured_mode_store_the_same_message() -> Result<()> {
    let (broker, sidecar) = bed(-1, "").await?;
    let binary = [
        ("ce-specversion", "1.0"),
        ("ce-type", "Tick"),
        ("ce-source", "/mine"),
        ("ce-id", "b"),
        ("ce-time", "2026-11-21T09:00:00Z"),
        ("content-type", "application/json"),
    ];
    let first = sidecar.post("/v1/events", &binary, r#"{"a": 1.0}"#).await?;
    let structured = r#"{"specversion":"1.0","type":"Tick","source":"/mine","id":"s",
        "time":"2026-11-21T09:00:00Z","data":{"a": 1.0}}"#;
    let second =
        sidecar.post("/v1/events", &[("content-type", "application/cloudevents+json")], structured).await?;
    let mut messages = vec![];
    for answer in [first, second] {
        ensure!(answer.status == StatusCode::OK, "{:?}", answer);
        let message = stored(&broker, answer.json()["sequence"].as_u64().unwrap_or(0)).await?;
        assert_eq!(&message.payload[..], br#"{"a": 1.0}"#);
        messages.push(
            headers(&message)
                .into_iter()
                .filter(|line| line.starts_with("ce-") && !line.starts_with("ce-id"))
                .collect::<Vec<_>>(),
        );
    }
    assert_eq!(messages[0], messages[1]);
    Ok(())
}

#[tokio::test]
async fn the_same_id_twice_is_stored_once() -> Result<()> {
    let (_broker, sidecar) = bed(-1, "").await?;
    let first = sidecar.publish("same", "").await?.json();
    let again = sidecar.publish("same", "").await?.json();
    assert_eq!(again["duplicate"], true);
    assert_eq!(again["sequence"], first["sequence"]);
    Ok(())
}

#[tokio::test]
async fn what_is_wrong_with_an_event_is_told_by_a_stable_code() -> Result<()> {
    let (_broker, sidecar) = bed(-1, "max_payload: 65536").await?;
    let event = ("content-type", "application/cloudevents+json");
    let large = "x".repeat(70_000);
    let cases: [(&str, Vec<(&str, &str)>, &str, u16); 9] = [
        ("/v1/events", vec![event], "{", 400),
        ("/v1/events", vec![event], r#"{"specversion":"0.3","type":"Tick"}"#, 400),
        ("/v1/events", vec![], "no type at all", 400),
        ("/v1/events/Tick", vec![event], "{}", 400),
        ("/v1/events/Tick", vec![("ce-type", "Other")], "", 400),
        ("/v1/events/Tick", vec![("ce-time", "yesterday")], "", 400),
        ("/v1/events/a..b", vec![], "", 400),
        ("/v1/events/Undeclared", vec![], "", 403),
        ("/v1/events/Tick", vec![], &large, 413),
    ];
    for (path, sent, body, status) in cases {
        let answer = sidecar.post(path, &sent, body.to_owned()).await?;
        ensure!(answer.status.as_u16() == status, "{path} {sent:?}: {} {:?}", answer.status, answer.json());
        ensure!(answer.header("content-type") == "application/problem+json", "{:?}", answer.headers);
        let problem = answer.json();
        ensure!(problem["code"].as_str().is_some_and(|code| !code.is_empty()), "{problem}");
        ensure!(problem["detail"].as_str().is_some_and(|detail| !detail.is_empty()), "{problem}");
        ensure!(problem["status"] == status, "{problem}");
    }
    // After all that, an ordinary event is taken.
    ensure!(sidecar.publish("fine", "").await?.status == StatusCode::OK);
    Ok(())
}

#[tokio::test]
async fn an_unknown_path_is_404_and_a_wrong_method_405() -> Result<()> {
    let (_broker, sidecar) = bed(-1, "").await?;
    ensure!(sidecar.post("/v2/nothing", &[], "").await?.status == StatusCode::NOT_FOUND);
    let answer = murmur_test_support::http::get(sidecar.port, "/v1/events").await?;
    ensure!(answer.status == StatusCode::METHOD_NOT_ALLOWED, "{}", answer.status);
    Ok(())
}

#[tokio::test]
async fn a_full_event_store_is_507_and_publishing_goes_on_when_there_is_room() -> Result<()> {
    let (broker, sidecar) = bed(20_000, "").await?;
    let mut refused = None;
    for number in 0..100 {
        let body = "x".repeat(1000);
        let answer = sidecar.post("/v1/events/Tick", &[("ce-id", &number.to_string())], body).await?;
        if answer.status != StatusCode::OK {
            refused = Some(answer);
            break;
        }
    }
    let refused = refused.ok_or_else(|| anyhow::anyhow!("the store was never full"))?;
    assert_eq!(refused.status, StatusCode::INSUFFICIENT_STORAGE, "{:?}", refused.json());
    assert_eq!(refused.json()["outcome"], "notStored");
    mesh::client(&broker).await?.get_stream(stream::EVENTS).await?.purge().await?;
    ensure!(sidecar.publish("after", "").await?.status == StatusCode::OK);
    Ok(())
}

#[tokio::test]
async fn without_a_broker_the_answer_is_503_with_all_that_a_repeat_needs() -> Result<()> {
    let (mut broker, sidecar) = bed(-1, "").await?;
    broker.kill().await?;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let answer = sidecar.publish("away", "").await?;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{:?}", answer.json());
    assert_eq!(answer.json()["id"], "away");
    assert_eq!(answer.json()["source"], "/mesh/tested");
    assert_eq!(answer.json()["outcome"], "notStored");
    assert!(answer.header("retry-after").parse::<u32>().is_ok(), "{:?}", answer.headers);

    broker.resume().await?;
    ready(&sidecar).await?;
    let again = sidecar.publish("away", "").await?.json();
    assert_eq!(again["duplicate"], false);
    Ok(())
}

#[tokio::test]
async fn a_broker_that_does_not_answer_is_504_and_the_repeat_is_stored_once() -> Result<()> {
    let (broker, sidecar) = bed(-1, "").await?;
    broker.signal(rustix::process::Signal::STOP)?;
    let answer = sidecar.publish("slow", "").await?;
    broker.signal(rustix::process::Signal::CONT)?;
    assert_eq!(answer.status, StatusCode::GATEWAY_TIMEOUT, "{:?}", answer.json());
    assert_eq!(answer.json()["outcome"], "unknown");
    ready(&sidecar).await?;
    ensure!(sidecar.publish("slow", "").await?.status == StatusCode::OK);
    let mut stream = mesh::client(&broker).await?.get_stream(stream::EVENTS).await?;
    // "first" of `ready`, and "slow" once.
    assert_eq!(stream.info().await?.state.messages, 2);
    Ok(())
}

#[tokio::test]
async fn many_clients_at_once_are_all_answered_after_their_events_were_stored() -> Result<()> {
    let (broker, sidecar) = bed(-1, "").await?;
    let sidecar = std::sync::Arc::new(sidecar);
    let tasks: Vec<_> = (0..100)
        .map(|client| {
            let sidecar = sidecar.clone();
            tokio::spawn(async move {
                for number in 0..10 {
                    let answer = sidecar.publish(&format!("{client}-{number}"), "").await?;
                    ensure!(answer.status == StatusCode::OK, "{:?}", answer.json());
                }
                Ok(())
            })
        })
        .collect();
    for task in tasks {
        task.await??;
    }
    let mut stream = mesh::client(&broker).await?.get_stream(stream::EVENTS).await?;
    assert_eq!(stream.info().await?.state.messages, 1001);
    Ok(())
}
