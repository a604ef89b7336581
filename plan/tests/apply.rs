//! What is planned, applied to a real API server: it takes every object as it
//! is, twice without a change, and the pods keep Pod Security `restricted`.

#![allow(clippy::unwrap_used, clippy::panic, clippy::needless_pass_by_value)] // It is a test.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::api::{Patch, PatchParams, PostParams};
use kube::core::DynamicObject;
use kube::{Api, Client};
use murmur_crds::Microservice;
use murmur_plan::database::{self, Known, Version};
use murmur_plan::microservice::{self, BusSecrets, Input, Neighbours};
use murmur_plan::settings::{DatabaseImage, DatabaseImages, EventStoreDefaults};
use murmur_plan::upgrade::Release;
use murmur_plan::{Object, Settings, labels};
use murmur_test_apiserver::TestApiServer;
use serde_json::{Value, json};

const NAMESPACE: &str = "shop";

fn planned(name: &str, spec: Value) -> Vec<Object> {
    let mut resource = Microservice::new(name, serde_json::from_value(spec).unwrap());
    resource.metadata.namespace = Some(NAMESPACE.into());
    resource.metadata.uid = Some("0e8d5d0c-6a4e-4f0e-9a55-0d3a3a1b0c11".into());
    let service = microservice::validate(&resource).unwrap();
    let config = microservice::config(&service, &[], &Neighbours::default(), None, None);
    let settings = Settings {
        sidecar_image: "murmur/sidecar:dev".into(),
        cli_image: "murmur/operator:dev".into(),
        bus_url: "nats://nats:4222".into(),
        event_store: EventStoreDefaults {
            replicas: 1,
            max_bytes: 1 << 30,
            duplicate_window: Duration::from_secs(600),
        },
        databases: DatabaseImages {
            postgres: image("postgres", "17"),
            mariadb: image("mariadb", "11.8"),
            redis: image("redis", "8"),
        },
        tracing: None,
    };
    let secrets = BusSecrets {
        user_jwt: "jwt".into(),
        user_seed: "seed".into(),
        message_id_key: "00".repeat(32),
        token: "token".into(),
    };
    let text = |text: &str| text.to_owned();
    let database = database::Secrets {
        password: text("password"),
        admin_password: text("password"),
        murmur_password: text("password"),
        authority: text("authority"),
        certificate: text("certificate"),
        key: text("key"),
    };
    let input = Input {
        settings: &settings,
        service: &service,
        subscriptions: &[],
        secrets: &secrets,
        sidecar: &Release { image: settings.sidecar_image.clone(), tracing: None },
        upgraded_from: None,
        config: &config,
        database: Some(Known { secrets: &database, held: None, ready: true }),
    };
    microservice::plan(&input).unwrap()
}

fn image(name: &str, version: &str) -> DatabaseImage {
    DatabaseImage { repository: format!("docker.io/{name}"), version: Version::parse(version).unwrap() }
}

async fn apply(client: &Client, object: &Object) -> DynamicObject {
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), NAMESPACE, &object.resource);
    let parameters = PatchParams::apply(labels::MANAGER).force();
    match api.patch(&object.name, &parameters, &Patch::Apply(&object.value)).await {
        Ok(applied) => applied,
        Err(error) => panic!("{} {}: {error}", object.resource.kind, object.name),
    }
}

/// Applies all objects until they are stored as they stay, and again: then
/// nothing may change.
async fn apply_until_stable(client: &Client, objects: &[Object]) {
    for object in objects {
        // The API server itself rewrites a claim once more after its creation, with no visible difference.
        for _ in 0..2 {
            apply(client, object).await;
        }
        let [one, other] = [apply(client, object).await, apply(client, object).await];
        let what = format!("{} {} changed", object.resource.kind, object.name);
        assert_eq!(one.metadata.resource_version, other.metadata.resource_version, "{what}");
    }
}

fn deployment(objects: &[Object]) -> &Object {
    objects.last().filter(|object| object.resource.kind == "Deployment").unwrap()
}

