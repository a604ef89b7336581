//! A projection on the bus: one durable in the order of the event store, and one of its own for
//! each rebuild.

use murmur_crds::EventSubscription;
use murmur_mesh::config::{Ordering, Projection};
use serde_json::{Value, json};

use crate::bus::{as_service, on_bus};
use crate::world::{test, wait};

fn projection(value: &str) -> Value {
    json!({"deliver": null, "projection": {
        "tables": ["seen"],
        "schema": "CREATE TABLE seen (id TEXT PRIMARY KEY)",
        "statements": [{"type": "A", "sql": format!("INSERT INTO seen VALUES ({value})")}],
    }})
}

#[test]
fn a_projection_has_one_durable_that_its_service_may_set_back_and_a_changed_one_is_rebuilt() {
    test("projection", |world| async move {
        let ns = world.namespace("projection").await?;
        world.microservice(&ns, "users", json!({"publishes": [{"type": "A"}]})).await?;
        world.subscription(&ns, "seen", "users", "A", projection(":id")).await?;
        world.condition_of::<EventSubscription>(&ns, "seen", "Ready", "True").await?;
        let told = async || {
            let config = on_bus(&world, &ns, "users").await?;
            anyhow::Ok(config.and_then(|config| config.subscriptions.first().cloned()))
        };
        let first = wait("the sidecar is told", told).await?;
        anyhow::ensure!(first.ordering == Ordering::Key { shards: 1 } && first.replay.is_none());
        anyhow::ensure!(first.projection().is_some_and(|projection| projection.tables == ["seen"]));
        wait("its service may set it back", || async {
            let client = as_service(&world, &ns, "users").await?;
            let answer = client.request("$JS.API.CONSUMER.RESET.EVENTS.seen-0", r#"{"seq":1}"#.into()).await;
            Ok(answer.is_ok().then_some(()))
        })
        .await?;

        world.subscription(&ns, "seen", "users", "A", projection(":source")).await?;
        // Told of the rebuild before it is told of the definition, a sidecar waits for that.
        let fingerprint = wait("the rebuild and its definition are told", || async {
            let told = told().await?;
            let run = told.as_ref().and_then(|told| told.replay.as_ref()).map(|replay| replay.id.as_str());
            let definition = told.as_ref().and_then(|told| told.projection());
            let rebuilt = definition.filter(|definition| Some(definition.run("").as_str()) == run);
            Ok(rebuilt.map(Projection::fingerprint))
        })
        .await?;
        wait("the status says so", || async {
            let found = world.api::<EventSubscription>(&ns).get("seen").await?;
            let replay = found.status.and_then(|status| status.replay);
            Ok(replay.filter(|replay| replay.id == format!("rebuild-{fingerprint}")))
        })
        .await?;

        let (wrong, cause) = (json!({"sql": "DROP TABLE seen", "type": "A"}), "INSERT, UPDATE or DELETE");
        let mut spec = projection(":id");
        spec["projection"]["statements"] = json!([wrong]);
        world.subscription(&ns, "seen", "users", "A", spec).await?;
        let (reason, message) =
            world.condition_of::<EventSubscription>(&ns, "seen", "Ready", "False").await?;
        anyhow::ensure!(reason == "InvalidProjection" && message.contains(cause), "{reason}: {message}");
        Ok(())
    });
}
