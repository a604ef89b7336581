//! What becomes of a Microservice and its subscriptions on the bus.

use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::PostParams;
use murmur_crds::{EventSubscription, Mesh};
use murmur_mesh::config::SidecarConfig;
use murmur_mesh::message_id::MessageIdKey;
use murmur_mesh::report::{Report, SubscriptionReport};
use serde_json::{Value, json};

use crate::world::{World, connect, nobody, test, test_alone, wait};

/// A connection with what is in a service's Secret.
pub async fn as_service(world: &World, ns: &str, service: &str) -> anyhow::Result<async_nats::Client> {
    let secrets = world.api::<Secret>(ns);
    let name = format!("{service}-sidecar");
    let secret = wait("its credentials are there", || async { Ok(secrets.get_opt(&name).await?) }).await?;
    let secret = secret.data.unwrap_or_default();
    let text = |name: &str| String::from_utf8_lossy(&secret[name].0).into_owned();
    let inbox = MessageIdKey::from_hex(&text("message-id.key"))?.inbox_prefix();
    connect(world.nats_url(), text("user.jwt"), &text("user.nk"), &inbox).await
}

/// Publishes and waits for the acknowledgement; an error when there is none.
pub async fn publish(client: &async_nats::Client, subject: &str) -> anyhow::Result<Value> {
    let answer = client.request(subject.to_owned(), "x".into()).await?;
    Ok(serde_json::from_slice(&answer.payload)?)
}

/// What the bus holds as a service's configuration.
pub async fn on_bus(world: &World, ns: &str, service: &str) -> anyhow::Result<Option<SidecarConfig>> {
    let body = json!({"last_by_subj": format!("config.{service}")});
    let answer = world.jetstream(ns, "STREAM.MSG.GET.CONFIG", &body).await?;
    let Some(data) = answer["message"]["data"].as_str() else { return Ok(None) };
    Ok(Some(serde_json::from_slice(&data_encoding::BASE64.decode(data.as_bytes())?)?))
}

