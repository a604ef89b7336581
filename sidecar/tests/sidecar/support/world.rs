//! A mesh with one sidecar in it: what the operator would have made.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use async_nats::jetstream;
use async_nats::jetstream::context::PublishAckFuture;
use async_nats::jetstream::stream::{Config as Stream, DiscardPolicy};
use bytes::Bytes;
use murmur_mesh::message_id::MessageIdKey;
use murmur_mesh::partition::Partition;
use murmur_mesh::stream;
use murmur_mesh::subject;
use murmur_sidecar::cli::RunArguments;
use murmur_sidecar::database::DatabaseSettings;
use murmur_sidecar::limits::Limits;
use murmur_sidecar::logging::Level;
use murmur_sidecar::startup::WaitFor;
use murmur_sidecar::trace::TraceArguments;
use murmur_sidecar::{Listeners, Settings};
use murmur_test_support::mesh;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::{Answer, Broker, post};

pub(crate) const TOKEN: &str = "a-token";

pub(crate) fn key() -> MessageIdKey {
    MessageIdKey::from_bytes([7; 32])
}

/// What a test changes of the usual world.
pub(crate) struct Setup {
    pub(crate) broker: String,
    /// JetStream's own settings of the broker.
    pub(crate) jetstream: &'static str,
    pub(crate) user: Option<(String, String)>,
    pub(crate) administrator: Option<(String, String)>,
    pub(crate) publishes: Vec<&'static str>,
    pub(crate) subscriptions: Vec<Value>,
    pub(crate) max_bytes: i64,
    /// For how long the broker knows a message id again.
    pub(crate) duplicate_window: Duration,
    pub(crate) limits: Limits,
    pub(crate) sidecar: bool,
    /// Further members of the configuration.
    pub(crate) config: Value,
    pub(crate) dns: Option<SocketAddr>,
    pub(crate) traces: TraceArguments,
    pub(crate) database: Option<DatabaseSettings>,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            broker: String::new(),
            jetstream: "",
            user: None,
            administrator: None,
            publishes: vec!["T", "com.example.größe"],
            subscriptions: Vec::new(),
            max_bytes: -1,
            duplicate_window: Duration::from_secs(120),
            limits: Limits::default(),
            sidecar: true,
            config: json!({}),
            dns: None,
            traces: TraceArguments::default(),
            database: None,
        }
    }
}

/// A subscription in the sidecar's configuration; fast retries.
pub(crate) fn subscription(name: &str, port: u16, ordering: impl Into<Value>) -> Value {
    let ordering: Value = ordering.into();
    json!({
        "name": name,
        "ordering": ordering,
        "deliver": {"port": port, "path": "/events", "timeout": 30_000, "concurrency": 16},
        "retry": {"maxAttempts": 3, "initialDelay": 50, "factor": 2, "maxDelay": 200},
        "deadLetter": "keep",
    })
}

pub(crate) struct World {
    pub(crate) broker: Broker,
    pub(crate) js: jetstream::Context,
    pub(crate) local: SocketAddr,
    pub(crate) admin: SocketAddr,
    pub(crate) folder: TempDir,
    config: Value,
    user: Option<(String, String)>,
    /// Another way to the broker.
    pub(crate) wire: Option<u16>,
    duplicate_window: Duration,
    limits: Limits,
    dns: Option<SocketAddr>,
    traces: TraceArguments,
    /// The service's database.
    pub(crate) database: Option<DatabaseSettings>,
    /// What its readiness waits for.
    pub(crate) wait_for: WaitFor,
    stop: Option<oneshot::Sender<()>>,
    running: Option<JoinHandle<()>>,
}

impl World {
    pub(crate) async fn start(setup: Setup) -> Self {
        let broker = Broker::start(setup.jetstream, &setup.broker).await.unwrap();
        let url = match &setup.administrator {
            Some((user, password)) => broker.url_as(user, password),
            None => broker.url(),
        };
        Self::on(broker, &url, setup).await
    }

    pub(crate) async fn on(broker: Broker, administrator: &str, setup: Setup) -> Self {
        let mut options = async_nats::ConnectOptions::new();
        let address: async_nats::ServerAddr = administrator.parse().unwrap();
        if let (Some(user), Some(password)) = (address.username(), address.password()) {
            options = options.user_and_password(user.to_owned(), password.to_owned());
        }
        let js = jetstream::new(options.connect(address).await.unwrap());
        Self::with(broker, js, setup).await
    }

