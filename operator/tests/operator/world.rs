//! An API server, a nats-server and an operator, shared by the tests of this
//! process one after another, each with namespaces of its own.

use std::fmt::Debug;
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};
use std::time::{Duration, Instant};

use clap::Parser;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::api::{Api, DeleteParams, ObjectMeta, Patch, PatchParams, PostParams};
use kube::{Client, Resource};
use murmur_crds::{EventSubscription, Microservice};
use murmur_operator::settings::{Flags, Settings};
use murmur_operator::trust::{self, Account, User};
use murmur_test_apiserver::{Options, TestApiServer};
use murmur_test_support::Broker;
use murmur_test_support::broker::free_port;
use rustix::process::{Pid, Signal, kill_process};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::process::{Child, Command};

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
}

/// A running `murmur-operator`.
pub struct Operator {
    child: Child,
    port: u16,
}

/// Who disturbs whom.
static OTHERS: RwLock<()> = RwLock::new(());

/// Runs a test in the shared world, beside others.
pub fn test<F: Future<Output = anyhow::Result<()>>>(name: &str, body: impl FnOnce(Arc<World>) -> F) {
    let world = shared();
    let _beside = OTHERS.read().unwrap_or_else(PoisonError::into_inner);
    run(name, &world, body);
}

/// Runs a test that kills something in the shared world, alone.
pub fn test_alone<F: Future<Output = anyhow::Result<()>>>(name: &str, body: impl FnOnce(Arc<World>) -> F) {
    let world = shared();
    let _alone = OTHERS.write().unwrap_or_else(PoisonError::into_inner);
    run(name, &world, body);
}

type Shared = Arc<(tokio::runtime::Runtime, Arc<World>)>;

fn shared() -> Shared {
    static SHARED: Mutex<Weak<(tokio::runtime::Runtime, Arc<World>)>> = Mutex::new(Weak::new());
    let mut weak = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    weak.upgrade().unwrap_or_else(|| {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let world = runtime.block_on(World::start()).unwrap();
        let shared = Arc::new((runtime, Arc::new(world)));
        *weak = Arc::downgrade(&shared);
        shared
    })
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
        let log = std::fs::read_to_string(log_file()).unwrap_or_default();
        let tail: Vec<&str> = log.lines().rev().take(12).collect();
        let tail: Vec<&str> = tail.into_iter().rev().collect();
        panic!("{error:#}\n\nthe operator's last lines:\n{}", tail.join("\n"));
    }
}

