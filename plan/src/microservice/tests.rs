//! What is made for a service. The snapshots show a review what a change does
//! to a cluster.

use std::fmt::Write;

use serde_json::Value;

use super::*;
use crate::examples::{CATALOG, ORDERS, microservice, secrets, settings, valid, valid_subscription};
use crate::settings::Tracing;

const EVERYTHING: &str = "
image: registry.example/users:1
imagePullPolicy: Always
port: 9000
replicas: 3
env: [{name: LOG, value: debug}]
envFrom: [{configMapRef: {name: users-settings}}]
command: [/users]
args: [--fast]
resources: {requests: {cpu: 1, memory: 64Mi}, limits: {memory: 128Mi}}
imagePullSecrets: [{name: registry}]
probes: {readiness: {path: /readyz}, liveness: {path: /livez}}
securityContext: {runAsUser: 1000, runAsGroup: 2000}
podOverrides:
  metadata: {annotations: {example.com/team: people}}
  spec:
    nodeSelector: {disk: fast}
    containers: [{name: service, terminationMessagePolicy: FallbackToLogsOnError}]
publishes: [{type: UserRenamed}, {type: UserCreated}]
allowFrom: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: monitoring}}}]
sidecar: {logLevel: debug, resources: {limits: {memory: 128Mi}}}
";

fn objects(service: &ValidMicroservice, subscriptions: &[ValidSubscription]) -> Result<Vec<Object>, Invalid> {
    let sidecar = Release { image: "murmur/sidecar:dev".into(), tracing: None };
    objects_with(service, subscriptions, &sidecar)
}

fn objects_with(
    service: &ValidMicroservice,
    subscriptions: &[ValidSubscription],
    sidecar: &Release,
) -> Result<Vec<Object>, Invalid> {
    let config = config(service, subscriptions, &Neighbours::default(), None, None);
    plan(&Input {
        settings: &settings(),
        service,
        subscriptions,
        secrets: &secrets(),
        sidecar,
        upgraded_from: None,
        config: &config,
        database: None,
    })
}

/// All objects as YAML.
fn manifests(service: &ValidMicroservice, subscriptions: &[ValidSubscription]) -> String {
    let mut text = String::new();
    for object in objects(service, subscriptions).unwrap() {
        writeln!(text, "---\n{}", serde_saphyr::to_string(&object.value).unwrap().trim_end()).unwrap();
    }
    text
}

fn of_kind(service: &ValidMicroservice, kind: &str) -> Vec<Value> {
    let objects = objects(service, &[]).unwrap();
    objects.into_iter().filter(|object| object.resource.kind == kind).map(|object| object.value).collect()
}

#[test]
fn a_minimal_service() {
    insta::assert_snapshot!(manifests(&valid("users", "{image: users:dev, port: 8080}"), &[]));
}

#[test]
fn a_service_with_sqlite_and_two_subscriptions() {
    let spec = "{image: history:dev, port: 8080, database: {engine: SQLite, storage: {size: 1Gi}}}";
    let subscriptions =
        [valid_subscription("history-orders", ORDERS), valid_subscription("history-catalog", CATALOG)];
    insta::assert_snapshot!(manifests(&valid("history", spec), &subscriptions));
}

#[test]
fn a_service_with_a_volume_that_goes_with_it() {
    let spec = "
image: files:dev
port: 8080
volume: {size: 5Gi, storageClassName: fast, whenDeleted: Delete}
";
    insta::assert_snapshot!(manifests(&valid("files", spec), &[]));
}

#[test]
fn a_service_with_everything_set() {
    insta::assert_snapshot!(manifests(&valid("users", EVERYTHING), &[]));
}

#[test]
fn the_deployment_comes_last_as_its_pods_mount_the_rest() {
    let service = valid("a", "{image: a, port: 80, volume: {size: 1Gi}}");
    let kinds: Vec<_> =
        objects(&service, &[]).unwrap().into_iter().map(|object| object.resource.kind).collect();
    assert_eq!(kinds.last().map(String::as_str), Some("Deployment"));
    for kind in ["Secret", "ConfigMap", "ServiceAccount", "PersistentVolumeClaim"] {
        assert!(kinds.iter().any(|it| it == kind), "{kind}");
    }
}

#[test]
fn every_planned_kind_is_pruned_but_claims() {
    let service = valid("a", "{image: a, port: 80, volume: {size: 1Gi}}");
    for object in objects(&service, &[]).unwrap() {
        let prunable = crate::object::prunable().contains(&object.resource);
        assert_eq!(prunable, !object.is_claim(), "{}", object.resource.kind);
    }
}