    pub(crate) async fn with(broker: Broker, js: jetstream::Context, setup: Setup) -> Self {
        let mut config = json!({
            "generation": 1, "service": "users", "mesh": "shop",
            "eventStore": "2026-11-21T09:00:00Z",
            "publishes": setup.publishes, "subscriptions": setup.subscriptions,
        });
        for (name, value) in setup.config.as_object().unwrap() {
            config[name] = value.clone();
        }
        let mut world = Self {
            broker,
            js,
            local: ([127, 0, 0, 1], 1).into(),
            admin: ([127, 0, 0, 1], 1).into(),
            folder: tempfile::tempdir().unwrap(),
            config,
            user: setup.user,
            wire: None,
            duplicate_window: setup.duplicate_window,
            limits: setup.limits,
            dns: setup.dns,
            traces: setup.traces,
            database: setup.database,
            wait_for: WaitFor::Started,
            stop: None,
            running: None,
        };
        world.streams(setup.max_bytes).await;
        for subscription in &setup.subscriptions {
            world.durables(subscription).await;
        }
        std::fs::write(world.folder.path().join("message-id.key"), key().to_hex()).unwrap();
        std::fs::write(world.folder.path().join("token"), TOKEN).unwrap();
        if setup.sidecar {
            world.run().await;
        }
        world
    }

    /// Makes the streams of the mesh.
    pub(crate) async fn streams(&self, max_bytes: i64) {
        for (name, subjects, max_bytes) in [
            (stream::EVENTS, stream::EVENTS_SUBJECTS.as_slice(), max_bytes),
            (stream::DEAD_LETTERS, stream::DEAD_LETTERS_SUBJECTS.as_slice(), -1),
            (stream::CONFIG, stream::CONFIG_SUBJECTS.as_slice(), -1),
        ] {
            let config = Stream {
                name: name.to_owned(),
                subjects: subjects.iter().map(ToString::to_string).collect(),
                max_bytes,
                discard: if name == stream::CONFIG { DiscardPolicy::Old } else { DiscardPolicy::New },
                max_messages_per_subject: if name == stream::CONFIG { 1 } else { -1 },
                allow_direct: true,
                allow_atomic_publish: name == stream::EVENTS,
                duplicate_window: self.duplicate_window,
                ..Stream::default()
            };
            self.js.create_stream(config).await.unwrap();
        }
    }

    /// Starts the sidecar, in this process, and waits until it has the bus.
    pub(crate) async fn run(&mut self) {
        self.run_unconnected().await;
        self.until_connected().await;
    }

    /// A second replica of the service, in this process.
    pub(crate) async fn another(&self) -> Replica {
        let mut settings = self.settings();
        settings.pod = "users-2".to_owned();
        let bind = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
        let listeners = Listeners { local: vec![bind().await.unwrap()], admin: bind().await.unwrap() };
        let admin = listeners.admin.local_addr().unwrap();
        let running = tokio::spawn(async move {
            let never = std::future::pending();
            murmur_sidecar::run(settings, async { Ok(listeners) }, Level::default(), never).await.unwrap();
        });
        Replica { admin, running }
    }

    /// Changes the file that the sidecar boots from, and nothing on the bus.
    pub(crate) fn with_file(&mut self, change: impl FnOnce(&mut Value)) {
        change(&mut self.config);
    }

    /// Starts the sidecar, in this process.
    pub(crate) async fn run_unconnected(&mut self) {
        let settings = self.settings();
        let bind = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
        let listeners = Listeners { local: vec![bind().await.unwrap()], admin: bind().await.unwrap() };
        self.local = listeners.local[0].local_addr().unwrap();
        self.admin = listeners.admin.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        self.stop = Some(stop);
        self.running = Some(tokio::spawn(async move {
            let stopped = async {
                let _ = stopped.await;
            };
            murmur_sidecar::run(settings, async { Ok(listeners) }, Level::default(), stopped).await.unwrap();
        }));
    }

    pub(crate) fn settings(&self) -> Settings {
        let mut settings = Settings::load(&self.arguments()).unwrap();
        settings.limits = self.limits.clone();
        settings
    }

    pub(crate) fn arguments(&self) -> RunArguments {
        std::fs::write(self.config_file(), self.config.to_string()).unwrap();
        let bus_url = match (&self.user, self.wire) {
            (Some((user, password)), _) => self.broker.url_as(user, password),
            (None, Some(port)) => format!("nats://127.0.0.1:{port}"),
            (None, None) => self.broker.url(),
        };
        let (database_path, database) = match self.database.clone() {
            Some(DatabaseSettings::Sqlite(path)) => (Some(path), None),
            Some(DatabaseSettings::Postgres(folder)) => (None, Some(folder)),
            None => (None, None),
        };
        RunArguments {
            bus_url,
            config: self.config_file(),
            bus_credentials: self.folder.path().to_owned(),
            pod: "users-1".to_owned(),
            dns: self.dns,
            traces: self.traces.clone(),
            data: None,
            database_path,
            database,
            wait_for: self.wait_for,
            local_address: self.local,
            admin_address: self.admin,
        }
    }

