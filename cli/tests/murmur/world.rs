//! A mesh: an account of its own on a broker, streams, and Secrets for people.

use std::process::{Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Weak};

use async_nats::HeaderMap;
use async_nats::jetstream::{self, Context};
use clap::Parser;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Secret};
use kube::api::{Api, ObjectMeta, PostParams};
use murmur_mesh::partition::Partition;
use murmur_mesh::people::{CREDENTIALS_FILE, Person};
use murmur_operator::bus::SystemConnection;
use murmur_operator::people::{Files, renewed};
use murmur_operator::settings::{Flags, Settings};
use murmur_operator::trust::{SystemUser, account_claims, load_account, load_trust};
use murmur_test_apiserver::TestApiServer;
use murmur_test_support::{Broker, mesh};
use serde_json::Value;
use tokio::process::Command;
use tokio::sync::Mutex;

const SYSTEM: &str = "murmur-system";
static NUMBER: AtomicU32 = AtomicU32::new(0);

/// The cluster that tests share.
struct Cluster {
    server: TestApiServer,
    broker: Broker,
    settings: Settings,
    _jwt: tempfile::TempDir,
}

/// A mesh of a test's own.
pub struct World {
    cluster: Arc<Cluster>,
    pub namespace: String,
    /// All rights in the mesh.
    pub js: Context,
    /// The user that has them.
    pub user: SystemUser,
}

/// What the program said.
#[derive(Debug)]
pub struct Said {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Said {
    pub fn ok(self) -> String {
        assert_eq!(self.code, 0, "{self:?}");
        self.out
    }

    pub fn json(self) -> Value {
        serde_json::from_str(&self.ok()).unwrap()
    }
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Self { code: output.status.code().unwrap(), out: text(output.stdout), err: text(output.stderr) }
    }
}

fn named(name: &str) -> ObjectMeta {
    ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() }
}

async fn make_namespace(client: &kube::Client, name: &str) {
    let namespace = Namespace { metadata: named(name), ..Namespace::default() };
    Api::all(client.clone()).create(&PostParams::default(), &namespace).await.unwrap();
}

impl Cluster {
    async fn start() -> Self {
        let server = TestApiServer::start().await.unwrap();
        let client = server.client().await.unwrap();
        make_namespace(&client, SYSTEM).await;
        let flags =
            ["test", "--namespace", SYSTEM, "--nats-url", "nats://127.0.0.1:1", "--sidecar-image", "x"];
        let mut settings = Settings::parse(Flags::try_parse_from(flags).unwrap()).unwrap();
        load_trust(&client, &settings).await.unwrap();
        let maps: Api<ConfigMap> = Api::namespaced(client.clone(), SYSTEM);
        let conf = maps.get("murmur-nats-auth").await.unwrap().data.unwrap()["auth.conf"].clone();
        let jwt = tempfile::tempdir().unwrap();
        let conf = conf.replace("/data/jwt", &jwt.path().to_string_lossy());
        let broker = Broker::start("max_file_store: 1TB", &conf).await.unwrap();
        settings.nats_url = broker.url();
        Self { server, broker, settings, _jwt: jwt }
    }
}

impl World {
    /// A new mesh with streams and credentials.
    pub async fn new() -> Self {
        let world = Self::without_streams().await;
        mesh::streams(&world.js, -1).await.unwrap();
        world
    }

