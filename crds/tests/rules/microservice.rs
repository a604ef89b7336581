//! The rules of Microservice.

use kube::Client;
use kube::api::{Patch, PatchParams};
use murmur_mesh::name::ServiceName;
use serde_json::{Value, json};

use super::Kind;

pub(crate) fn kind(client: &Client) -> Kind {
    Kind::new(client, "Microservice", "microservices", json!({"image": "users:dev", "port": 8080}))
}

fn sqlite(size: &str) -> Value {
    json!({"database": {"engine": "SQLite", "storage": {"size": size}}})
}

fn volume(size: &str) -> Value {
    json!({"volume": {"size": size}})
}

pub(crate) async fn rules(client: &Client) {
    let kind = kind(client);
    names(&kind).await;
    fields(&kind).await;
    talks(&kind).await;
    startup(&kind).await;
    autoscaling(&kind).await;
    storage(&kind).await;
    database(&kind).await;
    defaults_and_scale(&kind).await;
}

async fn names(kind: &Kind) {
    for name in ["users", "a", "a-1", &"x".repeat(40)] {
        kind.takes_name(name).await;
        assert!(name.parse::<ServiceName>().is_ok(), "{name}");
    }
    let reserved = "must not end with -db, -pods or -backup";
    for (name, text) in [
        ("1a", "DNS-1035 label"),
        ("a.b", "DNS-1035 label"),
        (&"x".repeat(41), "at most 40 characters"),
        ("users-db", reserved),
        ("users-pods", reserved),
        ("users-backup", reserved),
    ] {
        kind.refuses_name(name, text).await;
        assert!(name.parse::<ServiceName>().is_err(), "{name}");
    }
}

async fn startup(kind: &Kind) {
    let made = kind.create("example", &json!({"startup": {}})).await.unwrap();
    assert_eq!(made.data["spec"]["startup"], json!({"waitFor": "Started", "timeout": "30m"}));
    kind.takes(json!({"startup": {"waitFor": "CaughtUp", "timeout": "24h"}})).await;
    kind.refuses(json!({"startup": {"waitFor": "Ready"}}), "spec.startup.waitFor").await;
    for bad in ["0s", "25h", "soon"] {
        kind.refuses(json!({"startup": {"timeout": bad}}), "spec.startup.timeout").await;
    }
}