fn log_file() -> std::path::PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("operator-{}.log", std::process::id()))
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
        trust::load_trust(&client, &settings("nats://127.0.0.1:4222")?).await?;
        let maps: Api<ConfigMap> = Api::namespaced(client.clone(), SYSTEM);
        let conf = maps.get("murmur-nats-auth").await?.data.unwrap_or_default()["auth.conf"].clone();
        let jwt = tempfile::tempdir()?;
        let conf = conf.replace("/data/jwt", &jwt.path().to_string_lossy());
        let kubeconfig = least_rights(&client, &server).await?;
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
        })
    }

    async fn ensure_operator(&self) -> anyhow::Result<()> {
        let mut operator = self.operator.lock().await;
        if operator.is_none() {
            *operator = Some(self.start_operator(&self.new_lease()).await?);
        }
        Ok(())
    }

    /// A lease that nobody holds: one that was killed does not give its back.
    pub fn new_lease(&self) -> String {
        format!("murmur-operator-{}", self.leases.fetch_add(1, Ordering::Relaxed))
    }

    /// Starts an operator beside the shared one.
    pub async fn start_operator(&self, lease: &str) -> anyhow::Result<Operator> {
        self.start_operator_with(lease, SIDECAR_IMAGE, &[]).await
    }

    /// The same with another sidecar and more flags.
    pub async fn start_operator_with(
        &self,
        lease: &str,
        image: &str,
        more: &[&str],
    ) -> anyhow::Result<Operator> {
        let port = free_port()?;
        let log = std::fs::File::options().create(true).append(true).open(log_file())?;
        let child = Command::new(env!("CARGO_BIN_EXE_murmur-operator"))
            .env("KUBECONFIG", self.kubeconfig.path())
            .args(flags(&self.nats_url))
            .args(["--sidecar-image", image])
            .args(more)
            .args(["--lease-name", lease, "--lease-seconds", "3", "--identity", &format!("operator-{port}")])
            .args(["--listen", &format!("127.0.0.1:{port}"), "--log-level", "info,murmur_operator=debug"])
            .stdout(Stdio::from(log.try_clone()?))
            .stderr(Stdio::from(log))
            .kill_on_drop(true)
            .spawn()?;
        Ok(Operator { child, port })
    }

    /// Kills NATS and starts it again with nothing that it had.
    pub async fn nats_loses_everything(&self) -> anyhow::Result<()> {
        let mut broker = self.broker.lock().await;
        broker.kill().await?;
        std::fs::remove_dir_all(broker.folder().join("jetstream"))?;
        for entry in std::fs::read_dir(self.jwt.path())? {
            std::fs::remove_file(entry?.path())?;
        }
        broker.resume().await
    }

    /// Kills the shared operator without a warning.
    pub async fn kill_operator(&self) -> anyhow::Result<()> {
        if let Some(mut operator) = self.operator.lock().await.take() {
            operator.child.kill().await?;
        }
        Ok(())
    }

    /// Starts the shared operator again.
    pub async fn restart_operator(&self) -> anyhow::Result<()> {
        self.ensure_operator().await
    }

    /// A namespace of this test's own: a mesh.
    pub async fn namespace(&self, prefix: &str) -> anyhow::Result<String> {
        let metadata = ObjectMeta { generate_name: Some(format!("{prefix}-")), ..ObjectMeta::default() };
        let namespace = Namespace { metadata, ..Namespace::default() };
        let made =
            Api::<Namespace>::all(self.client.clone()).create(&PostParams::default(), &namespace).await?;
        Ok(made.metadata.name.unwrap_or_default())
    }

    pub fn api<K>(&self, namespace: &str) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), namespace)
    }

    /// Applies a Microservice with these fields besides an image and a port.
    pub async fn microservice(
        &self,
        namespace: &str,
        name: &str,
        spec: Value,
    ) -> anyhow::Result<Microservice> {
        let mut all = json!({"image": format!("{name}:dev"), "port": 8080});
        merge(&mut all, spec);
        self.apply(namespace, name, "Microservice", all).await
    }

    /// Applies an EventSubscription of a service to one type.
    pub async fn subscription(
        &self,
        namespace: &str,
        name: &str,
        service: &str,
        event_type: &str,
        spec: Value,
    ) -> anyhow::Result<EventSubscription> {
        let mut all = json!({"microserviceRef": {"name": service}, "events": [{"type": event_type}],
            "deliver": {"path": "/events"}});
        merge(&mut all, spec);
        self.apply(namespace, name, "EventSubscription", all).await
    }

    async fn apply<K>(&self, namespace: &str, name: &str, kind: &str, spec: Value) -> anyhow::Result<K>
    where
        K: Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>
            + Clone
            + DeserializeOwned
            + Debug,
    {
        let object = json!({"apiVersion": "murmur.dev/v1alpha1", "kind": kind,
            "metadata": {"name": name, "namespace": namespace}, "spec": spec});
        let parameters = PatchParams::apply("test").force();
        Ok(self.api::<K>(namespace).patch(name, &parameters, &Patch::Apply(&object)).await?)
    }

    /// Removes an object and waits until it is gone.
    pub async fn delete<K>(&self, namespace: &str, name: &str) -> anyhow::Result<()>
    where
        K: Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>
            + Clone
            + DeserializeOwned
            + Debug,
    {
        self.api::<K>(namespace).delete(name, &DeleteParams::background()).await?;
        wait("it is gone", || async {
            Ok(self.api::<K>(namespace).get_opt(name).await?.is_none().then_some(()))
        })
        .await
    }

    /// Does what the Deployment's controller and a kubelet would: all pods are there.
    pub async fn pods_become_ready(&self, namespace: &str, name: &str) -> anyhow::Result<()> {
        let api = self.api::<Deployment>(namespace);
        let deployment = wait("the Deployment is there", || async { Ok(api.get_opt(name).await?) }).await?;
        let replicas = deployment.spec.and_then(|spec| spec.replicas).unwrap_or(1);
        let status = json!({"status": {"observedGeneration": deployment.metadata.generation,
            "replicas": replicas, "updatedReplicas": replicas, "readyReplicas": replicas,
            "availableReplicas": replicas,
            "conditions": [{"type": "Available", "status": "True", "reason": "MinimumReplicasAvailable"}]}});
        api.patch_status(name, &PatchParams::default(), &Patch::Merge(&status)).await?;
        Ok(())
    }

    /// Waits for a condition of a Microservice; returns its reason and message.
    pub async fn condition(
        &self,
        namespace: &str,
        name: &str,
        kind: &str,
        status: &str,
    ) -> anyhow::Result<(String, String)> {
        self.condition_of::<Microservice>(namespace, name, kind, status).await
    }

    /// Waits for a condition of an object; returns its reason and message.
    pub async fn condition_of<K>(
        &self,
        namespace: &str,
        name: &str,
        kind: &str,
        status: &str,
    ) -> anyhow::Result<(String, String)>
    where
        K: Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>
            + Clone
            + DeserializeOwned
            + serde::Serialize
            + Debug,
    {
        let api = self.api::<K>(namespace);
        let what = format!("{name} has the condition {kind} {status}");
        let found = wait(&what, || async {
            let object = serde_json::to_value(api.get(name).await?)?;
            let found = condition(&object, kind).filter(|condition| condition["status"] == status);
            let current = object["metadata"]["generation"].clone();
            Ok(found.filter(|found| found["observedGeneration"] == current))
        })
        .await?;
        let text = |field: &str| found[field].as_str().unwrap_or_default().to_owned();
        Ok((text("reason"), text("message")))
    }

    /// What the shared operator counts.
    pub async fn metrics(&self) -> anyhow::Result<String> {
        let operator = self.operator.lock().await;
        let operator = operator.as_ref().ok_or_else(|| anyhow::anyhow!("no operator runs"))?;
        Ok(operator.get("/metrics").await?.1)
    }

    /// A connection with all rights in a mesh.
    pub async fn administrator(&self, namespace: &str) -> anyhow::Result<async_nats::Client> {
        let account = self.account(namespace).await?;
        let user = account.administrator()?;
        connect(&self.nats_url, user.jwt, &user.seed, "_INBOX").await
    }

    pub async fn account(&self, namespace: &str) -> anyhow::Result<Account> {
        Ok(trust::load_account(&self.client, SYSTEM, namespace).await?)
    }

    pub fn nats_url(&self) -> &str {
        &self.nats_url
    }

    /// Asks the JetStream API of a mesh.
    pub async fn jetstream(&self, namespace: &str, request: &str, body: &Value) -> anyhow::Result<Value> {
        let client = self.administrator(namespace).await?;
        let subject = format!("$JS.API.{request}");
        // Some requests must have no body at all.
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let answer = client.request(subject, body.into()).await?;
        Ok(serde_json::from_slice(&answer.payload)?)
    }
}

