//! Crashes and outages.

use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use k8s_openapi::api::events::v1::Event;
use kube::api::{ListParams, PostParams};
use murmur_crds::{EventSubscription, Mesh};
use murmur_mesh::restoring;
use serde_json::{Value, json};

use crate::bus::publish;
use crate::world::{test_alone, wait};

#[test]
fn an_operator_killed_at_any_point_ends_in_the_same_state() {
    test_alone("killed", |world| async move {
        let ns = world.namespace("killed").await?;
        world.kill_operator().await?;
        for number in 0..6 {
            let name = format!("service{number}");
            let spec = json!({"volume": {"size": "1Gi"}, "publishes": [{"type": "A"}]});
            world.microservice(&ns, &name, spec).await?;
            world.subscription(&ns, &format!("to-{name}"), &name, "A", json!({})).await?;
        }
        // Starting takes it some 150 ms, doing all of it some 500 more.
        for milliseconds in [120, 180, 240, 300, 380, 460] {
            world.restart_operator().await?;
            tokio::time::sleep(Duration::from_millis(milliseconds)).await;
            world.kill_operator().await?;
        }
        world.restart_operator().await?;
        for number in 0..6 {
            let name = format!("service{number}");
            world.condition(&ns, &name, "BusReady", "True").await?;
            world.condition_of::<EventSubscription>(&ns, &format!("to-{name}"), "Ready", "True").await?;
            world.pods_become_ready(&ns, &name).await?;
            world.condition(&ns, &name, "Progressing", "False").await?;
            // The three places that hold the user's rights agree.
            let secret =
                world.api::<Secret>(&ns).get(&format!("{name}-sidecar")).await?.data.unwrap_or_default();
            let map =
                world.api::<ConfigMap>(&ns).get(&format!("{name}-sidecar")).await?.data.unwrap_or_default();
            let body = json!({"last_by_subj": format!("config.{name}")});
            let answer = world.jetstream(&ns, "STREAM.MSG.GET.CONFIG", &body).await?;
            let data = answer["message"]["data"].as_str().unwrap_or_default();
            let published: Value = serde_json::from_slice(&data_encoding::BASE64.decode(data.as_bytes())?)?;
            assert_eq!(published["userJwt"], String::from_utf8_lossy(&secret["user.jwt"].0).as_ref());
            let told: Value = serde_json::from_str(&map["config.json"])?;
            assert_eq!(told["subscriptions"], published["subscriptions"]);
            assert!(published["generation"].as_u64() >= told["generation"].as_u64());
        }
        Ok(())
    });
}

#[test]
fn without_nats_objects_are_made_and_the_bus_follows_when_it_is_back() {
    test_alone("NATS away", |world| async move {
        let ns = world.namespace("away").await?;
        world.microservice(&ns, "before", json!({})).await?;
        world.condition(&ns, "before", "BusReady", "True").await?;
        world.broker.lock().await.kill().await?;
        world.microservice(&ns, "during", json!({})).await?;
        wait("its Deployment is made all the same", || async {
            Ok(world.api::<Deployment>(&ns).get_opt("during").await?)
        })
        .await?;
        let (_, message) = world.condition(&ns, "during", "BusReady", "False").await?;
        assert!(message.contains("NATS") || message.contains("connection"), "{message}");
        let (_, message) = world.condition(&ns, "before", "BusReady", "False").await?;
        assert!(message.contains("NATS"), "{message}");
        world.pods_become_ready(&ns, "during").await?;
        world.condition(&ns, "during", "Ready", "True").await?;
        // What is deleted meanwhile goes at once: no finalizer waits for NATS.
        world.delete::<murmur_crds::Microservice>(&ns, "before").await?;
        world.broker.lock().await.resume().await?;
        world.condition(&ns, "during", "BusReady", "True").await?;
        Ok(())
    });
}

