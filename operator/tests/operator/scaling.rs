//! A service has as many pods as its waiting events need.

use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use murmur_crds::{EventSubscription, Microservice};
use serde_json::json;

use crate::bus::{as_service, publish};
use crate::replay::take;
use crate::world::{World, test_alone, wait};

async fn replicas(world: &World, ns: &str) -> anyhow::Result<Option<i32>> {
    let deployment = world.api::<Deployment>(ns).get_opt("users").await?;
    Ok(deployment.and_then(|deployment| deployment.spec?.replicas))
}

#[test]
fn waiting_events_bring_pods_at_once_and_their_end_takes_none_away_for_a_while() {
    test_alone("autoscaling", |world| async move {
        let ns = world.namespace("scaling").await?;
        let spec = json!({"publishes": [{"type": "A"}], "replicas": 7,
            "autoscaling": {"maxReplicas": 3, "pendingEventsPerReplica": 2}});
        world.microservice(&ns, "users", spec).await?;
        world.subscription(&ns, "mine", "users", "A", json!({"ordering": {"policy": "None"}})).await?;
        world.condition_of::<EventSubscription>(&ns, "mine", "Ready", "True").await?;
        world.condition(&ns, "users", "BusReady", "True").await?;
        assert_eq!(replicas(&world, &ns).await?, Some(1), "replicas are ignored");
        let users = as_service(&world, &ns, "users").await?;
        for _ in 0..5 {
            publish(&users, "events.users.0.A").await?;
        }
        let three = || async { Ok((replicas(&world, &ns).await? == Some(3)).then_some(())) };
        wait("there are three", three).await?;
        wait("its status says so", || async {
            let found = world.api::<Microservice>(&ns).get("users").await?;
            Ok((found.status.and_then(|status| status.desired_replicas) == Some(3)).then_some(()))
        })
        .await?;
        take(&world, &ns, "mine-all", 5).await?;
        world.condition_of::<EventSubscription>(&ns, "mine", "CaughtUp", "True").await?;
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(replicas(&world, &ns).await?, Some(3), "five minutes have not passed");
        // A new operator does not know since when: the five minutes begin anew.
        world.kill_operator().await?;
        world.restart_operator().await?;
        world.condition(&ns, "users", "BusReady", "True").await?;
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(replicas(&world, &ns).await?, Some(3));
        // Without autoscaling the number is the user's again.
        world.microservice(&ns, "users", json!({"publishes": [{"type": "A"}], "replicas": 2})).await?;
        wait("there are two", || async { Ok((replicas(&world, &ns).await? == Some(2)).then_some(())) }).await
    });
}
