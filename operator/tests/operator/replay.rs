//! A replay starts over once and only once, whatever restarts.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::api::PostParams;
use murmur_crds::EventSubscription;
use murmur_crds::subscription::{ReplayPhase, ReplayStatus};
use murmur_mesh::config::Replay;
use murmur_mesh::report::Report;
use serde_json::{Value, json};

use crate::bus::{as_service, on_bus, publish};
use crate::world::{World, test, test_alone, wait};

/// The durables of a mesh: what the broker says of each, by name.
async fn durables(world: &World, ns: &str) -> anyhow::Result<BTreeMap<String, Value>> {
    let answer = world.jetstream(ns, "CONSUMER.LIST.EVENTS", &json!({})).await?;
    let all = answer["consumers"].as_array().cloned().unwrap_or_default();
    Ok(all.into_iter().map(|info| (info["name"].as_str().unwrap_or_default().to_owned(), info)).collect())
}

fn names_of(durables: &BTreeMap<String, Value>) -> Vec<String> {
    durables.keys().cloned().collect()
}

/// What the sidecars of a service are told of a replay of its one subscription.
async fn told(world: &World, ns: &str, service: &str) -> anyhow::Result<Option<Replay>> {
    let config = on_bus(world, ns, service).await?;
    Ok(config.and_then(|config| config.subscriptions.first()?.replay.clone()))
}

async fn replay_status(world: &World, ns: &str, name: &str) -> anyhow::Result<Option<ReplayStatus>> {
    let found = world.api::<EventSubscription>(ns).get(name).await?;
    Ok(found.status.and_then(|status| status.replay))
}

/// Pulls `count` events from a durable with the service's own rights, and acknowledges each.
pub async fn take(world: &World, ns: &str, durable: &str, count: usize) -> anyhow::Result<()> {
    let client = wait("the service may pull", || async {
        let client = as_service(world, ns, "users").await?;
        let request = format!("$JS.API.CONSUMER.INFO.EVENTS.{durable}");
        Ok(client.request(request, "".into()).await.is_ok().then_some(client))
    })
    .await?;
    let inbox = client.new_inbox();
    let mut pulled = client.subscribe(inbox.clone()).await?;
    let request = format!("$JS.API.CONSUMER.MSG.NEXT.EVENTS.{durable}");
    client.publish_with_reply(request, inbox, json!({"batch": count}).to_string().into()).await?;
    for number in 0..count {
        let next = tokio::time::timeout(Duration::from_secs(5), pulled.next()).await;
        let reply = next.ok().flatten().and_then(|message| message.reply);
        let reply = reply.ok_or_else(|| anyhow::anyhow!("event {number} of {durable} did not come"))?;
        client.publish(reply, "".into()).await?;
    }
    client.flush().await?;
    Ok(())
}

fn unordered(more: &Value) -> Value {
    let mut spec = json!({"ordering": {"policy": "None"}});
    spec.as_object_mut()
        .into_iter()
        .for_each(|spec| spec.extend(more.as_object().cloned().unwrap_or_default()));
    spec
}

#[test]
fn a_new_id_starts_over_once_and_the_old_durables_go_when_the_sidecars_have_been_told() {
    test_alone("replay", |world| async move {
        let ns = world.namespace("replay").await?;
        world.microservice(&ns, "users", json!({"publishes": [{"type": "A"}]})).await?;
        let born = unordered(&json!({"replay": {"id": "born"}}));
        world.subscription(&ns, "mine", "users", "A", born).await?;
        world.condition_of::<EventSubscription>(&ns, "mine", "Ready", "True").await?;
        world.condition(&ns, "users", "BusReady", "True").await?;
        // The one that was there at the making counts as done.
        let done = ReplayStatus { id: "born".into(), boundary_sequence: None, phase: ReplayPhase::Done };
        assert_eq!(replay_status(&world, &ns, "mine").await?, Some(done));
        assert_eq!(durables(&world, &ns).await?.keys().collect::<Vec<_>>(), ["mine-all"]);
        let users = as_service(&world, &ns, "users").await?;
        for _ in 0..3 {
            publish(&users, "events.users.0.A").await?;
        }
        take(&world, &ns, "mine-all", 3).await?;

        let once = || unordered(&json!({"replay": {"id": "once"}}));
        world.subscription(&ns, "mine", "users", "A", once()).await?;
        let replay = wait("the sidecars are told", || told(&world, &ns, "users")).await?;
        assert_eq!(replay, Replay { id: "once".into(), boundary: 3 });
        let (name, info) = wait("the old durable is gone", || async {
            let all = durables(&world, &ns).await?;
            Ok((all.len() == 1 && !all.contains_key("mine-all")).then(|| all.into_iter().next()).flatten())
        })
        .await?;
        assert_eq!(info["num_pending"], 3, "{info}");
        let running = |phase| ReplayStatus { id: "once".into(), boundary_sequence: Some(3), phase };
        let found = replay_status(&world, &ns, "mine").await?;
        assert_eq!(found, Some(running(ReplayPhase::Running)));
        publish(&users, "events.users.0.A").await?;
        take(&world, &ns, &name, 4).await?;
        wait("the replay is done", || async {
            let found = replay_status(&world, &ns, "mine").await?;
            Ok((found == Some(running(ReplayPhase::Done))).then_some(()))
        })
        .await?;

        // It does not start over again, whatever restarts or changes.
        world.kill_operator().await?;
        world.restart_operator().await?;
        let mut changed = once();
        changed["retry"] = json!({"maxAttempts": 2});
        changed["events"] = json!([{"type": "A"}, {"type": "B"}]);
        world.subscription(&ns, "mine", "users", "A", changed).await?;
        let (_, message) = world.condition_of::<EventSubscription>(&ns, "mine", "Ready", "True").await?;
        assert!(message.contains("delivered from then on: B"), "{message}");
        let mut without = unordered(&json!({}));
        without["events"] = json!([{"type": "A"}, {"type": "B"}]);
        world.subscription(&ns, "mine", "users", "A", without).await?;
        world.condition_of::<EventSubscription>(&ns, "mine", "Ready", "True").await?;
        let all = durables(&world, &ns).await?;
        assert_eq!(all.keys().collect::<Vec<_>>(), [&name]);
        assert_eq!((&all[&name]["created"], &all[&name]["num_pending"]), (&info["created"], &json!(0)));
        Ok(())
    });
}

