//! The official CloudEvents SDKs, as clients of a sidecar and as receivers.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests may fail a test")]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use murmur_mesh::config::{Batch, Ordering};
use murmur_robustness::bed::Bed;
use murmur_test_support::broker::free_port;
use murmur_test_support::tools::cache;
use murmur_test_support::{Sidecar, mesh};
use serde_json::{Value, json};
use tempfile::TempDir;

/// For the slowest of them to start on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
const LANGUAGES: [&str; 3] = ["python", "javascript", "go"];

/// The program of a language, with its SDK.
fn program(language: &str, verb: &str, argument: &str) -> Command {
    let (sdk, here) = (cache().unwrap().join("sdk").join(language), Path::new("../sdk").join(language));
    let mut command = match language {
        "python" => {
            let mut command = Command::new("python3");
            command.env("PYTHONPATH", sdk).arg(here.join("sdk.py"));
            command
        }
        "javascript" => {
            let mut command = Command::new("node");
            command.env("NODE_PATH", sdk.join("node_modules")).arg(here.join("sdk.js"));
            command
        }
        _ => Command::new(sdk.join("sdk-go")),
    };
    command.args([verb, argument]);
    command
}

/// A receiver, and what it has printed; killed, by its id, when dropped.
struct Receiver {
    child: Child,
    folder: TempDir,
}

impl Receiver {
    fn start(language: &str, verb: &str, port: u16) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let lines = std::fs::File::create(folder.path().join("lines")).unwrap();
        let mut command = program(language, verb, &port.to_string());
        let child = command.stdin(Stdio::null()).stdout(lines).spawn();
        Self { child: child.unwrap_or_else(|error| panic!("{language}: {error}")), folder }
    }

    /// The events that it has got, by id.
    fn events(&self) -> BTreeMap<String, Value> {
        let text = std::fs::read_to_string(self.folder.path().join("lines")).unwrap();
        let events = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        events.map(|event| (event["id"].as_str().unwrap_or_default().to_owned(), event)).collect()
    }
}

/// Waits until a receiver has so many events.
async fn received(
    language: &str,
    receiver: &Receiver,
    number: usize,
    sidecar: &Sidecar,
) -> BTreeMap<String, Value> {
    let began = Instant::now();
    while receiver.events().len() < number {
        let got: Vec<_> = receiver.events().into_keys().collect();
        assert!(began.elapsed() < PATIENCE, "{language} got only {got:?}: {}", sidecar.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    receiver.events()
}

impl Drop for Receiver {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What every receiver must get of the event that `language` has published.
fn expected(language: &str, mode: &str, kind: &str) -> Value {
    let (content_type, data) = match kind {
        "json" => ("application/json", json!({"text": "größer 😀", "number": 5})),
        _ => ("application/octet-stream", json!("AP8K")),
    };
    let (subject, remark) = match language {
        "javascript" => ("size-1", "plain"),
        _ => ("größe 1%", "naïve \"quote\""),
    };
    json!({
        "id": format!("{language}-{mode}-{kind}"), "source": format!("/sdk/{language}"), "type": "Tick",
        "subject": subject, "time": "2026-11-21T09:00:00Z", "datacontenttype": content_type,
        "partitionkey": "k", "remark": remark, "data": data,
    })
}

#[tokio::test]
async fn each_sdk_publishes_in_binary_and_structured_mode_and_each_receives_what_all_have_published() {
    let ports = LANGUAGES.map(|_| free_port().unwrap());
    let subscriptions: Vec<_> = LANGUAGES
        .iter()
        .zip(ports)
        .map(|(language, port)| mesh::subscription(language, port).unwrap())
        .collect();
    let bed = Bed::start(1, "", subscriptions.clone()).await.unwrap();
    let receivers: Vec<_> = LANGUAGES
        .iter()
        .zip(ports)
        .map(|(language, port)| Receiver::start(language, "receive", port))
        .collect();
    let binary = Path::new(env!("CARGO_BIN_EXE_sidecar-under-test"));
    let config = mesh::config(subscriptions).unwrap();
    let sidecar = Sidecar::start(binary, &bed.cluster.url(), &config, &[]).await.unwrap();

    let url = format!("http://127.0.0.1:{}/v1/events", sidecar.port);
    for language in LANGUAGES {
        let output = program(language, "publish", &url).output().unwrap();
        assert!(output.status.success(), "{language}: {}", String::from_utf8_lossy(&output.stderr));
    }
    for (language, receiver) in LANGUAGES.iter().zip(&receivers) {
        let events = received(language, receiver, 12, &sidecar).await;
        for from in LANGUAGES {
            for (mode, kind) in
                [("binary", "json"), ("binary", "bytes"), ("structured", "json"), ("structured", "bytes")]
            {
                let id = format!("{from}-{mode}-{kind}");
                assert_eq!(events[&id], expected(from, mode, kind), "{id} as {language} got it");
            }
        }
    }
}

/// The SDKs that read a batch. Only Go's makes one; Python's does neither.
const OF_BATCHES: [&str; 2] = ["javascript", "go"];

#[tokio::test]
async fn a_batch_that_an_sdk_publishes_is_received_as_a_batch_by_those_that_can() {
    let ports = OF_BATCHES.map(|_| free_port().unwrap());
    let batch = Batch { max_events: 2, max_wait: Duration::from_secs(1) };
    let subscriptions: Vec<_> = OF_BATCHES
        .iter()
        .zip(ports)
        .map(|(language, port)| {
            let mut subscription = mesh::subscription(language, port).unwrap();
            // Both events have one key: under Key they would come one after the other.
            subscription.ordering = Ordering::None;
            subscription.deliver_mut().unwrap().batch = Some(batch.clone());
            subscription
        })
        .collect();
    let bed = Bed::start(1, "", subscriptions.clone()).await.unwrap();
    let receivers: Vec<_> = OF_BATCHES
        .iter()
        .zip(ports)
        .map(|(language, port)| Receiver::start(language, "receive-batch", port))
        .collect();
    let binary = Path::new(env!("CARGO_BIN_EXE_sidecar-under-test"));
    let sidecar =
        Sidecar::start(binary, &bed.cluster.url(), &mesh::config(subscriptions).unwrap(), &[]).await.unwrap();

    let url = format!("http://127.0.0.1:{}/v1/events", sidecar.port);
    let output = program("go", "publish-batch", &url).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for (language, receiver) in OF_BATCHES.iter().zip(&receivers) {
        let events = received(language, receiver, 2, &sidecar).await;
        for kind in ["json", "bytes"] {
            let id = format!("go-batch-{kind}");
            assert_eq!(events[&id], expected("go", "batch", kind), "{id} as {language} got it");
        }
    }
}