impl Operator {
    /// Asks it to stop; returns its exit code.
    pub async fn stop(mut self) -> anyhow::Result<Option<i32>> {
        let id = self.child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        kill_process(id.ok_or_else(|| anyhow::anyhow!("it has ended"))?, Signal::TERM)?;
        Ok(tokio::time::timeout(PATIENCE, self.child.wait()).await??.code())
    }

    /// What it serves at a path: the status line's code and the body.
    pub async fn get(&self, path: &str) -> anyhow::Result<(u16, String)> {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", self.port)).await?;
        let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        let code = answer.split(' ').nth(1).unwrap_or_default().parse()?;
        let (_, body) = answer.split_once("\r\n\r\n").unwrap_or_default();
        Ok((code, body.to_owned()))
    }
}

/// A kubeconfig for the operator with the rights that the chart gives it, and no others.
async fn least_rights(client: &Client, server: &TestApiServer) -> anyhow::Result<tempfile::NamedTempFile> {
    let chart = concat!(env!("CARGO_MANIFEST_DIR"), "/../charts/murmur");
    let rendered = Command::new(murmur_test_apiserver::tool("helm")?)
        .args(["template", "murmur", chart, "--namespace", SYSTEM])
        .args(["--kube-version", "1.33.0", "--show-only", "templates/operator/rbac.yaml"])
        .output()
        .await?;
    anyhow::ensure!(rendered.status.success(), "{}", String::from_utf8_lossy(&rendered.stderr));
    for document in String::from_utf8(rendered.stdout)?.split("\n---") {
        let Ok(mut object) = serde_saphyr::from_str::<Value>(document) else { continue };
        let kind = object["kind"].as_str().unwrap_or_default().to_owned();
        if kind == "Role" {
            // These tests use a lease for each operator; the chart knows one.
            for rule in object["rules"].as_array_mut().into_iter().flatten() {
                rule.as_object_mut().map(|rule| rule.remove("resourceNames"));
            }
        }
        let object: kube::api::DynamicObject = serde_json::from_value(object)?;
        let types = object.types.clone().unwrap_or_default();
        let kind = kube::core::GroupVersionKind::try_from(&types)?;
        let plural = kube::core::ApiResource::from_gvk(&kind);
        let api: Api<kube::api::DynamicObject> = if object.metadata.namespace.is_some() {
            Api::namespaced_with(client.clone(), SYSTEM, &plural)
        } else {
            Api::all_with(client.clone(), &plural)
        };
        api.create(&PostParams::default(), &object).await?;
    }
    let mut config: Value = serde_json::from_str(&std::fs::read_to_string(server.kubeconfig())?)?;
    config["users"][0]["user"]["as"] = json!(format!("system:serviceaccount:{SYSTEM}:murmur-operator"));
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(file.path(), config.to_string())?;
    Ok(file)
}