#[test]
fn a_replay_begun_by_an_operator_that_is_killed_at_any_point_is_made_once() {
    test_alone("replay killed", |world| async move {
        let ns = world.namespace("replay").await?;
        let names: Vec<String> = (0..4).map(|number| format!("sub{number}")).collect();
        world.microservice(&ns, "users", json!({"publishes": [{"type": "A"}]})).await?;
        for name in &names {
            world.subscription(&ns, name, "users", "A", json!({"ordering": {"shards": 16}})).await?;
        }
        for name in &names {
            world.condition_of::<EventSubscription>(&ns, name, "Ready", "True").await?;
        }
        world.condition(&ns, "users", "BusReady", "True").await?;
        let administrator = world.administrator(&ns).await?;
        publish(&administrator, "events.users.0.A").await?;
        world.kill_operator().await?;
        for name in &names {
            let spec = json!({"ordering": {"shards": 16}, "replay": {"id": "once"}});
            world.subscription(&ns, name, "users", "A", spec).await?;
        }
        // Each durable of the replay is made once, with one boundary for all of a subscription.
        let mut made: BTreeMap<String, (Value, Value)> = BTreeMap::new();
        let seen = |info: &Value| {
            let boundary = &info["config"]["metadata"]["murmur.dev/replay-boundary"];
            (info["created"].clone(), boundary.clone())
        };
        let mut cuts = Vec::new();
        for _ in 0..8 {
            let before = names_of(&durables(&world, &ns).await?);
            world.restart_operator().await?;
            // As soon as it has done something, be it making or removing.
            let all = wait("something is made or removed", || async {
                let all = durables(&world, &ns).await?;
                let finished = all.len() == 64 && all.keys().all(|name| name.contains('_'));
                Ok((names_of(&all) != before || finished).then_some(all))
            })
            .await?;
            world.kill_operator().await?;
            publish(&administrator, "events.users.0.A").await?;
            for (name, info) in all.iter().filter(|(name, _)| name.contains('_')) {
                assert_eq!(*made.entry(name.clone()).or_insert_with(|| seen(info)), seen(info), "{name}");
            }
            cuts.push((made.len(), all.len()));
        }
        eprintln!("made, and there in all, when it was killed: {cuts:?}");
        assert!(cuts.iter().any(|(made, _)| *made < 64), "it was never killed half way");
        world.restart_operator().await?;
        wait("only the durables of the replay are there", || async {
            let all = durables(&world, &ns).await?;
            Ok((all.len() == 64 && all.keys().all(|name| name.contains('_'))).then_some(()))
        })
        .await?;
        let all = durables(&world, &ns).await?;
        for (name, before) in &made {
            assert_eq!(*before, seen(&all[name]), "{name} was made anew");
        }
        let config = on_bus(&world, &ns, "users").await?.ok_or_else(|| anyhow::anyhow!("nothing told"))?;
        for subscription in &config.subscriptions {
            let replay = subscription.replay.as_ref().ok_or_else(|| anyhow::anyhow!("no replay told"))?;
            for (_, durable) in subscription.durables() {
                let found = &all[durable.as_str()]["config"]["metadata"]["murmur.dev/replay-boundary"];
                assert_eq!(*found, replay.boundary.to_string().as_str(), "{durable}");
            }
        }
        Ok(())
    });
}