    /// A new mesh with credentials alone.
    pub async fn without_streams() -> Self {
        static SHARED: Mutex<Weak<Cluster>> = Mutex::const_new(Weak::new());
        let cluster = {
            let mut shared = SHARED.lock().await;
            match shared.upgrade() {
                Some(cluster) => cluster,
                None => {
                    let cluster = Arc::new(Cluster::start().await);
                    *shared = Arc::downgrade(&cluster);
                    cluster
                }
            }
        };
        let client = cluster.server.client().await.unwrap();
        let namespace = format!("mesh-{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        make_namespace(&client, &namespace).await;
        let account = load_account(&client, SYSTEM, &namespace).await.unwrap();
        let trust = load_trust(&client, &cluster.settings).await.unwrap();
        let system = SystemConnection::new(cluster.broker.url(), trust);
        system.ensure_account(&account_claims(&namespace, &account)).await.unwrap();
        let secrets: Api<Secret> = Api::namespaced(client.clone(), &namespace);
        for person in Person::ALL {
            let now = jiff::Timestamp::now().as_second();
            let files =
                renewed(person, &account, &cluster.broker.url(), &Files::new(), now).unwrap().unwrap();
            let secret =
                Secret { metadata: named(person.secret()), string_data: Some(files), ..Secret::default() };
            secrets.create(&PostParams::default(), &secret).await.unwrap();
        }
        let user = account.administrator().unwrap();
        let pair = Arc::new(nkeys::KeyPair::from_seed(&user.seed).unwrap());
        let options = async_nats::ConnectOptions::with_jwt(user.jwt.clone(), move |nonce| {
            let pair = pair.clone();
            async move { pair.sign(&nonce).map_err(async_nats::AuthError::new) }
        });
        let js = jetstream::new(options.connect(cluster.broker.url()).await.unwrap());
        Self { cluster, namespace, js, user }
    }

    /// The credentials of a person in this mesh, as a file.
    pub async fn credentials(&self, person: Person) -> String {
        let client = self.cluster.server.client().await.unwrap();
        let secrets: Api<Secret> = Api::namespaced(client, &self.namespace);
        let files = secrets.get(person.secret()).await.unwrap().data.unwrap();
        String::from_utf8(files[CREDENTIALS_FILE].0.clone()).unwrap()
    }

    /// Where the broker is.
    pub fn url(&self) -> String {
        self.cluster.broker.url()
    }

    /// Runs `murmur` in this mesh, with the kubeconfig and NATS reached directly.
    pub async fn murmur(&self, arguments: &[&str]) -> Said {
        self.command(arguments).output().await.unwrap().into()
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_murmur"));
        command
            .args(arguments)
            .env("KUBECONFIG", self.cluster.server.kubeconfig())
            .env("MURMUR_NAMESPACE", &self.namespace)
            .env("MURMUR_NATS_URL", self.broker_url())
            .stdin(Stdio::null())
            .kill_on_drop(true);
        command
    }

    /// Where NATS listens.
    pub fn broker_url(&self) -> String {
        self.cluster.broker.url()
    }

    /// Stores an event as a sidecar would; returns its sequence.
    pub async fn event(&self, service: &str, id: &str, key: &str) -> u64 {
        let subject = format!("events.{service}.{}.T", Partition::of(key).number());
        self.store(&subject, &event(id, key), &format!("{{\"id\":\"{id}\"}}")).await
    }

    /// Stores a dead letter of the subscription `s` of the service `tested`; returns its number.
    pub async fn letter(&self, id: &str, key: &str, sequence: u64) -> u64 {
        let mut headers = event(id, key);
        let sequence_text = sequence.to_string();
        let subject = format!("events.users.{}.T", Partition::of(key).number());
        for (name, value) in [
            ("murmur-dead-reason", "rejected"),
            ("murmur-dead-cause", "the service answered 400: no"),
            ("murmur-dead-attempts", "1"),
            ("murmur-dead-sequence", &sequence_text),
            ("murmur-dead-subject", &subject),
        ] {
            headers.push((name.to_owned(), value.to_owned()));
        }
        self.store(&format!("dead.tested.s.0.{sequence}"), &headers, "{}").await
    }

    pub async fn store(&self, subject: &str, headers: &[(String, String)], data: &str) -> u64 {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(name.as_str(), value.as_str());
        }
        let stored = self.js.publish_with_headers(subject.to_owned(), map, data.to_owned().into()).await;
        stored.unwrap().await.unwrap().sequence
    }

    /// How many messages a stream holds.
    pub async fn stored(&self, stream: &str) -> u64 {
        self.js.get_stream(stream).await.unwrap().get_info().await.unwrap().state.messages
    }

    /// Subjects and ids of the messages of a stream, in order.
    pub async fn messages(&self, stream: &str) -> Vec<(String, String)> {
        let stream = self.js.get_stream(stream).await.unwrap();
        let state = stream.get_info().await.unwrap().state;
        let mut found = Vec::new();
        for sequence in state.first_sequence..=state.last_sequence {
            let Ok(message) = stream.get_raw_message(sequence).await else { continue };
            let id = message.headers.get("ce-id").map(ToString::to_string).unwrap_or_default();
            found.push((message.subject.to_string(), id));
        }
        found
    }
}

fn event(id: &str, key: &str) -> Vec<(String, String)> {
    [
        ("murmur-format", "1"),
        ("ce-specversion", "1.0"),
        ("ce-id", id),
        ("ce-source", "/shop/users"),
        ("ce-type", "T"),
        ("ce-datacontenttype", "application/json"),
        ("ce-partitionkey", key),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into()
}