async fn fields(kind: &Kind) {
    kind.refuses(json!({"image": ""}), "spec.image").await;
    kind.refuses(json!({"image": null}), "spec.image: Required value").await;
    for port in [1, 80, 65535] {
        kind.takes(json!({"port": port})).await;
    }
    for port in [0, -1, 65536] {
        kind.refuses(json!({"port": port}), "spec.port").await;
    }
    for port in [3600, 3601] {
        kind.refuses(json!({"port": port}), "the ports 3600 and 3601 are the sidecar's").await;
    }
    kind.takes(json!({"replicas": 0})).await;
    kind.refuses(json!({"replicas": -1}), "spec.replicas").await;
    kind.takes(json!({"imagePullPolicy": "Never"})).await;
    kind.refuses(json!({"imagePullPolicy": "Sometimes"}), "Unsupported value: \"Sometimes\"").await;

    let variable = |name: &str| json!({"env": [{"name": name, "value": "x"}]});
    kind.takes(variable("LOG")).await;
    kind.takes(variable("DATABASE_PATH")).await;
    kind.refuses(variable("MURMUR_URL"), "start with MURMUR_ are set by Murmur").await;
    kind.refuses(json!({"env": [{"name": "A"}, {"name": "A"}]}), "Duplicate value").await;
    let mut both = sqlite("1Gi");
    super::merge(&mut both, &variable("DATABASE_PATH"));
    kind.refuses(both, "DATABASE_PATH is set by Murmur").await;

    kind.takes(json!({"resources": {"requests": {"cpu": 1, "memory": "64Mi"}, "limits": {"cpu": "1.5"}}}))
        .await;
    kind.refuses(json!({"resources": {"requests": {"cpu": "much"}}}), "spec.resources.requests.cpu").await;
    kind.takes(json!({"probes": {"readiness": {"path": "/readyz"}, "liveness": {"path": "/livez"}}})).await;
    kind.refuses(json!({"probes": {"readiness": {"path": "readyz"}}}), "spec.probes.readiness.path").await;
    kind.takes(json!({"securityContext": {"runAsUser": 1000, "runAsGroup": 1000}})).await;
    kind.refuses(json!({"securityContext": {"runAsUser": 0}}), "spec.securityContext.runAsUser").await;
    kind.refuses(json!({"securityContext": {"runAsGroup": 0}}), "spec.securityContext.runAsGroup").await;
    kind.takes(json!({"podOverrides": {"spec": {"nodeSelector": {"disk": "fast"}}}})).await;
    kind.refuses(json!({"podOverrides": "fast"}), "spec.podOverrides").await;

    kind.takes(json!({"publishes": [{"type": "UserCreated"}, {"type": "com.example.größe v1"}]})).await;
    kind.refuses(json!({"publishes": [{"type": "A"}, {"type": "A"}]}), "Duplicate value").await;
    for bad in ["", ".", "a..b", ".a", "a.", "a\nb"] {
        kind.refuses(json!({"publishes": [{"type": bad}]}), "spec.publishes[0].type").await;
    }
    kind.takes(json!({"publishes": [{"type": "ä".repeat(127)}]})).await;
    kind.refuses(json!({"publishes": [{"type": "ä".repeat(128)}]}), "at most 255 bytes").await;

    kind.takes(json!({"allowFrom": [{"namespaceSelector": {}}, {"ipBlock": {"cidr": "10.0.0.0/8"}}]})).await;
    kind.refuses(json!({"allowFrom": [{}]}), "a peer needs one of").await;
    kind.refuses(
        json!({"allowFrom": [{"podSelector": {}, "ipBlock": {"cidr": "10.0.0.0/8"}}]}),
        "cannot be combined",
    )
    .await;
    kind.takes(json!({"sidecar": {"logLevel": "debug", "resources": {"limits": {"memory": "128Mi"}}}})).await;
    kind.takes(json!({"sidecar": {"version": "0.1.0"}})).await;
    for bad in ["", "a b", ":x", &"x".repeat(129)] {
        kind.refuses(json!({"sidecar": {"version": bad}}), "spec.sidecar.version").await;
    }
    kind.refuses(json!({"sidecar": {"logLevel": "loud"}}), "Unsupported value: \"loud\"").await;
}