#[test]
fn a_service_may_publish_its_own_types_and_nothing_else() {
    test("permissions", |world| async move {
        let ns = world.namespace("rights").await?;
        world.microservice(&ns, "products", json!({"publishes": [{"type": "ProductCreated"}]})).await?;
        world.microservice(&ns, "history", json!({})).await?;
        world
            .subscription(
                &ns,
                "catalog",
                "history",
                "ProductCreated",
                json!({"ordering": {"policy": "None"}}),
            )
            .await?;
        world.condition(&ns, "products", "BusReady", "True").await?;
        world.condition(&ns, "history", "BusReady", "True").await?;
        world.condition_of::<EventSubscription>(&ns, "catalog", "Ready", "True").await?;

        let products = as_service(&world, &ns, "products").await?;
        let stored = publish(&products, "events.products.0.ProductCreated").await?;
        assert_eq!(stored["seq"], 1, "{stored}");
        // Refused requests have no answer, so all are asked at once.
        let refused = [
            "events.products.0.Other",
            "events.history.0.ProductCreated",
            "config.products",
            "$JS.API.STREAM.INFO.EVENTS",
            "$JS.API.STREAM.PURGE.EVENTS",
            "$JS.API.CONSUMER.MSG.NEXT.EVENTS.catalog-all",
            "$JS.API.CONSUMER.DELETE.EVENTS.catalog-all",
        ];
        let answers =
            futures::future::join_all(refused.iter().map(|subject| publish(&products, subject))).await;
        for (subject, answer) in refused.iter().zip(answers) {
            assert!(answer.is_err(), "{subject} was answered: {answer:?}");
        }
        // The one whose subscription it is may pull; new rights reach its Secret.
        let history = wait("history may pull its durable", || async {
            let history = as_service(&world, &ns, "history").await?;
            let request = "$JS.API.CONSUMER.INFO.EVENTS.catalog-all";
            Ok(history.request(request, "".into()).await.is_ok().then_some(history))
        })
        .await?;
        // Not by a request: an event arrives under its own subject.
        let inbox = history.new_inbox();
        let mut pulled = history.subscribe(inbox.clone()).await?;
        let pull = "$JS.API.CONSUMER.MSG.NEXT.EVENTS.catalog-all";
        history.publish_with_reply(pull, inbox, r#"{"batch":1}"#.into()).await?;
        let pulled = tokio::time::timeout(Duration::from_secs(5), pulled.next()).await?;
        let pulled = pulled.ok_or_else(|| anyhow::anyhow!("the connection ended"))?;
        assert_eq!(pulled.payload, "x");
        // Whoever has no rights at all has none, as an empty list would mean all.
        let account = world.account(&ns).await?;
        let pair = nkeys::KeyPair::new_user();
        let jwt = account.mint(&nobody(&account, pair.public_key()))?;
        let nobody = connect(world.nats_url(), jwt, &pair.seed()?, "_INBOX").await?;
        assert!(publish(&nobody, "events.products.0.ProductCreated").await.is_err());
        Ok(())
    });
}

#[test]
fn services_of_one_name_in_two_namespaces_do_not_see_each_others_events() {
    test("two meshes", |world| async move {
        let (one, two) = (world.namespace("one").await?, world.namespace("two").await?);
        for ns in [&one, &two] {
            world.microservice(ns, "users", json!({"publishes": [{"type": "UserCreated"}]})).await?;
            world
                .subscription(ns, "mine", "users", "UserCreated", json!({"ordering": {"policy": "None"}}))
                .await?;
        }
        for ns in [&one, &two] {
            world.condition(ns, "users", "BusReady", "True").await?;
            world.condition_of::<EventSubscription>(ns, "mine", "Ready", "True").await?;
        }
        assert_ne!(world.account(&one).await?.public_key(), world.account(&two).await?.public_key());
        let users = as_service(&world, &one, "users").await?;
        publish(&users, "events.users.0.UserCreated").await?;
        let pending = |ns: String| {
            let world = world.clone();
            async move {
                let info = world.jetstream(&ns, "CONSUMER.INFO.EVENTS.mine-all", &Value::Null).await?;
                Ok::<_, anyhow::Error>(info["num_pending"].clone())
            }
        };
        assert_eq!(pending(one.clone()).await?, 1);
        assert_eq!(pending(two.clone()).await?, 0);
        world.condition_of::<EventSubscription>(&one, "mine", "CaughtUp", "False").await?;
        world.condition_of::<EventSubscription>(&two, "mine", "CaughtUp", "True").await?;
        Ok(())
    });
}

#[test]
fn a_subscription_to_an_absent_service_becomes_ready_by_itself() {
    test("absent service", |world| async move {
        let ns = world.namespace("absent").await?;
        world.subscription(&ns, "catalog", "history", "ProductCreated", json!({})).await?;
        let (reason, message) =
            world.condition_of::<EventSubscription>(&ns, "catalog", "Ready", "False").await?;
        assert_eq!(reason, "MicroserviceNotFound");
        assert!(message.contains("history"), "{message}");
        world.microservice(&ns, "history", json!({})).await?;
        world.condition_of::<EventSubscription>(&ns, "catalog", "Ready", "True").await?;
        let config = wait("its sidecar is told", || async {
            Ok(on_bus(&world, &ns, "history").await?.filter(|config| !config.subscriptions.is_empty()))
        })
        .await?;
        assert_eq!(config.subscriptions[0].name.as_str(), "catalog");
        assert!(config.event_store.is_some());
        Ok(())
    });
}

#[test]
fn a_durable_changed_or_removed_by_hand_is_put_right() {
    test("durables", |world| async move {
        let ns = world.namespace("durables").await?;
        world.microservice(&ns, "history", json!({})).await?;
        world
            .subscription(
                &ns,
                "catalog",
                "history",
                "ProductCreated",
                json!({"ordering": {"policy": "Key", "shards": 2}}),
            )
            .await?;
        world.condition_of::<EventSubscription>(&ns, "catalog", "Ready", "True").await?;
        let info = |name: &'static str| {
            let (world, ns) = (world.clone(), ns.clone());
            async move { world.jetstream(&ns, &format!("CONSUMER.INFO.EVENTS.{name}"), &Value::Null).await }
        };
        let mut config = info("catalog-1").await?["config"].clone();
        assert_eq!(config["priority_policy"], "pinned_client");
        assert_eq!(config["filter_subjects"].as_array().map(Vec::len), Some(64));
        let planned = config["filter_subjects"].clone();
        config["filter_subjects"] = json!(["events.*.*.Other"]);
        config["inactive_threshold"] = json!(60_000_000_000_u64);
        let body = json!({"stream_name": "EVENTS", "config": config, "action": "update"});
        let answer = world.jetstream(&ns, "CONSUMER.CREATE.EVENTS.catalog-1", &body).await?;
        assert!(answer.get("error").is_none(), "{answer}");
        world.jetstream(&ns, "CONSUMER.DELETE.EVENTS.catalog-0", &Value::Null).await?;
        wait("both are as planned", || async {
            let (zero, one) = (info("catalog-0").await?, info("catalog-1").await?);
            let right =
                one["config"]["filter_subjects"] == planned && one["config"]["inactive_threshold"].is_null();
            Ok((zero.get("error").is_none() && right).then_some(()))
        })
        .await?;
        Ok(())
    });
}