#[test]
fn every_object_but_a_kept_claim_is_owned_by_its_microservice() {
    for (when_deleted, owned) in [("Retain", false), ("Delete", true)] {
        let spec = format!("{{image: a, port: 80, volume: {{size: 1Gi, whenDeleted: {when_deleted}}}}}");
        for object in objects(&valid("a", &spec), &[]).unwrap() {
            let owners = &object.value["metadata"]["ownerReferences"];
            if object.is_claim() && !owned {
                assert!(owners.is_null());
            } else {
                assert_eq!((&owners[0]["uid"], &owners[0]["controller"]), (&"uid-of-a".into(), &true.into()));
            }
            assert_eq!(object.value["metadata"]["namespace"], "shop");
            assert_eq!(object.value["metadata"]["labels"]["murmur.dev/microservice"], "a");
        }
    }
}

#[test]
fn no_object_is_planned_for_another_namespace_or_under_a_name_too_long() {
    let service = valid(&"x".repeat(40), "{image: a, port: 80, volume: {size: 1Gi}}");
    for object in objects(&service, &[]).unwrap() {
        assert!(object.name.len() <= 63, "{}", object.name);
    }
}

#[test]
fn a_service_that_waits_until_it_has_caught_up_is_not_ready_before_and_can_be_called_all_the_same() {
    let spec = "{image: a, port: 80, startup: {waitFor: CaughtUp, timeout: 1h}}";
    let service = valid("users", spec);
    let deployment = &of_kind(&service, "Deployment")[0];
    let sidecar = &deployment["spec"]["template"]["spec"]["initContainers"][0];
    assert_eq!(sidecar["readinessProbe"]["httpGet"]["path"], "/readyz");
    let env = sidecar["env"].as_array().unwrap();
    assert!(env.iter().any(|one| one["name"] == "MURMUR_WAIT_FOR" && one["value"] == "CaughtUp"));
    assert_eq!(deployment["spec"]["progressDeadlineSeconds"], 4200);
    let services = of_kind(&service, "Service");
    let pods = services.iter().find(|it| it["metadata"]["name"] == "users-pods").unwrap();
    assert_eq!(pods["spec"]["publishNotReadyAddresses"], true);
    let plain = valid("users", "{image: a, port: 80, startup: {waitFor: Started}}");
    assert_eq!(manifests(&plain, &[]), manifests(&valid("users", "{image: a, port: 80}"), &[]));
}

#[test]
fn the_grace_period_has_room_for_the_longest_delivery() {
    let service = valid("history", "{image: a, port: 80}");
    let seconds = |subscriptions: &[ValidSubscription]| {
        let deployment = objects(&service, subscriptions).unwrap().pop().unwrap().value;
        deployment["spec"]["template"]["spec"]["terminationGracePeriodSeconds"].clone()
    };
    // A subscription with the usual timeout changes no pod.
    assert_eq!(seconds(&[]), 50);
    assert_eq!(seconds(&[valid_subscription("a", CATALOG)]), 50);
    assert_eq!(seconds(&[valid_subscription("a", CATALOG), valid_subscription("b", ORDERS)]), 110);
    let other = CATALOG.replace("history", "users").replace("/events", "/slow");
    let other = other.replace("path: /slow/products", "path: /slow, timeout: 1h");
    assert_eq!(seconds(&[valid_subscription("c", &other)]), 50, "another service's subscription");
}

#[test]
fn a_change_of_subscriptions_changes_no_pod() {
    let service = valid("history", "{image: a, port: 80}");
    let before = objects(&service, &[]).unwrap().pop().unwrap();
    let after = objects(&service, &[valid_subscription("a", CATALOG)]).unwrap().pop().unwrap();
    assert_eq!(before, after);
}

#[test]
fn planning_twice_gives_the_same() {
    let service = valid("users", EVERYTHING);
    assert_eq!(objects(&service, &[]).unwrap(), objects(&service, &[]).unwrap());
}