/// What the service publishes, answers, asks and calls.
async fn talks(kind: &Kind) {
    let schema =
        json!({"type": "object", "properties": {"id": {"type": "integer", "x-any": [1, {"a": null}]}}});
    let made =
        kind.create("example", &json!({"publishes": [{"type": "A", "schema": schema}]})).await.unwrap();
    assert_eq!(
        made.data["spec"]["publishes"][0]["schema"]["properties"]["id"]["x-any"],
        json!([1, {"a": null}])
    );
    kind.refuses(json!({"publishes": [{"type": "A", "schema": "object"}]}), "spec.publishes[0].schema").await;

    kind.takes(
        json!({"answers": [{"query": "A", "path": "/a"}, {"query": "B", "path": "/b", "port": 8081}]}),
    )
    .await;
    kind.refuses(
        json!({"answers": [{"query": "A", "path": "/a"}, {"query": "A", "path": "/b"}]}),
        "Duplicate value",
    )
    .await;
    kind.refuses(json!({"answers": [{"query": "A"}]}), "spec.answers[0].path: Required value").await;
    kind.refuses(json!({"answers": [{"query": "A", "path": "a"}]}), "spec.answers[0].path").await;
    kind.refuses(json!({"answers": [{"query": "A", "path": "/a b"}]}), "spec.answers[0].path").await;
    kind.refuses(json!({"answers": [{"query": "A", "path": "/a", "port": 0}]}), "spec.answers[0].port").await;
    kind.refuses(
        json!({"answers": [{"query": "A", "path": "/a", "port": 3600}]}),
        "3600 and 3601 are the sidecar's",
    )
    .await;
    kind.takes(json!({"asks": [{"query": "A"}, {"query": "com.example.b"}]})).await;
    kind.refuses(json!({"asks": [{"query": "A"}, {"query": "A"}]}), "Duplicate value").await;
    for list in ["answers", "asks"] {
        let of = |query: &str| {
            let mut spec = json!({});
            spec[list] = json!([{"query": query, "path": "/a"}]);
            if list == "asks" {
                spec[list][0].as_object_mut().unwrap().remove("path");
            }
            spec
        };
        kind.refuses(of("a..b"), &format!("spec.{list}[0].query")).await;
        kind.refuses(of(&"ä".repeat(128)), "at most 255 bytes").await;
        let mut many = of("A");
        many[list] = (0..33)
            .map(|number| {
                let mut one = of("A")[list][0].clone();
                one["query"] = json!(format!("Q{number}"));
                one
            })
            .collect();
        kind.refuses(many, &format!("spec.{list}: Too many")).await;
    }

    let made = kind.create("example", &json!({"calls": [{"name": "users"}]})).await.unwrap();
    assert_eq!(made.data["spec"]["calls"], json!([{"name": "users", "timeout": "10s"}]));
    kind.takes(
        json!({"calls": [{"name": "users", "timeout": "1h"}, {"name": "products", "timeout": "1ms"}]}),
    )
    .await;
    kind.refuses(json!({"calls": [{"name": "users"}, {"name": "users"}]}), "Duplicate value").await;
    for bad in ["", "Users", "1a", &"x".repeat(41)] {
        kind.refuses(json!({"calls": [{"name": bad}]}), "spec.calls[0].name").await;
    }
    for bad in ["0s", "1h1ms"] {
        kind.refuses(
            json!({"calls": [{"name": "a", "timeout": bad}]}),
            "timeout must be more than 0s and at most 1h",
        )
        .await;
    }
    kind.refuses(json!({"calls": [{"name": "a", "timeout": "1d"}]}), "spec.calls[0].timeout").await;
    let many: Vec<Value> = (0..65).map(|number| json!({"name": format!("s{number}")})).collect();
    kind.refuses(json!({"calls": many}), "spec.calls: Too many").await;
}

async fn autoscaling(kind: &Kind) {
    let made = kind.create("example", &json!({"autoscaling": {"maxReplicas": 10}})).await.unwrap();
    let expected = json!({"minReplicas": 1, "maxReplicas": 10, "pendingEventsPerReplica": 1000});
    assert_eq!(made.data["spec"]["autoscaling"], expected);
    kind.takes(json!({"replicas": 5, "autoscaling": {"minReplicas": 3, "maxReplicas": 3}})).await;
    kind.refuses(json!({"autoscaling": {}}), "spec.autoscaling.maxReplicas: Required value").await;
    kind.refuses(
        json!({"autoscaling": {"minReplicas": 3, "maxReplicas": 2}}),
        "minReplicas must not be more than maxReplicas",
    )
    .await;
    for bad in [0, 1001] {
        kind.refuses(json!({"autoscaling": {"maxReplicas": bad}}), "spec.autoscaling.maxReplicas").await;
        let low = json!({"autoscaling": {"minReplicas": bad, "maxReplicas": 1000}});
        kind.refuses(low, "spec.autoscaling.minReplicas").await;
    }
    for bad in [0, 1_000_001] {
        let spec = json!({"autoscaling": {"maxReplicas": 1, "pendingEventsPerReplica": bad}});
        kind.refuses(spec, "spec.autoscaling.pendingEventsPerReplica").await;
    }
    for mut spec in [sqlite("1Gi"), volume("1Gi")] {
        spec["autoscaling"] = json!({"maxReplicas": 1});
        kind.refuses(spec, "leave autoscaling out").await;
    }
}