#[tokio::test]
async fn a_real_api_server_takes_what_is_planned() {
    let server = TestApiServer::start().await.unwrap();
    let client = server.client().await.unwrap();
    let namespace: Namespace = serde_json::from_value(json!({"metadata": {
        "name": NAMESPACE,
        "labels": {"pod-security.kubernetes.io/enforce": "restricted"},
    }}))
    .unwrap();
    Api::all(client.clone()).create(&PostParams::default(), &namespace).await.unwrap();

    let plain = json!({"image": "users:dev", "port": 8080});
    let volume = json!({"image": "users:dev", "port": 8080, "volume": {"size": "1Gi"}});
    let sqlite = json!({"image": "history:dev", "port": 8080,
        "database": {"engine": "SQLite", "storage": {"size": "1Gi", "whenDeleted": "Delete"}}});
    let everything = json!({
        "image": "users:1", "imagePullPolicy": "Always", "port": 9000, "replicas": 3,
        "env": [{"name": "LOG", "value": "debug"}], "envFrom": [{"configMapRef": {"name": "settings"}}],
        "command": ["/users"], "args": ["--fast"],
        "resources": {"requests": {"cpu": 0.5, "memory": "64Mi"}, "limits": {"memory": "128Mi"}},
        "imagePullSecrets": [{"name": "registry"}],
        "probes": {"readiness": {"path": "/readyz"}, "liveness": {"path": "/livez"}},
        "securityContext": {"runAsUser": 1000, "runAsGroup": 2000},
        "podOverrides": {"spec": {"nodeSelector": {"disk": "fast"},
            "containers": [{"name": "service", "ports": [{"containerPort": 9001}]}]}},
        "allowFrom": [{"namespaceSelector": {}}],
        "sidecar": {"resources": {"limits": {"memory": "128Mi"}}},
    });
    let postgres = json!({"image": "users:dev", "port": 8080, "replicas": 2,
        "database": {"engine": "Postgres", "version": "17.2", "storage": {"size": "1Gi"},
            "postgres": {"parameters": {"work_mem": "16MB"}}, "restoreFrom": {},
            "backup": {"schedule": "0 3 * * *", "storage": {"size": "1Gi"}}}});
    let server = |engine: &str| json!({"image": "a:dev", "port": 8080, "database": {"engine": engine, "storage": {"size": "1Gi"}}});
    let (mariadb, redis) = (server("MariaDB"), server("Redis"));
    let external = json!({"image": "a:dev", "port": 8080,
        "database": {"engine": "External", "external": {"secretRef": {"name": "elsewhere"}}}});
    let all = [
        ("plain", &plain),
        ("history", &sqlite),
        ("everything", &everything),
        ("users", &postgres),
        ("comments", &mariadb),
        ("moderation", &redis),
        ("legacy", &external),
    ];
    for (name, spec) in all {
        let objects = planned(name, spec.clone());
        apply_until_stable(&client, &objects).await;

        // There is no controller here that would make the pod: the template alone is tried.
        let templates = objects.iter().flat_map(|object| {
            let spec = &object.value["spec"];
            [&spec["template"], &spec["jobTemplate"]["spec"]["template"]]
        });
        for template in templates.filter(|template| template.is_object()) {
            let pod: Pod =
                serde_json::from_value(json!({"metadata": {"name": name}, "spec": template["spec"]}))
                    .unwrap();
            let dry_run = PostParams { dry_run: true, ..PostParams::default() };
            Api::namespaced(client.clone(), NAMESPACE).create(&dry_run, &pod).await.unwrap();
        }
    }

    // A service that gets a volume rolls out another way, and back.
    for (spec, strategy) in [(&plain, "RollingUpdate"), (&volume, "Recreate"), (&plain, "RollingUpdate")] {
        let objects = planned("changing", spec.clone());
        apply_until_stable(&client, &objects).await;
        let applied = apply(&client, deployment(&objects)).await;
        assert_eq!(applied.data["spec"]["strategy"]["type"], strategy);
    }
    // A claim that is no longer to go with its service loses its owner.
    let mut kept = sqlite;
    kept["database"]["storage"]["whenDeleted"] = json!("Retain");
    let claim = planned("history", kept).into_iter().find(Object::is_claim).unwrap();
    assert_eq!(apply(&client, &claim).await.metadata.owner_references, None);
}
