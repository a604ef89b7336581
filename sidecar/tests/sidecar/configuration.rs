//! Configuration that changes while the sidecar runs.

use std::time::Duration;

use serde_json::json;

use crate::support::{Service, Setup, World, eventually, post, subscription};

fn keyed(shards: u16) -> serde_json::Value {
    json!({"policy": "key", "shards": shards})
}

#[tokio::test]
async fn subscriptions_and_types_come_and_go_without_a_restart() {
    let service = Service::ok().await;
    let mut world = World::start(Setup::default()).await;
    let added = subscription("added", service.port, keyed(1));
    world.durables(&added).await;
    world.publish("1", "k").await;
    assert_eq!(post(world.local, "/v1/events/New", &[], "").await.status, 403);

    world
        .configure(|config| {
            config["subscriptions"] = json!([added]);
            config["publishes"] = json!(["New"]);
        })
        .await;
    world.until_configured().await;
    eventually("the past event arrives", async || service.count() == 1).await;
    assert_eq!(post(world.local, "/v1/events/New", &[], "").await.status, 200);
    assert_eq!(post(world.local, "/v1/events/T", &[], "").await.status, 403);
    world.until_done("added-0").await;

    world.configure(|config| config["subscriptions"] = json!([])).await;
    world.until_configured().await;
    let before = service.count();
    assert_eq!(post(world.local, "/v1/events/New", &[], "").await.status, 200);
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(service.count(), before);

    world.configure(|config| config["subscriptions"] = json!([added])).await;
    eventually("it goes on where it was", async || service.count() == before + 1).await;
    world.until_done("added-0").await;
}

#[tokio::test]
async fn a_change_of_terms_in_full_flight_loses_nothing_and_doubles_nothing() {
    let first = Service::start(|_| (200, Duration::from_millis(2))).await;
    let second = Service::start(|_| (200, Duration::from_millis(2))).await;
    let subscriptions = vec![subscription("all", first.port, keyed(2))];
    let mut world = World::start(Setup { subscriptions, ..Setup::default() }).await;
    world.fill(2000, |id| format!("k{}", id % 40)).await;
    for step in 0..10 {
        tokio::time::sleep(Duration::from_millis(30)).await;
        let port = if step % 2 == 0 { second.port } else { first.port };
        world
            .configure(|config| {
                config["subscriptions"][0]["deliver"]["port"] = port.into();
                config["subscriptions"][0]["deliver"]["timeout"] = (20_000 + step).into();
            })
            .await;
    }
    for shard in 0..2 {
        world.until_done(&format!("all-{shard}")).await;
    }
    assert!(second.count() > 0);
    let mut ids = [first.ids(), second.ids()].concat();
    assert_eq!(ids.len(), 2000);
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 2000);
}

#[tokio::test]
async fn another_ordering_moves_to_other_durables_after_the_old_ones_are_given_back() {
    let service = Service::ok().await;
    let subscriptions = vec![subscription("all", service.port, keyed(1))];
    let mut world = World::start(Setup { subscriptions, ..Setup::default() }).await;
    world.publish("1", "k").await;
    world.until_done("all-0").await;
    let free = subscription("all", service.port, json!({"policy": "none"}));
    world.durables(&free).await;
    world.configure(|config| config["subscriptions"] = json!([free])).await;
    eventually("the other durable is pulled", async || service.count() == 2).await;
}

#[tokio::test]
async fn the_configuration_on_the_bus_wins_at_the_start_if_it_is_newer_and_only_then() {
    let mut world = World::start(Setup { sidecar: false, ..Setup::default() }).await;
    world.configure(|config| config["publishes"] = json!(["New"])).await;
    // What is on the bus is newer than the file that the sidecar boots from.
    world.with_file(|config| {
        config["generation"] = 1.into();
        config["publishes"] = json!(["T"]);
    });
    world.run().await;
    eventually("the newer one is applied", async || {
        post(world.local, "/v1/events/New", &[], "").await.status == 200
    })
    .await;
    world.stop().await;
    world.with_file(|config| {
        config["generation"] = 9.into();
        config["publishes"] = json!(["T"]);
    });
    world.run().await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(post(world.local, "/v1/events/New", &[], "").await.status, 403);
    assert_eq!(post(world.local, "/v1/events/T", &[], "").await.status, 200);
}

#[tokio::test]
async fn a_configuration_that_cannot_be_used_leaves_the_current_one() {
    let mut world = World::start(Setup::default()).await;
    let bad = subscription("bad", 0, keyed(3));
    world.configure(|config| config["subscriptions"] = json!([bad])).await;
    world.js.publish("config.users", "not json".into()).await.unwrap().await.unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    world.publish("1", "k").await;
    world.configure(|config| config["subscriptions"] = json!([])).await;
    world.until_configured().await;
}