#[test]
fn durables_go_with_their_subscription_and_a_new_one_of_its_name_starts_anew() {
    test_alone("sweep", |world| async move {
        let ns = world.namespace("sweep").await?;
        world.microservice(&ns, "users", json!({"publishes": [{"type": "UserCreated"}]})).await?;
        let unordered = json!({"ordering": {"policy": "None"}});
        world.subscription(&ns, "mine", "users", "UserCreated", unordered.clone()).await?;
        world.condition_of::<EventSubscription>(&ns, "mine", "Ready", "True").await?;
        world.condition(&ns, "users", "BusReady", "True").await?;
        let users = as_service(&world, &ns, "users").await?;
        publish(&users, "events.users.0.UserCreated").await?;
        let owner = || async {
            let info = world.jetstream(&ns, "CONSUMER.INFO.EVENTS.mine-all", &Value::Null).await?;
            Ok::<_, anyhow::Error>(
                info["config"]["metadata"]["murmur.dev/owner-uid"].as_str().map(str::to_owned),
            )
        };
        let first = owner().await?;
        // While nobody looks: the durable of the first is still there when the second is seen.
        world.kill_operator().await?;
        world.delete::<EventSubscription>(&ns, "mine").await?;
        world
            .subscription(
                &ns,
                "mine",
                "users",
                "UserCreated",
                json!({"ordering": {"policy": "None"}, "start": {"policy": "New"}}),
            )
            .await?;
        world.restart_operator().await?;
        wait("the durable is the new one's", || async {
            let now = owner().await?;
            Ok((now.is_some() && now != first).then_some(()))
        })
        .await?;
        let info = world.jetstream(&ns, "CONSUMER.INFO.EVENTS.mine-all", &Value::Null).await?;
        assert_eq!(info["num_pending"], 0, "it starts with what comes after it: {info}");
        assert_eq!(info["config"]["deliver_policy"], "by_start_sequence");

        world.delete::<EventSubscription>(&ns, "mine").await?;
        wait("the durable is gone", || async { Ok(owner().await?.is_none().then_some(())) }).await?;
        let stream = world.jetstream(&ns, "STREAM.INFO.EVENTS", &Value::Null).await?;
        assert_eq!(stream["state"]["messages"], 1, "the events stay");
        Ok(())
    });
}

#[test]
fn a_change_reaches_the_bus_and_the_config_map_with_one_higher_generation() {
    test("generation", |world| async move {
        let ns = world.namespace("generation").await?;
        world.microservice(&ns, "users", json!({})).await?;
        world.condition(&ns, "users", "BusReady", "True").await?;
        let first =
            on_bus(&world, &ns, "users").await?.ok_or_else(|| anyhow::anyhow!("nothing on the bus"))?;
        assert!(first.user_jwt.is_some());
        world.microservice(&ns, "users", json!({"publishes": [{"type": "UserCreated"}]})).await?;
        let second = wait("the bus has it", || async {
            Ok(on_bus(&world, &ns, "users").await?.filter(|config| !config.publishes.is_empty()))
        })
        .await?;
        assert_eq!(second.generation, first.generation + 1);
        assert_ne!(second.user_jwt, first.user_jwt, "it may publish more");
        let data = world.api::<ConfigMap>(&ns).get("users-sidecar").await?.data.unwrap_or_default();
        let told: SidecarConfig = serde_json::from_str(&data["config.json"])?;
        assert_eq!(told, SidecarConfig { user_jwt: None, ..second });
        Ok(())
    });
}

