//! A sidecar of the service `tested`, in this process, and a read model behind it.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_nats::jetstream::consumer::{AckPolicy, PriorityPolicy, pull};
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::routing::post;
use murmur_mesh::config::{
    CONFIG_FILE, JWT_FILE, MESSAGE_ID_KEY_FILE, Ordering, SEED_FILE, Subscription, TOKEN_FILE,
};
use murmur_mesh::durable::{ACK_WAIT, PIN_GROUP, PIN_TIMEOUT};
use murmur_mesh::erased::{self, Erased};
use murmur_mesh::message_id::MessageIdKey;
use murmur_mesh::stream::EVENTS;
use murmur_mesh::subject;
use murmur_sidecar::cli::RunArguments;
use murmur_sidecar::logging::Level;
use murmur_sidecar::trace::TraceArguments;
use murmur_sidecar::{Listeners, Settings};
use murmur_test_support::mesh;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::world::World;

/// The events of each key that were not erased, by their ids.
type Model = Arc<Mutex<BTreeMap<String, Vec<String>>>>;

/// A service with a read model, its sidecar and its subscription to events of
/// type `T` and tombstones of the service `users`.
pub struct Reader {
    model: Model,
    running: [JoinHandle<()>; 2],
    _folder: TempDir,
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.running.iter().for_each(JoinHandle::abort);
    }
}

async fn bind() -> TcpListener {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap()
}

/// What a read model does with an event.
async fn take(State(model): State<Model>, headers: HeaderMap, body: Bytes) {
    let header = |name: &str| headers[name].to_str().unwrap().to_owned();
    let mut model = model.lock().unwrap();
    if header("ce-type") == erased::TYPE {
        let erased: Erased = serde_json::from_slice(&body).unwrap();
        assert_eq!((erased.service.as_str(), &erased.key), ("users", &header("ce-partitionkey")));
        model.remove(&erased.key);
    } else {
        model.entry(header("ce-partitionkey")).or_default().push(header("ce-id"));
    }
}

impl Reader {
    /// Makes its durable, as the operator does, and starts it.
    pub async fn start(world: &World, name: &str) -> Self {
        let (model, listener) = (Model::default(), bind().await);
        let subscription = mesh::subscription(name, listener.local_addr().unwrap().port()).unwrap();
        durable(world, &subscription).await;
        let router =
            Router::new().route(&subscription.deliver().unwrap().path, post(take)).with_state(model.clone());
        let service = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        let folder = tempfile::tempdir().unwrap();
        let config = mesh::config(vec![subscription]).unwrap();
        for (file, text) in [
            (CONFIG_FILE, serde_json::to_string(&config).unwrap()),
            (JWT_FILE, world.user.jwt.clone()),
            (SEED_FILE, world.user.seed.clone()),
            (MESSAGE_ID_KEY_FILE, MessageIdKey::from_bytes([7; 32]).to_hex()),
            (TOKEN_FILE, "token".to_owned()),
        ] {
            std::fs::write(folder.path().join(file), text).unwrap();
        }
        let listeners = Listeners { local: vec![bind().await], admin: bind().await };
        let settings = Settings::load(&RunArguments {
            bus_url: world.url(),
            config: folder.path().join(CONFIG_FILE),
            bus_credentials: folder.path().to_owned(),
            pod: "tested-0".to_owned(),
            data: None,
            database_path: None,
            database: None,
            wait_for: murmur_sidecar::startup::WaitFor::Started,
            dns: None,
            traces: TraceArguments::default(),
            local_address: listeners.local[0].local_addr().unwrap(),
            admin_address: listeners.admin.local_addr().unwrap(),
        })
        .unwrap();
        let sidecar = tokio::spawn(async move {
            let never = std::future::pending();
            murmur_sidecar::run(settings, async { Ok(listeners) }, Level::default(), never).await.unwrap();
        });
        Self { model, running: [service, sidecar], _folder: folder }
    }

    /// Waits until the read model holds these ids of these keys.
    pub async fn holds(&self, expected: &[(&str, &[&str])]) {
        let ids = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect::<Vec<_>>();
        let expected: BTreeMap<_, _> =
            expected.iter().map(|(key, of)| ((*key).to_owned(), ids(of))).collect();
        for _ in 0..2000 {
            if *self.model.lock().unwrap() == expected {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("it holds {:?}, not {expected:?}", self.model.lock().unwrap());
    }
}

async fn durable(world: &World, subscription: &Subscription) {
    assert_eq!(subscription.ordering, Ordering::Key { shards: 1 });
    let from = "users".parse().unwrap();
    let filter = |event_type: &str| subject::event_filter(Some(&from), None, &event_type.parse().unwrap());
    for (_, name) in subscription.durables() {
        let config = pull::Config {
            durable_name: Some(name.to_string()),
            ack_policy: AckPolicy::Explicit,
            ack_wait: ACK_WAIT,
            max_deliver: -1,
            max_ack_pending: 512,
            filter_subjects: vec![filter("T"), filter(erased::TYPE)],
            priority_policy: PriorityPolicy::PinnedClient,
            priority_groups: vec![PIN_GROUP.to_owned()],
            priority_timeout: PIN_TIMEOUT,
            ..pull::Config::default()
        };
        world.js.create_consumer_on_stream(config, EVENTS).await.unwrap();
    }
}
