//! The options of a subscription: what they become on the bus.

use murmur_crds::EventSubscription;
use serde_json::{Value, json};

use crate::bus::{as_service, on_bus, publish};
use crate::world::{World, test, test_alone, wait};

async fn durable(world: &World, ns: &str, name: &str) -> anyhow::Result<Value> {
    world.jetstream(ns, &format!("CONSUMER.INFO.EVENTS.{name}"), &Value::Null).await
}

#[test]
fn a_suspended_subscription_pauses_its_durables_and_resumes_them() {
    test("suspend", |world| async move {
        let ns = world.namespace("suspend").await?;
        world.microservice(&ns, "users", json!({"publishes": [{"type": "A"}]})).await?;
        let unordered = json!({"ordering": {"policy": "None"}});
        let suspended = json!({"ordering": {"policy": "None"}, "suspend": true});
        world.subscription(&ns, "born", "users", "A", suspended.clone()).await?;
        world.subscription(&ns, "mine", "users", "A", unordered.clone()).await?;
        for name in ["born", "mine"] {
            world.condition_of::<EventSubscription>(&ns, name, "Ready", "True").await?;
        }
        assert_eq!(durable(&world, &ns, "born-all").await?["paused"], true);
        assert!(durable(&world, &ns, "mine-all").await?["paused"].as_bool() != Some(true));
        let (reason, _) = world.condition_of::<EventSubscription>(&ns, "born", "Delivering", "False").await?;
        assert_eq!(reason, "Suspended");
        let users = as_service(&world, &ns, "users").await?;
        publish(&users, "events.users.0.A").await?;
        let (reason, _) = world.condition_of::<EventSubscription>(&ns, "born", "CaughtUp", "False").await?;
        assert_eq!(reason, "Suspended");

        world.subscription(&ns, "mine", "users", "A", suspended).await?;
        world.subscription(&ns, "born", "users", "A", unordered).await?;
        wait("one is paused and the other goes on", || async {
            let (born, mine) =
                (durable(&world, &ns, "born-all").await?, durable(&world, &ns, "mine-all").await?);
            let paused = |info: &Value| info["paused"].as_bool().unwrap_or_default();
            Ok((!paused(&born) && paused(&mine)).then_some(()))
        })
        .await?;
        wait("the sidecar is told", || async {
            let told = on_bus(&world, &ns, "users").await?;
            let told: Vec<bool> =
                told.iter().flat_map(|config| &config.subscriptions).map(|one| one.suspend).collect();
            Ok((told == [false, true]).then_some(()))
        })
        .await?;
        // By hand it is resumed, and put right.
        world.jetstream(&ns, "CONSUMER.PAUSE.EVENTS.mine-all", &json!({})).await?;
        wait("it is paused again", || async {
            let info = durable(&world, &ns, "mine-all").await?;
            Ok((info["paused"] == true).then_some(()))
        })
        .await
    });
}

#[test]
fn a_start_at_a_time_passes_over_what_was_stored_before() {
    test("start time", |world| async move {
        let ns = world.namespace("time").await?;
        world.microservice(&ns, "users", json!({"publishes": [{"type": "A"}]})).await?;
        world.condition(&ns, "users", "BusReady", "True").await?;
        let users = as_service(&world, &ns, "users").await?;
        publish(&users, "events.users.0.A").await?;
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        let time = jiff::Timestamp::now().to_string();
        publish(&users, "events.users.0.A").await?;
        publish(&users, "events.users.1.A").await?;
        let spec = json!({"ordering": {"policy": "Strict"}, "start": {"policy": "Time", "time": time}});
        world.subscription(&ns, "mine", "users", "A", spec).await?;
        world.condition_of::<EventSubscription>(&ns, "mine", "Ready", "True").await?;
        let info = durable(&world, &ns, "mine-all").await?;
        assert_eq!(
            (&info["num_pending"], &info["config"]["max_ack_pending"]),
            (&json!(2), &json!(1)),
            "{info}"
        );
        Ok(())
    });
}

#[test]
fn a_redriven_dead_letter_reaches_the_durable_of_its_key_alone() {
    test("redrive", |world| async move {
        let ns = world.namespace("redrive").await?;
        world.microservice(&ns, "users", json!({})).await?;
        let two = json!({"ordering": {"policy": "Key", "shards": 2}});
        world.subscription(&ns, "mine", "users", "A", two.clone()).await?;
        world.subscription(&ns, "other", "users", "A", two).await?;
        for name in ["mine", "other"] {
            world.condition_of::<EventSubscription>(&ns, name, "Ready", "True").await?;
        }
        let administrator = world.administrator(&ns).await?;
        publish(&administrator, "redrive.users.mine.3").await?;
        let mut pending = Vec::new();
        for name in ["mine-0", "mine-1", "other-0", "other-1"] {
            pending.push(durable(&world, &ns, name).await?["num_pending"].as_u64());
        }
        assert_eq!(pending, [Some(0), Some(1), Some(0), Some(0)]);
        Ok(())
    });
}

#[test]
fn an_event_store_of_an_older_version_learns_its_new_subjects() {
    test_alone("old stream", |world| async move {
        let ns = world.namespace("old").await?;
        world.microservice(&ns, "users", json!({})).await?;
        world.condition(&ns, "users", "BusReady", "True").await?;
        world.kill_operator().await?;
        let mut config = world.jetstream(&ns, "STREAM.INFO.EVENTS", &Value::Null).await?["config"].clone();
        config["subjects"] = json!(["events.>"]);
        let answer = world.jetstream(&ns, "STREAM.UPDATE.EVENTS", &config).await?;
        assert!(answer.get("error").is_none(), "{answer}");
        world.restart_operator().await?;
        wait("its subjects are as planned", || async {
            let info = world.jetstream(&ns, "STREAM.INFO.EVENTS", &Value::Null).await?;
            Ok((info["config"]["subjects"] == json!(["events.>", "redrive.>"])).then_some(()))
        })
        .await
    });
}