async fn storage(kind: &Kind) {
    for part in [sqlite("1Gi"), volume("1Gi")] {
        kind.takes(part.clone()).await;
        for replicas in [0, 1] {
            let mut scaled = part.clone();
            scaled["replicas"] = json!(replicas);
            kind.takes(scaled).await;
        }
        let mut scaled = part.clone();
        scaled["replicas"] = json!(2);
        kind.refuses(scaled, "runs in one pod").await;
        kind.takes_change(json!({}), part.clone()).await;
        kind.takes_change(part, json!({})).await;
    }
    for engine in ["SQLite", "Postgres"] {
        kind.takes(json!({"database": {"engine": engine, "storage": {"size": "1Gi"}, "outbox": {}}})).await;
    }
    for engine in ["MariaDB", "Redis"] {
        let outbox = json!({"database": {"engine": engine, "storage": {"size": "1Gi"}, "outbox": {}}});
        kind.refuses(outbox, "an outbox is a table in SQLite or Postgres").await;
    }
    kind.refuses(
        json!({"database": {"engine": "Oracle", "storage": {"size": "1Gi"}}}),
        "Unsupported value: \"Oracle\"",
    )
    .await;
    kind.refuses(json!({"database": {"engine": "SQLite"}}), "keeps its data on a volume: set storage").await;
    kind.refuses(volume("1 Gi"), "spec.volume.size").await;
    kind.refuses(volume("-1Gi"), "at least 1Mi").await;
    kind.refuses(volume("1k"), "at least 1Mi").await;
    kind.refuses(json!({"volume": {"size": "1Gi", "whenDeleted": "Never"}}), "Unsupported value: \"Never\"")
        .await;
    let mut both = sqlite("1Gi");
    super::merge(&mut both, &volume("1Gi"));
    kind.refuses(both, "leave volume out").await;

    // Storage grows, never shrinks, also where a volume becomes a database.
    for (from, to) in
        [(sqlite("1Gi"), sqlite("2Gi")), (volume("1Gi"), volume("1024Mi")), (volume("1Gi"), sqlite("1Gi"))]
    {
        kind.takes_change(from, to).await;
    }
    for (from, to) in
        [(sqlite("2Gi"), sqlite("1Gi")), (volume("2Gi"), volume("1Gi")), (volume("2Gi"), sqlite("1Gi"))]
    {
        kind.refuses_change(from, to, "storage cannot shrink").await;
    }
    let class = |name: &str| json!({"volume": {"size": "1Gi", "storageClassName": name}});
    kind.takes_change(class("fast"), class("fast")).await;
    kind.refuses_change(class("fast"), class("slow"), "the storage class cannot change").await;
    kind.refuses_change(volume("1Gi"), class("slow"), "the storage class cannot change").await;
    let kept = json!({"volume": {"size": "1Gi", "whenDeleted": "Delete"}});
    kind.takes_change(volume("1Gi"), kept).await;
}

async fn defaults_and_scale(kind: &Kind) {
    let made = kind.create("example", &volume("1Gi")).await.unwrap();
    assert_eq!(made.data["spec"]["replicas"], 1);
    assert_eq!(made.data["spec"]["volume"]["whenDeleted"], "Retain");
    let object = serde_json::from_value(kind.object("scaled", &json!({}))).unwrap();
    kind.api.create(&Default::default(), &object).await.unwrap();
    let three = json!({"spec": {"replicas": 3}});
    kind.api.patch_scale("scaled", &PatchParams::default(), &Patch::Merge(three)).await.unwrap();
    assert_eq!(kind.api.get("scaled").await.unwrap().data["spec"]["replicas"], 3);
    let status = json!({"status": {"replicas": 2, "selector": "murmur.dev/microservice=scaled", "conditions": [
        {"type": "Ready", "status": "True", "reason": "Available", "message": "", "lastTransitionTime": "2026-11-21T10:00:00Z"}]}});
    kind.api.patch_status("scaled", &PatchParams::default(), &Patch::Merge(status)).await.unwrap();
    let scale = kind.api.get_scale("scaled").await.unwrap().status.unwrap();
    assert_eq!((scale.replicas, scale.selector.as_deref()), (2, Some("murmur.dev/microservice=scaled")));
    kind.api.delete("scaled", &Default::default()).await.unwrap();
}

