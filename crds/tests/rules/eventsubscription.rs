//! The rules of EventSubscription.

use kube::Client;
use murmur_mesh::name::SubscriptionName;
use serde_json::{Value, json};

use super::Kind;

pub(crate) async fn rules(client: &Client) {
    let valid = json!({
        "microserviceRef": {"name": "history"},
        "events": [{"type": "UserCreated"}],
        "deliver": {"path": "/events"},
    });
    let kind = Kind::new(client, "EventSubscription", "eventsubscriptions", valid);
    names(&kind).await;
    defaults(&kind).await;
    events(&kind).await;
    unions(&kind).await;
    delivery(&kind).await;
    options(&kind).await;
    immutable(&kind).await;
    projections(client).await;
}

/// Events that are applied to the database.
async fn projections(client: &Client) {
    let valid = json!({
        "microserviceRef": {"name": "history"},
        "events": [{"type": "UserCreated"}, {"type": "UserDeleted"}],
        "projection": {
            "tables": ["users"],
            "schema": "CREATE TABLE users (id TEXT)",
            "statements": [{"type": "UserCreated", "sql": "INSERT INTO users VALUES (:data.id)"}],
        },
    });
    let kind = Kind::new(client, "EventSubscription", "eventsubscriptions", valid);
    let made = kind.create("example", &json!({})).await.unwrap();
    assert_eq!(made.data["spec"]["projection"]["onChange"], "Rebuild");
    assert_eq!(made.data["spec"]["deliver"], json!(null));
    kind.refuses(json!({"deliver": {"path": "/events"}}), "exactly one of deliver and projection").await;
    kind.refuses(json!({"projection": null}), "exactly one of deliver and projection").await;
    for ordering in [json!({"policy": "None"}), json!({"policy": "Strict"}), json!({"shards": 4})] {
        kind.refuses(json!({"ordering": ordering}), "leave ordering out").await;
    }
    kind.refuses(json!({"start": {"policy": "New"}}), "set projection.onChange to Keep").await;
    kind.takes(json!({"start": {"policy": "New"}, "projection": {"onChange": "Keep"}})).await;
    for bad in ["Users", "murmur_users", "sqlite_x", "a-b", "1a", "", &"x".repeat(49)] {
        kind.refuses(json!({"projection": {"tables": [bad]}}), "spec.projection.tables").await;
    }
    kind.refuses(json!({"projection": {"tables": []}}), "spec.projection.tables").await;
    kind.refuses(json!({"projection": {"schema": ""}}), "spec.projection.schema").await;
    kind.refuses(json!({"projection": {"statements": []}}), "spec.projection.statements").await;
    kind.refuses(
        json!({"projection": {"statements": [{"type": "Other", "sql": "x"}]}}),
        "must be one of events",
    )
    .await;
    let twice = json!([{"type": "UserCreated", "sql": "a"}, {"type": "UserCreated", "sql": "b"}]);
    kind.refuses(json!({"projection": {"statements": twice}}), "Duplicate value").await;
    kind.takes(json!({"projection": {"onChange": "Keep", "tables": ["users", "more"]}})).await;
    let delivered = json!({"projection": null, "deliver": {"path": "/events"}});
    kind.refuses_change(json!({}), delivered, "make a new EventSubscription").await;
}

async fn names(kind: &Kind) {
    for name in ["history", "1-a", &"x".repeat(52)] {
        kind.takes_name(name).await;
        assert!(name.parse::<SubscriptionName>().is_ok(), "{name}");
    }
    for (name, text) in [("a.b", "must be a DNS label"), (&"x".repeat(53), "at most 52 characters")] {
        kind.refuses_name(name, text).await;
        assert!(name.parse::<SubscriptionName>().is_err(), "{name}");
    }
    for bad in ["", "Users", "1a", &"x".repeat(41)] {
        kind.refuses(json!({"microserviceRef": {"name": bad}}), "spec.microserviceRef.name").await;
    }
}

async fn defaults(kind: &Kind) {
    let made = kind.create("example", &json!({})).await.unwrap();
    let expected = json!({
        "microserviceRef": {"name": "history"},
        "events": [{"type": "UserCreated", "from": "*"}],
        "start": {"policy": "All"},
        "ordering": {"policy": "Key"},
        "deliver": {"path": "/events", "timeout": "30s", "concurrency": 16},
        "retry": {"maxAttempts": 8, "initialDelay": "1s", "factor": 2, "maxDelay": "1m"},
        "deadLetter": {"policy": "Keep"},
    });
    assert_eq!(made.data["spec"], expected);
    // Null means absent, and so the default.
    let made =
        kind.create("example", &json!({"retry": {"factor": 3}, "deliver": {"timeout": "5s"}})).await.unwrap();
    assert_eq!(
        made.data["spec"]["retry"],
        json!({"maxAttempts": 8, "initialDelay": "1s", "factor": 3, "maxDelay": "1m"})
    );
}