    pub(crate) fn config_file(&self) -> PathBuf {
        self.folder.path().join("config.json")
    }

    pub(crate) async fn until_connected(&self) {
        eventually("the sidecar is connected", async || {
            super::get(self.local, "/v1/status").await.json()["bus"]["connected"] == true
        })
        .await;
    }

    /// Ends the sidecar as SIGTERM would.
    pub(crate) async fn stop(&mut self) {
        drop(self.stop.take());
        if let Some(running) = self.running.take() {
            running.await.unwrap();
        }
    }

    /// Publishes a new configuration, as the operator would.
    pub(crate) async fn configure(&mut self, change: impl FnOnce(&mut Value)) {
        change(&mut self.config);
        let generation = self.config["generation"].as_u64().unwrap() + 1;
        self.config["generation"] = generation.into();
        let subject = subject::config(&"users".parse().unwrap());
        let json = Bytes::from(self.config.to_string());
        self.js.publish(subject, json).await.unwrap().await.unwrap();
    }

    pub(crate) async fn until_configured(&self) {
        let generation = self.config["generation"].clone();
        eventually("the configuration is applied", async || {
            super::get(self.local, "/v1/status").await.json()["generation"] == generation
        })
        .await;
    }

    /// Posts an event of type `T`; it must be stored.
    pub(crate) async fn publish(&self, id: &str, partition_key: &str) -> Answer {
        let headers = [("ce-id", id), ("ce-partitionkey", partition_key)];
        let answer = post(self.local, "/v1/events/T", &headers, format!("data of {id}")).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer
    }

    /// Stores events past the sidecar, quickly: ids 1 to `number`, keys by `key`.
    pub(crate) async fn fill(&self, number: usize, key: impl Fn(usize) -> String) {
        let mut waiting = Vec::new();
        for id in 1..=number {
            waiting.push(self.store(&id.to_string(), &key(id)).await);
        }
        for one in waiting {
            one.await.unwrap();
        }
    }

    /// Stores one event past the sidecar; the answer is to be awaited.
    pub(crate) async fn store(&self, id: &str, key: &str) -> PublishAckFuture {
        let subject = subject::event(&"filler".parse().unwrap(), Partition::of(key), &"T".parse().unwrap());
        self.store_at(subject, id, key, "{}").await
    }

    /// Stores one event under this subject, with this data.
    pub(crate) async fn store_at(
        &self,
        subject: String,
        id: &str,
        key: &str,
        data: &str,
    ) -> PublishAckFuture {
        let mut headers = async_nats::HeaderMap::new();
        for (name, value) in [
            ("murmur-format", "1"),
            ("ce-specversion", "1.0"),
            ("ce-id", id),
            ("ce-source", "/shop/filler"),
            ("ce-type", "T"),
            ("ce-datacontenttype", "application/json"),
            ("ce-partitionkey", key),
        ] {
            headers.insert(name, value);
        }
        let data = Bytes::from(data.to_owned());
        self.js.publish_with_headers(subject, headers, data).await.unwrap()
    }

    /// Someone who takes whatever is published where no stream does, and never answers.
    pub async fn listen_without_an_answer(&self) -> async_nats::Subscriber {
        mesh::subscribe(&self.js.client(), "events.>").await.unwrap()
    }

    /// A message of a stream.
    pub(crate) async fn message(&self, stream: &str, sequence: u64) -> jetstream::message::StreamMessage {
        self.js.get_stream(stream).await.unwrap().get_raw_message(sequence).await.unwrap()
    }

    /// How many messages a stream holds.
    pub(crate) async fn stored(&self, stream: &str) -> u64 {
        self.js.get_stream(stream).await.unwrap().get_info().await.unwrap().state.messages
    }
}

/// A replica beside the first.
pub(crate) struct Replica {
    pub(crate) admin: SocketAddr,
    running: JoinHandle<()>,
}

impl Drop for Replica {
    fn drop(&mut self) {
        self.running.abort();
    }
}

/// Waits for something to become true, with a bound that only a failure reaches.
pub(crate) async fn eventually(what: &str, condition: impl AsyncFn() -> bool) {
    let waited = tokio::time::timeout(Duration::from_secs(40), async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    assert!(waited.await.is_ok(), "waited in vain until {what}");
}
