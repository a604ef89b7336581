//! What becomes of a Microservice in the cluster.

use std::time::{Duration, Instant};

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Secret, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::{Patch, PatchParams, PostParams};
use murmur_crds::{EventSubscription, Microservice};
use serde_json::json;

use crate::data::collect;
use crate::world::{named, test, wait};

#[test]
fn a_service_becomes_its_objects_and_is_ready_once_its_pods_are() {
    test("objects", |world| async move {
        let ns = world.namespace("objects").await?;
        let database = json!({"database": {"engine": "SQLite", "storage": {"size": "1Gi"}},
            "publishes": [{"type": "Seen"}]});
        world.microservice(&ns, "history", database).await?;
        world.subscription(&ns, "catalog", "history", "ProductCreated", json!({})).await?;

        world.condition(&ns, "history", "BusReady", "True").await?;
        let (reason, _) = world.condition(&ns, "history", "Ready", "False").await?;
        assert!(["ClaimPending", "PodsNotReady"].contains(&reason.as_str()), "{reason}");
        let deployment = world.api::<Deployment>(&ns).get("history").await?;
        let owner = deployment.metadata.owner_references.unwrap_or_default();
        let uid = world.api::<Microservice>(&ns).get("history").await?.metadata.uid;
        assert_eq!(Some(&owner[0].uid), uid.as_ref());
        world.api::<Service>(&ns).get("history").await?;
        world.api::<Service>(&ns).get("history-pods").await?;
        world.api::<ServiceAccount>(&ns).get("history").await?;
        world.api::<NetworkPolicy>(&ns).get("history").await?;
        world.api::<PodDisruptionBudget>(&ns).get("history").await?;
        let secret = world.api::<Secret>(&ns).get("history-sidecar").await?.data.unwrap_or_default();
        let keys: Vec<_> = secret.keys().map(String::as_str).collect();
        assert_eq!(keys, ["message-id.key", "token", "user.jwt", "user.nk"]);

        let claims = world.api::<PersistentVolumeClaim>(&ns);
        let bound = json!({"status": {"phase": "Bound"}});
        claims.patch_status("history-data", &PatchParams::default(), &Patch::Merge(&bound)).await?;
        world.pods_become_ready(&ns, "history").await?;
        world.condition(&ns, "history", "Ready", "True").await?;
        world.condition(&ns, "history", "DatabaseReady", "True").await?;
        world.condition(&ns, "history", "Progressing", "False").await?;
        world.condition_of::<EventSubscription>(&ns, "catalog", "Ready", "True").await?;
        world.condition_of::<EventSubscription>(&ns, "catalog", "CaughtUp", "True").await?;
        world.condition_of::<EventSubscription>(&ns, "catalog", "Delivering", "Unknown").await?;
        Ok(())
    });
}

#[test]
fn objects_changed_or_removed_by_hand_are_put_right() {
    test("drift", |world| async move {
        let ns = world.namespace("drift").await?;
        world.microservice(&ns, "users", json!({"resources": {"limits": {"cpu": "1000m"}}})).await?;
        world.condition(&ns, "users", "BusReady", "True").await?;
        let deployments = world.api::<Deployment>(&ns);

        let edit =
            json!({"spec": {"replicas": 5, "template": {"spec": {"terminationGracePeriodSeconds": 1}}}});
        deployments.patch("users", &PatchParams::default(), &Patch::Merge(&edit)).await?;
        wait("the edit is undone", || async {
            let spec = deployments.get("users").await?.spec.unwrap_or_default();
            let grace = spec.template.spec.and_then(|pod| pod.termination_grace_period_seconds);
            Ok((spec.replicas == Some(1) && grace > Some(1)).then_some(()))
        })
        .await?;

        world.delete::<Service>(&ns, "users").await?;
        wait("the Service is back", || async { Ok(world.api::<Service>(&ns).get_opt("users").await?) })
            .await?;

        let maps = world.api::<ConfigMap>(&ns);
        let broken = json!({"data": {"config.json": "broken"}});
        maps.patch("users-sidecar", &PatchParams::default(), &Patch::Merge(&broken)).await?;
        wait("the configuration is back", || async {
            let data = maps.get("users-sidecar").await?.data.unwrap_or_default();
            Ok((data["config.json"] != "broken").then_some(()))
        })
        .await?;
        Ok(())
    });
}