async fn events(kind: &Kind) {
    let many = |count: usize| {
        let list: Vec<Value> = (0..count).map(|number| json!({"type": format!("T{number}")})).collect();
        json!({"events": list})
    };
    kind.takes(many(32)).await;
    kind.refuses(many(33), "spec.events: Too many").await;
    kind.refuses(many(0), "spec.events").await;
    kind.takes(json!({"events": [{"type": "A", "from": "users"}, {"type": "A", "from": "*"}]})).await;
    kind.refuses(json!({"events": [{"type": "A"}, {"type": "A", "from": "*"}]}), "Duplicate value").await;
    kind.refuses(json!({"events": [{"type": "A", "from": "Users"}]}), "spec.events[0].from").await;
    kind.refuses(json!({"events": [{"type": "a..b"}]}), "spec.events[0].type").await;
    kind.refuses(json!({"events": [{"from": "users"}]}), "type").await;
    kind.refuses(json!({"events": [{"type": "ä".repeat(128)}]}), "at most 255 bytes").await;
}

async fn unions(kind: &Kind) {
    for start in
        [json!({"policy": "All"}), json!({"policy": "New"}), json!({"policy": "Sequence", "sequence": 1})]
    {
        kind.takes(json!({"start": start})).await;
    }
    let needed = "sequence must be set with the policy Sequence and only then";
    kind.refuses(json!({"start": {"policy": "Sequence"}}), needed).await;
    kind.refuses(json!({"start": {"policy": "All", "sequence": 1}}), needed).await;
    kind.refuses(json!({"start": {"sequence": 1}}), needed).await;
    kind.refuses(json!({"start": {"policy": "Sequence", "sequence": 0}}), "spec.start.sequence").await;
    kind.refuses(json!({"start": {"policy": "Yesterday"}}), "Unsupported value: \"Yesterday\"").await;
    for time in ["2026-11-21T10:00:00Z", "2026-11-21T10:00:00.5+01:00"] {
        kind.takes(json!({"start": {"policy": "Time", "time": time}})).await;
    }
    let needed = "time must be set with the policy Time and only then";
    kind.refuses(json!({"start": {"policy": "Time"}}), needed).await;
    kind.refuses(json!({"start": {"time": "2026-11-21T10:00:00Z"}}), needed).await;
    for bad in ["yesterday", "2026-11-21", "10:00"] {
        kind.refuses(json!({"start": {"policy": "Time", "time": bad}}), "spec.start.time").await;
    }

    for shards in [1, 2, 4, 8, 16, 32, 64] {
        kind.takes(json!({"ordering": {"policy": "Key", "shards": shards}})).await;
    }
    kind.takes(json!({"ordering": {"policy": "None"}})).await;
    kind.refuses(json!({"ordering": {"shards": 3}}), "shards must divide 64").await;
    kind.refuses(json!({"ordering": {"shards": 0}}), "spec.ordering.shards").await;
    kind.refuses(json!({"ordering": {"shards": 65}}), "spec.ordering.shards").await;
    kind.refuses(json!({"ordering": {"policy": "None", "shards": 4}}), "shards go with the policy Key only")
        .await;
    kind.takes(json!({"ordering": {"policy": "Strict"}})).await;
    kind.refuses(
        json!({"ordering": {"policy": "Strict", "shards": 1}}),
        "shards go with the policy Key only",
    )
    .await;
    kind.refuses(
        json!({"ordering": {"policy": "Strict"}, "deliver": {"batch": {}}}),
        "with the ordering Strict one event at a time is delivered",
    )
    .await;
    kind.refuses(json!({"ordering": {"policy": "Random"}}), "Unsupported value: \"Random\"").await;
    kind.takes(json!({"deadLetter": {"policy": "Discard"}})).await;
    kind.refuses(json!({"deadLetter": {"policy": "Burn"}}), "Unsupported value: \"Burn\"").await;
}

async fn delivery(kind: &Kind) {
    kind.takes(json!({"deliver": {"path": "/", "port": 8081, "timeout": "1h", "concurrency": 1024}})).await;
    kind.refuses(json!({"deliver": {"path": "events"}}), "spec.deliver.path").await;
    kind.refuses(json!({"deliver": {"path": "/a b"}}), "spec.deliver.path").await;
    kind.refuses(json!({"deliver": {"path": null}}), "spec.deliver.path: Required value").await;
    kind.refuses(json!({"deliver": {"port": 0}}), "spec.deliver.port").await;
    kind.refuses(json!({"deliver": {"port": 3601}}), "the ports 3600 and 3601 are the sidecar's").await;
    for bad in ["1", "1d", "-1s", "1.5s", ""] {
        kind.refuses(json!({"deliver": {"timeout": bad}}), "spec.deliver.timeout").await;
    }
    for bad in ["0s", "1h1ms"] {
        kind.refuses(json!({"deliver": {"timeout": bad}}), "timeout must be more than 0s and at most 1h")
            .await;
    }
    for bad in [0, 1025] {
        kind.refuses(json!({"deliver": {"concurrency": bad}}), "spec.deliver.concurrency").await;
    }
    for bad in [0, 1001] {
        kind.refuses(json!({"retry": {"maxAttempts": bad}}), "spec.retry.maxAttempts").await;
    }
    for bad in [0, 11] {
        kind.refuses(json!({"retry": {"factor": bad}}), "spec.retry.factor").await;
    }
    kind.takes(json!({"retry": {"initialDelay": "1h", "maxDelay": "1h", "factor": 10, "maxAttempts": 1}}))
        .await;
    kind.refuses(json!({"retry": {"initialDelay": "0s"}}), "initialDelay must be more than 0s").await;
    kind.refuses(json!({"retry": {"maxDelay": "2h"}}), "maxDelay must be at most 1h").await;
    kind.refuses(json!({"retry": {"initialDelay": "2m"}}), "initialDelay must not be longer than maxDelay")
        .await;
}