/// Connects as a user.
pub async fn connect(url: &str, jwt: String, seed: &str, inbox: &str) -> anyhow::Result<async_nats::Client> {
    let pair = Arc::new(nkeys::KeyPair::from_seed(seed)?);
    let options = async_nats::ConnectOptions::with_jwt(jwt, move |nonce| {
        let pair = pair.clone();
        async move { pair.sign(&nonce).map_err(async_nats::AuthError::new) }
    });
    let options = options.custom_inbox_prefix(inbox).request_timeout(Some(Duration::from_secs(1)));
    Ok(options.connect(url).await?)
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

/// A condition in an object's JSON.
pub fn condition(object: &Value, kind: &str) -> Option<Value> {
    let conditions = object["status"]["conditions"].as_array()?;
    conditions.iter().find(|condition| condition["type"] == kind).cloned()
}

pub fn named(name: &str) -> ObjectMeta {
    ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() }
}

/// A user with everything but rights.
pub fn nobody(account: &Account, public_key: String) -> User {
    User {
        name: "nobody".to_owned(),
        public_key,
        account: account.public_key(),
        publish: vec![],
        subscribe: vec!["_INBOX.>".to_owned()],
    }
}

fn merge(into: &mut Value, from: Value) {
    if let (Some(into), Value::Object(from)) = (into.as_object_mut(), from) {
        into.extend(from);
    }
}

fn flags(nats_url: &str) -> [String; 4] {
    ["--namespace", SYSTEM, "--nats-url", nats_url].map(str::to_owned)
}

fn settings(nats_url: &str) -> anyhow::Result<Settings> {
    let flags = Flags::try_parse_from(
        ["test", "--sidecar-image", SIDECAR_IMAGE].map(str::to_owned).into_iter().chain(flags(nats_url)),
    )?;
    Ok(Settings::parse(flags)?)
}