/// What the sidecar in the pod `users-1` reports that runs with this configuration.
async fn report(administrator: &async_nats::Client, generation: u64) -> anyhow::Result<()> {
    let report = Report {
        pod: "users-1".to_owned(),
        version: "0.1.0".to_owned(),
        generation,
        subscriptions: vec![],
        leaving: false,
        released: vec![],
        outbox: None,
    };
    let report = serde_json::to_vec(&report)?;
    Ok(administrator.publish("report.users.users-1", report.into()).await?)
}

/// A service with a subscription that has been told, and a connection with all rights.
async fn subscribed(world: &World) -> anyhow::Result<(String, async_nats::Client)> {
    let ns = world.namespace("replay").await?;
    world.microservice(&ns, "users", json!({})).await?;
    world.subscription(&ns, "mine", "users", "A", unordered(&json!({}))).await?;
    world.condition_of::<EventSubscription>(&ns, "mine", "Ready", "True").await?;
    world.condition(&ns, "users", "BusReady", "True").await?;
    let administrator = world.administrator(&ns).await?;
    Ok((ns, administrator))
}

/// Asks for a replay.
async fn replay(world: &World, ns: &str, id: &str) -> anyhow::Result<()> {
    let spec = unordered(&json!({"replay": {"id": id}}));
    world.subscription(ns, "mine", "users", "A", spec).await?;
    Ok(())
}

#[test]
fn the_old_durables_stay_while_a_pod_still_pulls_from_them() {
    test("replay waits", |world| async move {
        let (ns, administrator) = subscribed(&world).await?;
        report(&administrator, 1).await?;
        world.condition_of::<EventSubscription>(&ns, "mine", "Ready", "True").await?;
        replay(&world, &ns, "1").await?;
        wait("the sidecars are told", || told(&world, &ns, "users")).await?;
        tokio::time::sleep(Duration::from_secs(3)).await;
        assert_eq!(durables(&world, &ns).await?.len(), 2);
        report(&administrator, 1000).await?;
        wait("the old one goes", || async {
            Ok((!durables(&world, &ns).await?.contains_key("mine-all")).then_some(()))
        })
        .await
    });
}

#[test]
fn the_old_durables_stay_until_an_operator_that_has_just_begun_has_heard_every_pod() {
    test("replay hears", |world| async move {
        let (ns, administrator) = subscribed(&world).await?;
        let pod: Pod = serde_json::from_value(
            json!({"metadata": {"name": "users-1", "labels": {"murmur.dev/microservice": "users"}},
            "spec": {"containers": [{"name": "service", "image": "users:dev"}]}}),
        )?;
        world.api::<Pod>(&ns).create(&PostParams::default(), &pod).await?;
        replay(&world, &ns, "1").await?;
        wait("the sidecars are told", || told(&world, &ns, "users")).await?;
        tokio::time::sleep(Duration::from_secs(3)).await;
        assert_eq!(durables(&world, &ns).await?.len(), 2, "nobody knows what the pod pulls from");
        report(&administrator, 1000).await?;
        wait("the old one goes", || async {
            Ok((!durables(&world, &ns).await?.contains_key("mine-all")).then_some(()))
        })
        .await
    });
}

#[test]
fn an_id_that_is_asked_for_again_before_its_durables_have_gone_starts_over() {
    test("replay reverted", |world| async move {
        let (ns, administrator) = subscribed(&world).await?;
        replay(&world, &ns, "a").await?;
        wait("the first is told, and alone", || async {
            let alone = durables(&world, &ns).await?.len() == 1;
            let replay = told(&world, &ns, "users").await?;
            Ok(replay.filter(|replay| alone && replay.id == "a"))
        })
        .await?;
        let first = durables(&world, &ns).await?;
        // A pod that has not been told of the second keeps the durable of the first.
        report(&administrator, 1).await?;
        replay(&world, &ns, "b").await?;
        wait("the second is told", || async {
            Ok(told(&world, &ns, "users").await?.filter(|replay| replay.id == "b"))
        })
        .await?;
        assert_eq!(durables(&world, &ns).await?.len(), 2);
        publish(&administrator, "events.users.0.A").await?;
        replay(&world, &ns, "a").await?;
        world.condition_of::<EventSubscription>(&ns, "mine", "Ready", "True").await?;
        let status = replay_status(&world, &ns, "mine").await?;
        assert_eq!(status.map(|status| status.id).as_deref(), Some("b"), "it goes on until then");
        report(&administrator, 1000).await?;
        wait("the first is told again, and alone", || async {
            let all = durables(&world, &ns).await?;
            let again = first
                .keys()
                .all(|name| all.contains_key(name) && all[name]["created"] != first[name]["created"]);
            let replay = told(&world, &ns, "users").await?;
            Ok((again && all.len() == 1 && replay == Some(Replay { id: "a".into(), boundary: 1 }))
                .then_some(()))
        })
        .await
    });
}
