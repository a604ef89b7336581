//! The rules of Mesh.

use kube::Client;
use serde_json::{Value, json};

use super::Kind;

pub(crate) async fn rules(client: &Client) {
    let kind = Kind::new(client, "Mesh", "meshes", json!({}));
    kind.takes_name("default").await;
    kind.refuses_name("example", "must be named default").await;

    takes(&kind, json!({"replicas": 5, "maxBytes": "50Gi", "duplicateWindow": "10m"})).await;
    for bad in [0, 2, 4, 7] {
        refuses(&kind, json!({"replicas": bad}), "replicas must be 1, 3 or 5").await;
    }
    refuses(&kind, json!({"maxBytes": "much"}), "spec.eventStore.maxBytes").await;
    refuses(&kind, json!({"maxBytes": "1"}), "must be at least 1Mi").await;
    for bad in ["0s", "25h"] {
        refuses(&kind, json!({"duplicateWindow": bad}), "duplicateWindow must be from 1s to 24h").await;
    }
    refuses(&kind, json!({"duplicateWindow": "soon"}), "spec.eventStore.duplicateWindow").await;
    takes(&kind, json!({"backup": {"schedule": "0 3 * * *", "keep": 3, "storage": {"size": "5Gi"}}})).await;
    refuses(&kind, json!({"backup": {"schedule": "0 3 * * *"}}), "spec.eventStore.backup.storage").await;
    refuses(
        &kind,
        json!({"backup": {"schedule": "0 3 * * *", "keep": 0, "storage": {"size": "5Gi"}}}),
        "spec.eventStore.backup.keep",
    )
    .await;
    backup_rules(&kind).await;
    takes(&kind, json!({"retention": {"policy": "Forever"}})).await;
    takes(&kind, json!({"retention": {"policy": "MaxAge", "maxAge": "720h"}, "duplicateWindow": "10m"}))
        .await;
    let needed = "maxAge must be set with the policy MaxAge and only then";
    refuses(&kind, json!({"retention": {"policy": "MaxAge"}}), needed).await;
    refuses(&kind, json!({"retention": {"maxAge": "1h"}}), needed).await;
    refuses(&kind, json!({"retention": {"policy": "MaxAge", "maxAge": "1s"}}), "maxAge must be at least 1m")
        .await;
    refuses(&kind, json!({"retention": {"policy": "Sometimes"}}), "Unsupported value: \"Sometimes\"").await;
    refuses(
        &kind,
        json!({"retention": {"policy": "MaxAge", "maxAge": "1m"}, "duplicateWindow": "10m"}),
        "duplicateWindow must not be longer than retention.maxAge",
    )
    .await;
}

/// What may change of a backup's volume.
async fn backup_rules(kind: &Kind) {
    let backup = |storage: &Value| {
        let backup = json!({"schedule": "0 3 * * *", "storage": storage});
        json!({"eventStore": {"backup": backup}})
    };
    let five = json!({"size": "5Gi", "storageClassName": "fast"});
    let mut without = backup(&five);
    without["eventStore"]["backup"].take();
    for (from, to, said) in [
        (backup(&five), backup(&json!({"size": "6Gi", "storageClassName": "fast"})), None),
        (backup(&five), backup(&json!({"size": "5120Mi", "storageClassName": "fast"})), None),
        (backup(&five), without.clone(), None),
        (without, backup(&json!({"size": "1Gi"})), None),
        (
            backup(&five),
            backup(&json!({"size": "4Gi", "storageClassName": "fast"})),
            Some("storage cannot shrink"),
        ),
        (
            backup(&five),
            backup(&json!({"size": "5Gi", "storageClassName": "slow"})),
            Some("the storage class cannot change"),
        ),
        (backup(&five), backup(&json!({"size": "5Gi"})), Some("the storage class cannot change")),
        (backup(&json!({"size": "5Gi"})), backup(&five), Some("the storage class cannot change")),
    ] {
        let answer = kind.change("default", &from, &to).await;
        match said {
            Some(text) => kind.expect(&format!("{from} to {to}"), answer, text),
            None => assert!(answer.is_ok(), "Mesh refused the change from {from} to {to}: {answer:?}"),
        }
    }
}

async fn takes(kind: &Kind, store: Value) {
    if let Err(error) = kind.create("default", &json!({"eventStore": store})).await {
        panic!("Mesh refused {store}: {error}");
    }
}

async fn refuses(kind: &Kind, store: Value, text: &str) {
    let answer = kind.create("default", &json!({"eventStore": store})).await;
    kind.expect(&store.to_string(), answer, text);
}