#[test]
fn the_metrics_port_is_open_to_the_allowed_peers_only() {
    let policy = &of_kind(&valid("users", EVERYTHING), "NetworkPolicy")[0];
    let ports = |rule: usize| {
        let ports = policy["spec"]["ingress"][rule]["ports"].as_array().unwrap();
        ports.iter().map(|port| port["port"].as_i64().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(ports(0), [9000]);
    assert_eq!(ports(1), [9000, 3601]);
    let closed = &of_kind(&valid("a", "{image: a, port: 80}"), "NetworkPolicy")[0];
    assert_eq!(closed["spec"]["ingress"].as_array().unwrap().len(), 1);
}

#[test]
fn the_generation_of_the_configuration_rises_with_every_change_and_only_then() {
    let service = valid("history", "{image: a, port: 8080, publishes: [{type: B}, {type: A}]}");
    let alone = Neighbours::default();
    let catalog = valid_subscription("catalog", CATALOG);
    let first = config(&service, std::slice::from_ref(&catalog), &alone, None, None);
    assert_eq!(first.generation, 1);
    assert_eq!(first.subscriptions[0].deliver().unwrap().port, 8080);
    let told = SidecarConfig { user_jwt: Some("jwt".into()), ..first.clone() };
    let same = config(&service, std::slice::from_ref(&catalog), &alone, None, Some(&told));
    assert_eq!(same, first);
    let gone = config(&service, &[], &alone, None, Some(&told));
    assert_eq!((gone.generation, gone.subscriptions.len()), (2, 0));
    let store = Some(bus::StreamIdentity("2026-11-21T09:00:00Z".into()));
    let seen = config(&service, &[], &alone, store.clone(), Some(&gone));
    assert_eq!((seen.generation, &seen.event_store), (3, &store));
    // The bus is away: what was seen still holds.
    assert_eq!(config(&service, &[], &alone, None, Some(&seen)), seen);
}

#[test]
fn a_sidecar_is_told_who_answers_what_it_asks_and_where_to_call() {
    let spec = "
image: a
port: 80
publishes: [{type: A, schema: {type: object}}, {type: B}]
answers: [{query: Z, path: /z}, {query: Y, path: /y, port: 81}]
asks: [{query: Q}, {query: Nobody}]
calls: [{name: users}, {name: absent, timeout: 2s}]
";
    let asked = "{image: a, port: 8080, answers: [{query: Q, path: /q}]}";
    let neighbours = Neighbours::of(&[microservice("users", asked), microservice("orders", asked)]);
    let told = config(&valid("a", spec), &[], &neighbours, None, None);
    assert_eq!(serde_json::to_value(&told.schemas).unwrap(), serde_json::json!({"A": {"type": "object"}}));
    let answers = serde_json::json!([
        {"query": "Y", "port": 81, "path": "/y"}, {"query": "Z", "port": 80, "path": "/z"}]);
    assert_eq!(serde_json::to_value(&told.answers).unwrap(), answers);
    let asks = serde_json::json!([
        {"query": "Nobody", "services": []}, {"query": "Q", "services": ["orders", "users"]}]);
    assert_eq!(serde_json::to_value(&told.asks).unwrap(), asks);
    let calls = serde_json::json!([
        {"service": "absent", "timeout": 2000}, {"service": "users", "port": 8080, "timeout": 10000}]);
    assert_eq!(serde_json::to_value(&told.calls).unwrap(), calls);
    // A neighbour that comes or goes is a change.
    let alone = config(&valid("a", spec), &[], &Neighbours::default(), None, Some(&told));
    assert_eq!(alone.generation, told.generation + 1);
}

#[test]
fn a_port_for_deliveries_or_answers_is_closed_to_other_pods() {
    let service = valid("a", "{image: a, port: 80, answers: [{query: Q, path: /q, port: 8082}]}");
    for kind in ["NetworkPolicy", "Service"] {
        for object in of_kind(&service, kind) {
            assert!(!object.to_string().contains("8082"), "{object}");
        }
    }
}

#[test]
fn all_schemas_of_a_service_together_are_bounded() {
    let schema = format!("{{description: {}}}", "x".repeat(30_000));
    let types: Vec<_> = (0..9).map(|number| format!("{{type: T{number}, schema: {schema}}}")).collect();
    let spec = |count: usize| format!("{{image: a, port: 80, publishes: [{}]}}", types[..count].join(", "));
    assert!(validate(&microservice("a", &spec(8))).is_ok());
    let error = validate(&microservice("a", &spec(9))).unwrap_err();
    assert_eq!((error.reason(), error.to_string().contains("256 KiB")), ("InvalidValue", true));
}

#[test]
fn the_config_map_holds_no_jwt() {
    let service = valid("a", "{image: a, port: 80}");
    let config = SidecarConfig {
        user_jwt: Some("secret".into()),
        ..config(&service, &[], &Neighbours::default(), None, None)
    };
    assert!(!config::text(&config).contains("secret"));
    assert_eq!(serde_json::from_str::<SidecarConfig>(&config::text(&config)).unwrap().user_jwt, None);
}

#[test]
fn what_an_older_rule_may_have_let_in_is_named_with_its_field() {
    let base = "image: a\nport: 80\n";
    for (addition, reason, field) in [
        ("replicas: -1", "InvalidValue", "spec.replicas"),
        ("replicas: 2\nvolume: {size: 1Gi}", "InvalidValue", "spec.replicas"),
        ("autoscaling: {maxReplicas: 0}", "InvalidValue", "spec.autoscaling.maxReplicas"),
        ("autoscaling: {minReplicas: 3, maxReplicas: 2}", "InvalidValue", "spec.autoscaling.minReplicas"),
        (
            "autoscaling: {maxReplicas: 2}\nvolume: {size: 1Gi}",
            "InvalidValue",
            "spec.autoscaling.maxReplicas",
        ),
        ("volume: {size: big}", "InvalidQuantity", "spec.volume.size"),
        ("database: {engine: SQLite, storage: {size: big}}", "InvalidQuantity", "spec.database.storage.size"),
        ("resources: {limits: {cpu: fast}}", "InvalidQuantity", "spec.resources.limits.cpu"),
        ("resources: {requests: {cpu: fast}}", "InvalidQuantity", "spec.resources.requests.cpu"),
        (
            "resources: {requests: {cpu: 2}, limits: {cpu: 1500m}}",
            "RequestAboveLimit",
            "spec.resources.requests.cpu",
        ),
        (
            "sidecar: {resources: {requests: {memory: 1Gi}}}",
            "RequestAboveLimit",
            "spec.sidecar.resources.requests.memory",
        ),
        ("publishes: [{type: a..b}]", "InvalidName", "spec.publishes.type"),
        ("publishes: [{type: A, schema: {type: text}}]", "InvalidSchema", "spec.publishes[A].schema"),
        ("answers: [{query: a..b, path: /a}]", "InvalidName", "spec.answers.query"),
        ("answers: [{query: A, path: a}]", "InvalidValue", "spec.answers.path"),
        ("answers: [{query: A, path: /a, port: 3600}]", "InvalidValue", "spec.answers.port"),
        ("asks: [{query: a..b}]", "InvalidName", "spec.asks.query"),
        ("calls: [{name: A}]", "InvalidName", "spec.calls.name"),
        ("calls: [{name: a, timeout: never}]", "InvalidDuration", "spec.calls.timeout"),
        ("env: [{name: MURMUR_URL}]", "InvalidValue", "spec.env"),
    ] {
        let error = validate(&microservice("a", &format!("{base}{addition}"))).unwrap_err();
        assert_eq!(error.reason(), reason, "{addition}");
        assert!(error.to_string().contains(field), "{error}");
    }
    for port in [0, 3600, 3601, 65536] {
        let error = validate(&microservice("a", &format!("{{image: a, port: {port}}}"))).unwrap_err();
        assert!(error.to_string().contains("spec.port"), "{error}");
    }
    assert_eq!(validate(&microservice("a-db", base)).unwrap_err().reason(), "InvalidName");
}

/// The sidecar's variables of OpenTelemetry, where all sidecars are told `tracing`.
fn opentelemetry(spec: &str, tracing: Tracing) -> Vec<(String, String)> {
    let sidecar = Release { image: "murmur/sidecar:dev".into(), tracing: Some(tracing) };
    let deployment = objects_with(&valid("a", spec), &[], &sidecar).unwrap().pop().unwrap().value;
    let seen = crate::upgrade::Seen::of(
        &serde_json::from_value(deployment.clone()).unwrap(),
        jiff::Timestamp::UNIX_EPOCH,
    )
    .unwrap();
    assert_eq!(seen.release, sidecar, "whatever podOverrides say");
    let env = &deployment["spec"]["template"]["spec"]["initContainers"][0]["env"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let all = env.as_array().unwrap().iter().map(|one| (text(&one["name"]), text(&one["value"])));
    all.filter(|(name, _)| name.starts_with("OTEL_")).collect()
}

#[test]
fn every_sidecar_is_told_where_spans_go_and_pod_overrides_win() {
    let all = Tracing { otlp_endpoint: "http://collector:4318".into(), sample_ratio: None };
    let endpoint = |value: &str| ("OTEL_EXPORTER_OTLP_ENDPOINT".to_owned(), value.to_owned());
    assert_eq!(opentelemetry("{image: a, port: 80}", all.clone()), [endpoint("http://collector:4318")]);
    let some = Tracing { sample_ratio: Some("0.25".into()), ..all };
    let sampler = ("OTEL_TRACES_SAMPLER".to_owned(), "parentbased_traceidratio".to_owned());
    let ratio = |value: &str| ("OTEL_TRACES_SAMPLER_ARG".to_owned(), value.to_owned());
    let told = [endpoint("http://collector:4318"), sampler.clone(), ratio("0.25")];
    assert_eq!(opentelemetry("{image: a, port: 80}", some.clone()), told);
    let spec = "
image: a
port: 80
podOverrides:
  spec:
    initContainers:
    - name: murmur-sidecar
      env: [{name: OTEL_EXPORTER_OTLP_ENDPOINT, value: \"http://own:4318\"}, {name: OTEL_TRACES_SAMPLER_ARG, value: \"1\"}]
";
    assert_eq!(opentelemetry(spec, some), [endpoint("http://own:4318"), sampler, ratio("1")]);
}

#[test]
fn overrides_that_do_not_fit_are_an_error_and_no_panic() {
    let service = valid("a", "{image: a, port: 80, podOverrides: {spec: {containers: 1}}}");
    assert_eq!(objects(&service, &[]).unwrap_err().reason(), "InvalidPodOverrides");
}
