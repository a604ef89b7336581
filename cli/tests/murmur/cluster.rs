//! Backups of a mesh whose streams have copies on three servers.

use std::path::Path;
use std::time::{Duration, Instant};

use async_nats::jetstream;
use async_nats::jetstream::consumer::{AckPolicy, pull};
use futures::StreamExt;
use murmur_mesh::people::{CREDENTIALS_FILE, Person};
use murmur_test_support::{Cluster, mesh};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Command;

use crate::world::{Said, World};

const STREAMS: [&str; 2] = ["EVENTS", "DEAD_LETTERS"];

/// Three servers that ask for no credentials.
struct Three {
    cluster: Cluster,
    js: jetstream::Context,
    /// Credentials, which need only be some.
    folder: TempDir,
}

impl Three {
    async fn start() -> Self {
        let cluster = Cluster::start(3, "").await.unwrap();
        let js = cluster.client().await.unwrap();
        mesh::replicated_streams(&js, -1, 3).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let credentials = World::without_streams().await.credentials(Person::Admin).await;
        std::fs::write(folder.path().join(CREDENTIALS_FILE), credentials).unwrap();
        Self { cluster, js, folder }
    }

    async fn murmur(&self, arguments: &[&str]) -> Said {
        let mut command = Command::new(env!("CARGO_BIN_EXE_murmur"));
        command.args(arguments).arg("--credentials").arg(self.folder.path());
        command.args(["--nats-url", &self.cluster.url(), "--namespace", "three"]);
        command.kill_on_drop(true).output().await.unwrap().into()
    }

    async fn backup(&self, to: &Path) -> String {
        let made = self.murmur(&["mesh", "backup", "--to", to.to_str().unwrap(), "-o", "json"]).await.json();
        made["backup"].as_str().unwrap().to_owned()
    }

    async fn store(&self, subject: &str, number: u64) {
        for _ in 0..number {
            self.js.publish(subject.to_owned(), "x".into()).await.unwrap().await.unwrap();
        }
    }

    /// Takes so many of a durable's next events and acknowledges them; their sequences.
    async fn take(&self, durable: &str, number: usize) -> Vec<u64> {
        let config = pull::Config {
            durable_name: Some(durable.to_owned()),
            ack_policy: AckPolicy::Explicit,
            ..pull::Config::default()
        };
        let stream = self.js.get_stream("EVENTS").await.unwrap();
        let durable = stream.get_or_create_consumer(durable, config).await.unwrap();
        let mut sequences = Vec::new();
        let until = Instant::now() + Duration::from_secs(60);
        while sequences.len() < number {
            assert!(Instant::now() < until, "only {sequences:?} came, not {number}");
            let mut messages =
                durable.fetch().max_messages(number - sequences.len()).messages().await.unwrap();
            // None answers while the durable has no leader: then once more.
            while let Some(Ok(message)) = messages.next().await {
                message.double_ack().await.unwrap();
                sequences.push(message.info().unwrap().stream_sequence);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        sequences
    }

    async fn info(&self, stream: &str) -> Value {
        self.js.request(format!("STREAM.INFO.{stream}"), &json!({})).await.unwrap()
    }

    /// Waits until both other servers have all that the leader of each stream has.
    async fn copied(&self) {
        for stream in STREAMS {
            let mut info = Value::Null;
            for _ in 0..600 {
                info = self.info(stream).await;
                let replicas = info["cluster"]["replicas"].as_array().map(Vec::as_slice).unwrap_or_default();
                if replicas.iter().filter(|copy| copy["current"] == true).count() == 2 {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
                info = Value::Null;
            }
            assert_ne!(info, Value::Null, "the copies of {stream} do not catch up");
            assert_eq!(info["config"]["num_replicas"], 3);
        }
    }
}

#[tokio::test]
async fn a_mesh_on_three_servers_is_restored_with_its_positions_and_its_copies() {
    let mut three = Three::start().await;
    three.store("events.users.1.T", 20).await;
    three.store("dead.tested.s.0.1", 1).await;
    let durables: Vec<_> = (0..12).map(|number| format!("d-{number}")).collect();
    for durable in &durables {
        assert_eq!(three.take(durable, 8).await.len(), 8);
    }
    three.copied().await;
    let folder = tempfile::tempdir().unwrap();
    let backup = three.backup(folder.path()).await;
    three.store("events.users.1.T", 5).await;
    three.take("d-0", 17).await;
    three.murmur(&["mesh", "restore", "--from", &backup, "--replace"]).await.ok();

    three.copied().await;
    for (stream, number) in STREAMS.into_iter().zip([20, 1]) {
        assert_eq!(three.info(stream).await["state"]["messages"], number);
    }
    for durable in &durables {
        assert_eq!(three.take(durable, 12).await, (9..=20).collect::<Vec<_>>(), "{durable}");
    }
    // Any one of the servers may be lost.
    let leader = three.cluster.leader(&three.js, "EVENTS").await.unwrap();
    three.cluster.servers()[leader].kill().await.unwrap();
    let stored =
        async { while three.js.publish("events.users.1.T", "x".into()).await.unwrap().await.is_err() {} };
    tokio::time::timeout(Duration::from_secs(60), stored).await.unwrap();
}

#[tokio::test]
async fn three_servers_that_lost_everything_are_restored_with_as_many_copies_as_before() {
    let three = Three::start().await;
    three.store("events.users.1.T", 300).await;
    assert_eq!(three.take("d-0", 100).await.len(), 100);
    three.copied().await;
    let folder = tempfile::tempdir().unwrap();
    let backup = three.backup(folder.path()).await;
    for stream in STREAMS {
        three.js.delete_stream(stream).await.unwrap();
    }
    three.murmur(&["mesh", "restore", "--from", &backup]).await.ok();
    three.copied().await;
    assert_eq!(three.take("d-0", 200).await, (101..=300).collect::<Vec<_>>());
}