#[test]
fn what_is_no_longer_wished_for_goes_from_the_objects() {
    test("less", |world| async move {
        let ns = world.namespace("less").await?;
        world
            .microservice(
                &ns,
                "users",
                json!({"env": [{"name": "A", "value": "1"}, {"name": "B", "value": "1"}]}),
            )
            .await?;
        let environment = || async {
            let deployment = world.api::<Deployment>(&ns).get_opt("users").await?;
            let deployment = serde_json::to_value(deployment)?;
            let service = deployment["spec"]["template"]["spec"]["containers"][0]["env"].clone();
            let names = service.as_array().cloned().unwrap_or_default();
            Ok::<_, anyhow::Error>(
                names.iter().filter_map(|it| it["name"].as_str().map(str::to_owned)).collect::<Vec<_>>(),
            )
        };
        wait("both are there", || async { Ok(environment().await?.contains(&"B".to_owned()).then_some(())) })
            .await?;
        world.microservice(&ns, "users", json!({"env": [{"name": "A", "value": "1"}]})).await?;
        wait("one is gone", || async {
            let names = environment().await?;
            Ok((names.contains(&"A".to_owned()) && !names.contains(&"B".to_owned())).then_some(()))
        })
        .await?;
        Ok(())
    });
}

#[test]
fn an_object_of_someone_else_is_left_alone_and_named() {
    test("taken", |world| async move {
        let ns = world.namespace("taken").await?;
        let theirs: Service =
            serde_json::from_value(json!({"metadata": {"name": "users", "labels": {"whose": "theirs"}},
            "spec": {"ports": [{"port": 1234}], "selector": {"app": "theirs"}}}))?;
        let before = world.api::<Service>(&ns).create(&PostParams::default(), &theirs).await?;
        world.microservice(&ns, "users", json!({})).await?;
        let (reason, message) = world.condition(&ns, "users", "Ready", "False").await?;
        assert_eq!(reason, "NameTaken");
        assert!(message.contains("Service users"), "{message}");
        let after = world.api::<Service>(&ns).get("users").await?;
        assert_eq!(before.metadata.resource_version, after.metadata.resource_version);
        assert!(world.api::<Deployment>(&ns).get_opt("users").await?.is_none(), "nothing else is made");

        world.delete::<Service>(&ns, "users").await?;
        wait("the service is made by itself", || async {
            Ok(world.api::<Deployment>(&ns).get_opt("users").await?)
        })
        .await?;
        world.condition(&ns, "users", "BusReady", "True").await?;
        Ok(())
    });
}

#[test]
fn a_secret_of_someone_else_is_left_alone_and_named() {
    test("taken secret", |world| async move {
        let ns = world.namespace("taken").await?;
        let theirs = Secret { metadata: named("users-sidecar"), ..Secret::default() };
        world.api::<Secret>(&ns).create(&PostParams::default(), &theirs).await?;
        world.microservice(&ns, "users", json!({})).await?;
        let (reason, message) = world.condition(&ns, "users", "Ready", "False").await?;
        assert_eq!(reason, "NameTaken");
        assert!(message.contains("Secret users-sidecar"), "{message}");
        Ok(())
    });
}

#[test]
fn a_service_made_anew_waits_for_what_the_one_before_has_left_and_no_longer() {
    test("made anew", |world| async move {
        let ns = world.namespace("anew").await?;
        world.microservice(&ns, "users", json!({})).await?;
        world.condition(&ns, "users", "BusReady", "True").await?;
        let old = world.api::<Microservice>(&ns).get("users").await?.metadata.uid.unwrap_or_default();
        world.delete::<Microservice>(&ns, "users").await?;
        world.microservice(&ns, "users", json!({})).await?;
        wait("it is told what it waits for", || async {
            let (reason, _) = world.condition(&ns, "users", "Ready", "False").await?;
            Ok((reason == "PredecessorLeaving").then_some(()))
        })
        .await?;
        // However long that takes, the new one is there right after.
        tokio::time::sleep(Duration::from_secs(8)).await;
        collect(&world, &ns, &old).await?;
        let began = Instant::now();
        world.condition(&ns, "users", "BusReady", "True").await?;
        eprintln!("made anew after {:?}", began.elapsed());
        Ok(())
    });
}
