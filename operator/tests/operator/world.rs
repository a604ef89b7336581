//! An API server, a nats-server and an operator, shared by tests, each with
//! namespaces of its own.

mod bus;
mod objects;
mod operator;
mod rights;

use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::Client;
use kube::api::{Api, PostParams};
use murmur_crds::Microservice;
use murmur_operator::trust;
use murmur_test_apiserver::{Options, TestApiServer};
use murmur_test_support::Broker;

pub use bus::{connect, nobody};
pub use objects::{condition, named};
pub use operator::Operator;

/// How long anything may take that should happen by itself.
const PATIENCE: Duration = Duration::from_secs(25);
/// The operator's own namespace.
pub const SYSTEM: &str = "murmur-system";

pub const SIDECAR_IMAGE: &str = "murmur/sidecar:dev";

/// What the tests share. Everything ends when it is dropped.
pub struct World {
    pub client: Client,
    pub server: TestApiServer,
    pub broker: tokio::sync::Mutex<Broker>,
    nats_url: String,
    operator: tokio::sync::Mutex<Option<Operator>>,
    leases: AtomicU32,
    kubeconfig: tempfile::NamedTempFile,
    jwt: tempfile::TempDir,
    /// Where its operators log.
    log: tempfile::NamedTempFile,
}

/// A runtime, and the world that lives in it, for as long as a test needs it.
type Shared = Arc<(tokio::runtime::Runtime, Arc<World>)>;

/// Where tests find their world.
struct Place {
    world: Mutex<Weak<(tokio::runtime::Runtime, Arc<World>)>>,
    turn: Mutex<()>,
}

/// The world of tests that disturb nobody.
static TOGETHER: Place = Place::new();
/// Those of tests that kill something, one after another in each: they wait most of the time.
static ALONE: [Place; 2] = [Place::new(), Place::new()];

/// Runs a test in the shared world, beside others.
pub fn test<F: Future<Output = anyhow::Result<()>>>(name: &str, body: impl FnOnce(Arc<World>) -> F) {
    run(name, &TOGETHER.world(), body);
}

/// Runs a test that kills something in its world, alone.
pub fn test_alone<F: Future<Output = anyhow::Result<()>>>(name: &str, body: impl FnOnce(Arc<World>) -> F) {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let place = &ALONE[NEXT.fetch_add(1, Ordering::Relaxed) % ALONE.len()];
    let world = place.world();
    let _turn = place.turn.lock().unwrap_or_else(PoisonError::into_inner);
    run(name, &world, body);
}

impl Place {
    const fn new() -> Self {
        Self { world: Mutex::new(Weak::new()), turn: Mutex::new(()) }
    }

    /// Its world: it ends with the last test that holds it.
    fn world(&self) -> Shared {
        let mut weak = self.world.lock().unwrap_or_else(PoisonError::into_inner);
        weak.upgrade().unwrap_or_else(|| {
            let runtime =
                tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
            let world = runtime.block_on(World::start()).unwrap();
            let shared = Arc::new((runtime, Arc::new(world)));
            *weak = Arc::downgrade(&shared);
            shared
        })
    }
}

fn run<F: Future<Output = anyhow::Result<()>>>(
    name: &str,
    shared: &Shared,
    body: impl FnOnce(Arc<World>) -> F,
) {
    let began = Instant::now();
    let outcome = shared.0.block_on(async {
        shared.1.ensure_operator().await?;
        body(shared.1.clone()).await
    });
    eprintln!("{name}: {:.1} s", began.elapsed().as_secs_f64());
    if let Err(error) = outcome {
        let log = std::fs::read_to_string(shared.1.log.path()).unwrap_or_default();
        let tail: Vec<&str> = log.lines().rev().take(12).collect();
        let tail: Vec<&str> = tail.into_iter().rev().collect();
        panic!("{error:#}\n\nthe operator's last lines:\n{}", tail.join("\n"));
    }
}

impl World {
    async fn start() -> anyhow::Result<Self> {
        let server = TestApiServer::start_with(&Options { audit: true, ..Options::default() }).await?;
        let client = server.client().await?;
        for definition in murmur_crds::definitions()? {
            let api: Api<
                k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
            > = Api::all(client.clone());
            api.create(&PostParams::default(), &definition).await?;
        }
        let world = Self::with_client(server, client).await?;
        wait("the kinds are served", || async {
            let api: Api<Microservice> = Api::all(world.client.clone());
            Ok(api.list(&kube::api::ListParams::default()).await.is_ok().then_some(()))
        })
        .await?;
        Ok(world)
    }

    async fn with_client(server: TestApiServer, client: Client) -> anyhow::Result<Self> {
        let namespace = Namespace { metadata: named(SYSTEM), ..Namespace::default() };
        Api::<Namespace>::all(client.clone()).create(&PostParams::default(), &namespace).await?;
        // What the operator would do at its first start: the broker needs it before.
        trust::load_trust(&client, &operator::settings("nats://127.0.0.1:4222")?).await?;
        let maps: Api<ConfigMap> = Api::namespaced(client.clone(), SYSTEM);
        let conf = maps.get("murmur-nats-auth").await?.data.unwrap_or_default()["auth.conf"].clone();
        let jwt = tempfile::tempdir()?;
        let conf = conf.replace("/data/jwt", &jwt.path().to_string_lossy());
        let kubeconfig = rights::least_rights(&client, &server).await?;
        let broker = Broker::start("max_file_store: 1TB", &conf).await?;
        Ok(Self {
            nats_url: broker.url(),
            client,
            server,
            broker: tokio::sync::Mutex::new(broker),
            operator: tokio::sync::Mutex::new(None),
            leases: AtomicU32::new(0),
            kubeconfig,
            jwt,
            log: tempfile::NamedTempFile::new()?,
        })
    }
}

/// Waits until `look` finds something.
pub async fn wait<T, F>(what: &str, look: impl Fn() -> F) -> anyhow::Result<T>
where
    F: Future<Output = anyhow::Result<Option<T>>>,
{
    let began = Instant::now();
    loop {
        let found = look().await;
        match found {
            Ok(Some(found)) => return Ok(found),
            other if began.elapsed() > PATIENCE => {
                let error = other.err().map(|error| format!(" ({error:#})")).unwrap_or_default();
                anyhow::bail!("it did not come about within {PATIENCE:?} that {what}{error}");
            }
            _ => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}