fn postgres(more: Value) -> Value {
    let mut all = json!({"database": {"engine": "Postgres", "storage": {"size": "1Gi"}}});
    super::merge(&mut all["database"], &more);
    all
}

/// Rules of `database` with a server.
async fn database(kind: &Kind) {
    let mut scaled = postgres(json!({}));
    super::merge(
        &mut scaled,
        &json!({"replicas": 3, "volume": {"size": "1Gi"}, "env": [{"name": "DATABASE_PATH"}]}),
    );
    kind.refuses(scaled.clone(), "runs in one pod").await;
    super::merge(&mut scaled, &json!({"volume": null, "autoscaling": {"maxReplicas": 5}}));
    kind.takes(scaled).await;
    let mut both = postgres(json!({}));
    super::merge(&mut both, &volume("2Gi"));
    kind.takes(both.clone()).await;

    kind.refuses(postgres(json!({"storage": null})), "keeps its data on a volume: set storage").await;
    for version in ["17", "17.2", "17.2-bookworm", "10.11.6"] {
        kind.takes(postgres(json!({"version": version}))).await;
    }
    for version in ["", "latest", "17.", "v17", "17.2 "] {
        kind.refuses(postgres(json!({"version": version})), "spec.database.version").await;
    }
    kind.takes(postgres(json!({"version": "17", "image": "registry.example/postgres:17"}))).await;
    kind.refuses(postgres(json!({"image": "postgres:17"})), "an image of your own needs version too").await;
    kind.takes(postgres(json!({"resources": {"requests": {"memory": "1Gi"}}}))).await;
    for part in [json!({"version": "3"}), json!({"image": "a", "version": "3"}), json!({"resources": {}})] {
        let mut spec = sqlite("1Gi");
        super::merge(&mut spec["database"], &part);
        kind.refuses(spec, "are a server's: leave them out").await;
    }
    let mut spec = sqlite("1Gi");
    super::merge(&mut spec["database"], &json!({"postgres": {}}));
    kind.refuses(spec, "postgres holds settings of the engine Postgres").await;

    let parameter = |name: &str| postgres(json!({"postgres": {"parameters": {name: "on"}}}));
    for name in ["work_mem", "pg_stat_statements.max"] {
        kind.takes(parameter(name)).await;
    }
    for name in ["Work_mem", "a b", "a\nb", &"x".repeat(64)] {
        kind.refuses(parameter(name), "small letters, digits").await;
    }
    for name in ["ssl", "ssl_key_file", "port", "hba_file", "fsync", "include", "unix_socket_directories"] {
        kind.refuses(parameter(name), "Murmur relies on this parameter's value").await;
    }
    let bad = postgres(json!({"postgres": {"parameters": {"a": "x\ny = 'z"}}}));
    kind.refuses(bad, "spec.database.postgres.parameters.a").await;

    for name in ["DATABASE_URL", "DATABASE_PASSWORD", "DATABASE_CA_FILE"] {
        let mut spec = postgres(json!({}));
        spec["env"] = json!([{"name": name, "value": "x"}]);
        kind.refuses(spec, "DATABASE_URL, DATABASE_HOST and so on").await;
        let mut spec = sqlite("1Gi");
        spec["env"] = json!([{"name": name, "value": "x"}]);
        kind.takes(spec).await;
    }

    kind.refuses_change(sqlite("1Gi"), postgres(json!({})), "the engine of a database cannot change").await;
    let sized = |size: &str| postgres(json!({"storage": {"size": size}}));
    kind.takes_change(sized("1Gi"), sized("2Gi")).await;
    kind.refuses_change(sized("2Gi"), sized("1Gi"), "storage cannot shrink").await;
    let class = postgres(json!({"storage": {"storageClassName": "slow"}}));
    kind.refuses_change(postgres(json!({})), class, "the storage class cannot change").await;
    // A volume at /data and a server's are two.
    kind.takes_change(volume("5Gi"), postgres(json!({}))).await;
    kind.takes_change(both, postgres(json!({}))).await;
    kind.takes_change(postgres(json!({})), json!({})).await;
    engines(kind).await;
}