async fn options(kind: &Kind) {
    kind.takes(json!({"filter": {"cel": "event.data.price > 10.0"}})).await;
    kind.refuses(json!({"filter": {}}), "spec.filter.cel: Required value").await;
    kind.refuses(json!({"filter": {"cel": ""}}), "spec.filter.cel").await;
    kind.refuses(json!({"filter": {"cel": "x".repeat(2049)}}), "spec.filter.cel").await;
    let made = kind.create("example", &json!({"deliver": {"batch": {}}})).await.unwrap();
    assert_eq!(made.data["spec"]["deliver"]["batch"], json!({"maxEvents": 100, "maxWait": "50ms"}));
    kind.takes(json!({"deliver": {"batch": {"maxEvents": 500, "maxWait": "10s"}}})).await;
    for bad in [0, 501] {
        kind.refuses(json!({"deliver": {"batch": {"maxEvents": bad}}}), "spec.deliver.batch.maxEvents").await;
    }
    kind.refuses(json!({"deliver": {"batch": {"maxWait": "10s1ms"}}}), "maxWait must be at most 10s").await;
    kind.takes(json!({"deliver": {"maxPerSecond": 200}})).await;
    for bad in [0, 1_000_001] {
        kind.refuses(json!({"deliver": {"maxPerSecond": bad}}), "spec.deliver.maxPerSecond").await;
    }
    let made = kind.create("example", &json!({"replay": {"id": "2026-11-21"}})).await.unwrap();
    assert_eq!(made.data["spec"]["replay"], json!({"id": "2026-11-21", "start": {"policy": "All"}}));
    for bad in ["", "a b", "ä", &"x".repeat(65)] {
        kind.refuses(json!({"replay": {"id": bad}}), "spec.replay.id").await;
    }
    kind.refuses(json!({"replay": {"start": {}}}), "spec.replay.id: Required value").await;
    let needed = "sequence must be set with the policy Sequence and only then";
    kind.refuses(json!({"replay": {"id": "1", "start": {"policy": "Sequence"}}}), needed).await;
    kind.takes(json!({"suspend": true})).await;
    kind.refuses(json!({"suspend": "yes"}), "spec.suspend").await;
}

async fn immutable(kind: &Kind) {
    let change = |part: Value| (json!({}), part);
    for (from, to, field) in [
        (json!({}), json!({"microserviceRef": {"name": "other"}}), "microserviceRef"),
        (json!({}), json!({"start": {"policy": "New"}}), "start"),
        (json!({}), json!({"ordering": {"policy": "None"}}), "ordering"),
        (json!({}), json!({"ordering": {"policy": "Strict"}}), "ordering"),
        (
            json!({"start": {"policy": "Time", "time": "2026-11-21T10:00:00Z"}}),
            json!({"start": {"policy": "Time", "time": "2026-11-22T10:00:00Z"}}),
            "start",
        ),
        (json!({}), json!({"ordering": {"shards": 8}}), "ordering"),
        (json!({"ordering": {"shards": 8}}), json!({}), "ordering"),
    ] {
        kind.refuses_change(from, to, &format!("{field} cannot change: make a new EventSubscription")).await;
    }
    for (from, to) in [
        change(json!({"ordering": {"shards": 4}})),
        change(json!({"events": [{"type": "Other"}]})),
        change(json!({"deliver": {"path": "/other", "timeout": "1m"}})),
        change(json!({"retry": {"maxAttempts": 2}})),
        change(json!({"deadLetter": {"policy": "Discard"}})),
        change(json!({"filter": {"cel": "true"}})),
        change(json!({"suspend": true})),
        change(json!({"replay": {"id": "1"}})),
        (
            json!({"replay": {"id": "1"}}),
            json!({"replay": {"id": "2", "start": {"policy": "Sequence", "sequence": 7}}}),
        ),
        change(json!({"deliver": {"batch": {}, "maxPerSecond": 1}})),
    ] {
        kind.takes_change(from, to).await;
    }
}