#[test]
fn a_nats_that_lost_everything_is_set_up_again_as_another_event_store() {
    test_alone("NATS empty", |world| async move {
        let ns = world.namespace("empty").await?;
        world.microservice(&ns, "users", json!({"publishes": [{"type": "A"}]})).await?;
        let new = json!({"ordering": {"policy": "None"}, "start": {"policy": "New"}});
        world.subscription(&ns, "mine", "users", "A", new).await?;
        let mesh: Mesh = serde_json::from_value(json!({"apiVersion": "murmur.dev/v1alpha1", "kind": "Mesh",
            "metadata": {"name": "default"}, "spec": {}}))?;
        world.api::<Mesh>(&ns).create(&PostParams::default(), &mesh).await?;
        world.condition_of::<Mesh>(&ns, "default", "Ready", "True").await?;
        world.condition(&ns, "users", "BusReady", "True").await?;
        world.condition_of::<EventSubscription>(&ns, "mine", "Ready", "True").await?;
        let told = || async {
            let map = world.api::<ConfigMap>(&ns).get("users-sidecar").await?.data.unwrap_or_default();
            Ok::<Value, anyhow::Error>(serde_json::from_str(&map["config.json"])?)
        };
        let before = told().await?;
        assert!(before["eventStore"].is_string(), "{before}");
        world.nats_loses_everything().await?;
        let after = wait("its sidecar is told of another event store", || async {
            let after = told().await?;
            Ok((after["eventStore"] != before["eventStore"]).then_some(after))
        })
        .await?;
        assert!(after["generation"].as_u64() > before["generation"].as_u64());
        world.condition(&ns, "users", "BusReady", "True").await?;
        wait("the durable is there again", || async {
            let info = world.jetstream(&ns, "CONSUMER.INFO.EVENTS.mine-all", &Value::Null).await?;
            // With all that the new one ever had, although it was to start with what is new.
            Ok((info["config"]["deliver_policy"] == "all").then_some(()))
        })
        .await?;
        let (_, message) =
            world.condition_of::<EventSubscription>(&ns, "mine", "EventStoreReplaced", "True").await?;
        assert!(message.contains(before["eventStore"].as_str().unwrap_or("?")), "{message}");
        world.condition_of::<Mesh>(&ns, "default", "EventStoreReplaced", "True").await?;
        wait("events say so", || async {
            let events = world.api::<Event>(&ns).list(&ListParams::default()).await?;
            let told = |event: &&Event| {
                event.reason.as_deref() == Some("EventStoreReplaced")
                    && event.type_.as_deref() == Some("Warning")
            };
            Ok((events.iter().filter(told).count() == 2).then_some(()))
        })
        .await?;
        Ok(())
    });
}

#[test]
fn a_restored_event_store_is_no_loss_and_what_is_new_begins_at_its_start() {
    test_alone("NATS restored", |world| async move {
        let ns = world.namespace("restored").await?;
        world.microservice(&ns, "users", json!({"publishes": [{"type": "A"}]})).await?;
        let mesh = Mesh::new("default", serde_json::from_value(json!({}))?);
        world.api::<Mesh>(&ns).create(&PostParams::default(), &mesh).await?;
        world.condition_of::<Mesh>(&ns, "default", "Ready", "True").await?;
        // It was added after the backup, so that there is no position of it in that.
        let new = json!({"ordering": {"policy": "None"}, "start": {"policy": "New"}});
        world.subscription(&ns, "mine", "users", "A", new).await?;
        world.condition_of::<EventSubscription>(&ns, "mine", "Ready", "True").await?;
        let stream = || world.jetstream(&ns, "STREAM.INFO.EVENTS", &Value::Null);
        let before = stream().await?;
        // As `murmur mesh restore` does it, on servers that form a cluster.
        let administrator = world.administrator(&ns).await?;
        administrator.request(restoring::SUBJECT, "".into()).await?;
        let mut config = before["config"].clone();
        config["metadata"] = json!({(restoring::RESTORED): "2026-11-21T10:00:00Z"});
        world.jetstream(&ns, "STREAM.DELETE.EVENTS", &Value::Null).await?;
        let made = world.jetstream(&ns, "STREAM.CREATE.EVENTS", &config).await?;
        assert!(made.get("error").is_none(), "{made}");
        publish(&administrator, "events.users.0.A").await?;
        administrator.publish(restoring::SUBJECT, restoring::DONE.into()).await?;
        let created = made["created"].as_str().unwrap_or_default().to_owned();
        assert_ne!(before["created"], created.as_str());
        let status = wait("the subscription is in the restored store", || async {
            let found = world.api::<EventSubscription>(&ns).get("mine").await?.status.unwrap_or_default();
            Ok((found.event_store.as_ref() == Some(&created)).then_some(found))
        })
        .await?;
        assert!(
            status.conditions.iter().all(|condition| condition.type_ != "EventStoreReplaced"),
            "{status:?}"
        );
        let durable = world.jetstream(&ns, "CONSUMER.INFO.EVENTS.mine-all", &Value::Null).await?;
        assert_eq!(durable["config"]["deliver_policy"], "by_start_sequence", "{durable}");
        assert_eq!(durable["config"]["opt_start_seq"], 2);
        let of_mesh = wait("the Mesh shows the restored store", || async {
            let found = world.api::<Mesh>(&ns).get("default").await?.status.unwrap_or_default();
            let shown = found.event_store.as_ref().and_then(|store| store.created.as_ref()) == Some(&created);
            Ok(shown.then_some(found))
        })
        .await?;
        assert!(of_mesh.conditions.iter().all(|condition| condition.type_ != "EventStoreReplaced"));
        assert_eq!(stream().await?["config"]["metadata"][restoring::RESTORED], "2026-11-21T10:00:00Z");
        Ok(())
    });
}