/// Rules of the other engines.
async fn engines(kind: &Kind) {
    let server = |engine: &str, more: Value| {
        let mut all = postgres(more);
        all["database"]["engine"] = json!(engine);
        all
    };
    for (engine, member, parameter, ours) in [
        ("MariaDB", "mariadb", "max_connections", "datadir"),
        ("Redis", "redis", "maxmemory-policy", "appendonly"),
    ] {
        kind.takes(server(engine, json!({}))).await;
        kind.takes(server(engine, json!({member: {"parameters": {parameter: "50"}}}))).await;
        let text = "Murmur relies on this parameter's value";
        kind.refuses(server(engine, json!({member: {"parameters": {ours: "50"}}})), text).await;
        kind.refuses(server(engine, json!({member: {"parameters": {"A b": "50"}}})), "small letters").await;
        let text = format!("{member} holds settings of the engine {engine}");
        kind.refuses(postgres(json!({member: {}})), &text).await;
        kind.refuses_change(postgres(json!({})), server(engine, json!({})), "cannot change").await;
    }
    for version in ["11.8", "10.11.6-jammy"] {
        kind.takes(server("MariaDB", json!({"version": version}))).await;
    }
    kind.refuses(server("MariaDB", json!({"version": "11"})), "has two numbers at least").await;
    kind.takes(server("Redis", json!({"version": "8"}))).await;

    let external = |more: Value| {
        let mut all = json!({"engine": "External", "external": {"secretRef": {"name": "x"}}});
        super::merge(&mut all, &more);
        json!({"database": all, "replicas": 3})
    };
    kind.takes(external(json!({}))).await;
    kind.refuses(external(json!({"external": null})), "external says where a database elsewhere is").await;
    kind.refuses(external(json!({"external": {"secretRef": {"name": ""}}})), "secretRef.name").await;
    kind.refuses(external(json!({"storage": {"size": "1Gi"}})), "leave storage out").await;
    kind.refuses(external(json!({"version": "3"})), "are a server's").await;
    kind.refuses(postgres(json!({"external": {"secretRef": {"name": "x"}}})), "external says where").await;
    let mut named = external(json!({}));
    named["env"] = json!([{"name": "DATABASE_URL", "value": "x"}]);
    kind.refuses(named, "DATABASE_URL, DATABASE_HOST and so on").await;

    let backup = |more: Value| {
        let mut all = json!({"schedule": "0 3 * * *", "storage": {"size": "5Gi"}});
        super::merge(&mut all, &more);
        json!({"backup": all})
    };
    let made = kind.create("example", &postgres(backup(json!({})))).await.unwrap();
    assert_eq!(made.data["spec"]["database"]["backup"]["keep"], 7);
    for engine in ["MariaDB", "Redis"] {
        kind.takes(server(engine, backup(json!({})))).await;
    }
    kind.refuses(postgres(backup(json!({"keep": 0}))), "backup.keep").await;
    kind.refuses(postgres(backup(json!({"schedule": ""}))), "backup.schedule").await;
    kind.refuses(external(backup(json!({}))), "backup and restoreFrom are a server's").await;
    let smaller = postgres(backup(json!({"storage": {"size": "1Gi"}})));
    kind.refuses_change(postgres(backup(json!({}))), smaller, "storage cannot shrink").await;
    kind.takes(postgres(json!({"restoreFrom": {}}))).await;
    kind.takes(postgres(json!({"restoreFrom": {"claimName": "a", "backup": "20261121T030000Z"}}))).await;
    kind.refuses(postgres(json!({"restoreFrom": {"backup": "../x"}})), "restoreFrom.backup").await;
    let mut spec = sqlite("1Gi");
    spec["database"]["restoreFrom"] = json!({});
    kind.refuses(spec, "backup and restoreFrom are a server's").await;
}
