//! Every rule of every kind, against a real API server: an example that keeps
//! it is taken, one that breaks it is refused with a text that says why.

#![allow(clippy::unwrap_used, clippy::panic, clippy::needless_pass_by_value)] // It is a test.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DynamicObject, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Api, Client};
use murmur_test_apiserver::TestApiServer;
use serde_json::{Value, json};

#[path = "rules/eventsubscription.rs"]
mod eventsubscription;
#[path = "rules/mesh.rs"]
mod mesh;
#[path = "rules/microservice.rs"]
mod microservice;

/// The text of the error that a server answered with; none if it took the object.
type Refusal = Result<DynamicObject, String>;

/// One kind on the server.
struct Kind {
    api: Api<DynamicObject>,
    kind: &'static str,
    /// An object that is valid; examples change it.
    valid: Value,
}

impl Kind {
    fn new(client: &Client, kind: &'static str, plural: &str, valid: Value) -> Self {
        let gvk = GroupVersionKind::gvk(murmur_crds::GROUP, murmur_crds::VERSION, kind);
        let resource = ApiResource::from_gvk_with_plural(&gvk, plural);
        Self { api: Api::namespaced_with(client.clone(), "default", &resource), kind, valid }
    }

    /// The valid object under a name with some of its spec replaced (JSON merge patch).
    fn object(&self, name: &str, change: &Value) -> Value {
        let mut spec = self.valid.clone();
        merge(&mut spec, change);
        json!({
            "apiVersion": format!("{}/{}", murmur_crds::GROUP, murmur_crds::VERSION),
            "kind": self.kind,
            "metadata": {"name": name},
            "spec": spec,
        })
    }

    /// What the server says to the making of an object; nothing is stored.
    async fn create(&self, name: &str, change: &Value) -> Refusal {
        let object = serde_json::from_value(self.object(name, change)).unwrap();
        let dry_run = PostParams { dry_run: true, ..PostParams::default() };
        self.api.create(&dry_run, &object).await.map_err(|error| error.to_string())
    }

    /// What the server says to a change from one spec to another.
    async fn change(&self, name: &str, from: &Value, to: &Value) -> Refusal {
        let object = serde_json::from_value(self.object(name, from)).unwrap();
        let stored = self.api.create(&PostParams::default(), &object).await.unwrap();
        let mut changed = self.object(name, to);
        changed["metadata"]["resourceVersion"] = json!(stored.metadata.resource_version);
        let changed = serde_json::from_value(changed).unwrap();
        let answer = self.api.replace(name, &PostParams::default(), &changed).await;
        self.api.delete(name, &Default::default()).await.unwrap();
        answer.map_err(|error| error.to_string())
    }

    async fn takes(&self, change: Value) {
        if let Err(error) = self.create("example", &change).await {
            panic!("{} refused {change}: {error}", self.kind);
        }
    }

    async fn takes_name(&self, name: &str) {
        if let Err(error) = self.create(name, &json!({})).await {
            panic!("{} refused the name {name}: {error}", self.kind);
        }
    }

    async fn refuses(&self, change: Value, text: &str) {
        self.expect(&change.to_string(), self.create("example", &change).await, text);
    }

    async fn refuses_name(&self, name: &str, text: &str) {
        self.expect(name, self.create(name, &json!({})).await, text);
    }

    async fn takes_change(&self, from: Value, to: Value) {
        if let Err(error) = self.change("example", &from, &to).await {
            panic!("{} refused the change from {from} to {to}: {error}", self.kind);
        }
    }

    async fn refuses_change(&self, from: Value, to: Value, text: &str) {
        self.expect(&format!("{from} to {to}"), self.change("example", &from, &to).await, text);
    }

    fn expect(&self, what: &str, answer: Refusal, text: &str) {
        match answer {
            Ok(_) => panic!("{} took {what}, which should say {text:?}", self.kind),
            Err(error) => {
                assert!(error.contains(text), "{} said to {what}: {error}\nwanted: {text}", self.kind);
            }
        }
    }
}

/// JSON merge patch (RFC 7386).
fn merge(base: &mut Value, change: &Value) {
    let (Value::Object(base), Value::Object(change)) = (&mut *base, change) else {
        *base = change.clone();
        return;
    };
    for (name, value) in change {
        if value.is_null() {
            base.remove(name);
        } else {
            merge(base.entry(name.clone()).or_insert(json!({})), value);
        }
    }
}

/// Installs the definitions as they are in the repository.
async fn install(client: &Client) {
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    for definition in murmur_crds::definitions().unwrap() {
        apply(&api, &definition).await;
    }
}

async fn apply(api: &Api<CustomResourceDefinition>, definition: &CustomResourceDefinition) {
    let name = definition.metadata.name.clone().unwrap();
    api.patch(&name, &PatchParams::apply("test").force(), &Patch::Apply(definition)).await.unwrap();
    let established = |it: &CustomResourceDefinition| {
        it.status
            .iter()
            .flat_map(|status| status.conditions.iter().flatten())
            .any(|condition| condition.type_ == "Established" && condition.status == "True")
    };
    for _ in 0..600 {
        let current = api.get(&name).await.unwrap();
        let problems: Vec<_> = current
            .status
            .iter()
            .flat_map(|status| status.conditions.iter().flatten())
            .filter(|condition| condition.type_ == "NonStructuralSchema" && condition.status == "True")
            .collect();
        assert!(problems.is_empty(), "{name} is not structural: {problems:?}");
        if established(&current) {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    panic!("{name} is not established");
}

/// One test, and so one server: each example is one request of a few milliseconds.
#[tokio::test]
async fn the_api_server_takes_good_examples_and_refuses_bad_ones() {
    let server = TestApiServer::start().await.unwrap();
    let client = server.client().await.unwrap();
    install(&client).await;
    // The API server serves a new kind a moment after it is established.
    let microservices = microservice::kind(&client);
    for _ in 0..100 {
        if microservices.create("example", &json!({})).await.is_ok() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    microservice::rules(&client).await;
    eventsubscription::rules(&client).await;
    mesh::rules(&client).await;
}