#[test]
fn what_sidecars_report_becomes_the_condition_delivering() {
    test("reports", |world| async move {
        let ns = world.namespace("reports").await?;
        world.microservice(&ns, "history", json!({})).await?;
        world.subscription(&ns, "catalog", "history", "ProductCreated", json!({})).await?;
        world.condition_of::<EventSubscription>(&ns, "catalog", "Ready", "True").await?;
        world.condition(&ns, "history", "BusReady", "True").await?;
        let history = as_service(&world, &ns, "history").await?;
        let report = |held: Option<&str>| {
            let subscription =
                SubscriptionReport { name: "catalog".parse()?, held: held.map(str::to_owned), reason: None };
            let report = Report {
                pod: "history-1".to_owned(),
                version: "0.1.0".to_owned(),
                generation: 1,
                subscriptions: vec![subscription],
                leaving: false,
                released: Vec::new(),
                outbox: None,
            };
            Ok::<_, anyhow::Error>(serde_json::to_vec(&report)?)
        };
        history.publish("report.history.history-1", report(None)?.into()).await?;
        world.condition_of::<EventSubscription>(&ns, "catalog", "Delivering", "True").await?;
        history.publish("report.history.history-1", report(Some("the service answers 503"))?.into()).await?;
        let (_, message) =
            world.condition_of::<EventSubscription>(&ns, "catalog", "Delivering", "False").await?;
        assert!(message.contains("the service answers 503"), "{message}");
        Ok(())
    });
}

#[test]
fn dead_letters_are_counted_per_subscription() {
    test("dead letters", |world| async move {
        let ns = world.namespace("dead").await?;
        world.microservice(&ns, "history", json!({})).await?;
        world.subscription(&ns, "catalog", "history", "ProductCreated", json!({})).await?;
        world.condition_of::<EventSubscription>(&ns, "catalog", "Ready", "True").await?;
        let administrator = world.administrator(&ns).await?;
        for subject in ["dead.history.catalog.0.1", "dead.history.catalog.1.7", "dead.history.other.0.1"] {
            publish(&administrator, subject).await?;
        }
        wait("both are counted", || async {
            let found = world.api::<EventSubscription>(&ns).get("catalog").await?;
            Ok(found.status.filter(|status| status.dead_letters == Some(2)))
        })
        .await?;
        Ok(())
    });
}

#[test]
fn the_mesh_resource_changes_the_streams_and_says_what_it_cannot() {
    test("mesh", |world| async move {
        let ns = world.namespace("mesh").await?;
        world.microservice(&ns, "users", json!({})).await?;
        world.condition(&ns, "users", "BusReady", "True").await?;
        let mesh = |spec: Value| {
            let mesh = json!({"apiVersion": "murmur.dev/v1alpha1", "kind": "Mesh", "metadata": {"name": "default"}, "spec": spec});
            serde_json::from_value::<Mesh>(mesh)
        };
        let meshes = world.api::<Mesh>(&ns);
        meshes
            .create(
                &PostParams::default(),
                &mesh(json!({"eventStore": {"maxBytes": "123Mi", "duplicateWindow": "5m"}}))?,
            )
            .await?;
        let config = || async {
            Ok::<_, anyhow::Error>(
                world.jetstream(&ns, "STREAM.INFO.EVENTS", &Value::Null).await?["config"].clone(),
            )
        };
        wait("the stream is as the Mesh says", || async {
            let config = config().await?;
            Ok((config["max_bytes"] == 123 << 20 && config["duplicate_window"] == 300_000_000_000_u64)
                .then_some(()))
        })
        .await?;
        world.condition_of::<Mesh>(&ns, "default", "Ready", "True").await?;
        // One server cannot keep three replicas: the stream stays, the Mesh says why.
        let three = json!({"spec": {"eventStore": {"replicas": 3}}});
        meshes.patch("default", &kube::api::PatchParams::default(), &kube::api::Patch::Merge(&three)).await?;
        let (_, message) = world.condition_of::<Mesh>(&ns, "default", "Ready", "False").await?;
        assert!(message.contains("replicas"), "{message}");
        assert_eq!(config().await?["num_replicas"], 1);
        world.microservice(&ns, "users", json!({"publishes": [{"type": "UserCreated"}]})).await?;
        world.condition(&ns, "users", "BusReady", "True").await?;
        Ok(())
    });
}
