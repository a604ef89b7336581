//! Conditions say what is, with the cause.

use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use k8s_openapi::api::events::v1::Event;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use murmur_crds::Microservice;
use serde_json::json;

use crate::world::{test, wait};

#[test]
fn an_image_that_cannot_be_pulled_is_the_cause() {
    test("image", |world| async move {
        let ns = world.namespace("image").await?;
        world.microservice(&ns, "users", json!({"image": "users:none"})).await?;
        world.condition(&ns, "users", "BusReady", "True").await?;
        let pod: Pod = serde_json::from_value(
            json!({"metadata": {"name": "users-1", "labels": {"murmur.dev/microservice": "users"}},
            "spec": {"containers": [{"name": "service", "image": "users:none"}]}}),
        )?;
        let pods = world.api::<Pod>(&ns);
        pods.create(&PostParams::default(), &pod).await?;
        let waiting = json!({"status": {"phase": "Pending", "containerStatuses": [{"name": "service", "image": "users:none",
            "imageID": "", "ready": false, "restartCount": 0,
            "state": {"waiting": {"reason": "ImagePullBackOff", "message": "back-off"}}}]}});
        pods.patch_status("users-1", &PatchParams::default(), &Patch::Merge(&waiting)).await?;
        let message = wait("the cause is in the condition", || async {
            let (_, message) = world.condition(&ns, "users", "Ready", "False").await?;
            Ok(message.contains("users:none").then_some(message))
        })
        .await?;
        assert!(message.contains("cannot be pulled"), "{message}");
        // And as an event, once.
        wait("an event says so", || async {
            let events = world.api::<Event>(&ns).list(&ListParams::default()).await?;
            let about = |event: &&Event| event.note.as_deref().unwrap_or_default().contains("users:none");
            Ok((events.iter().filter(about).count() == 1).then_some(()))
        })
        .await?;
        Ok(())
    });
}

#[test]
fn a_quota_that_refuses_pods_is_the_cause() {
    test("quota", |world| async move {
        let ns = world.namespace("quota").await?;
        world.microservice(&ns, "users", json!({})).await?;
        let api = world.api::<Deployment>(&ns);
        let deployment =
            wait("the Deployment is there", || async { Ok(api.get_opt("users").await?) }).await?;
        let status = json!({"status": {"observedGeneration": deployment.metadata.generation, "conditions": [
            {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": "pods are forbidden: exceeded quota"}]}});
        api.patch_status("users", &PatchParams::default(), &Patch::Merge(&status)).await?;
        wait("the cause is in the condition", || async {
            let (_, message) = world.condition(&ns, "users", "Ready", "False").await?;
            Ok(message.contains("exceeded quota").then_some(()))
        })
        .await?;
        Ok(())
    });
}

#[test]
fn what_the_api_server_cannot_refuse_becomes_a_condition() {
    test("invalid", |world| async move {
        let ns = world.namespace("invalid").await?;
        let resources = json!({"resources": {"requests": {"memory": "2Gi"}, "limits": {"memory": "1Gi"}}});
        world.microservice(&ns, "users", resources).await?;
        let (reason, message) = world.condition(&ns, "users", "Ready", "False").await?;
        assert_eq!(reason, "RequestAboveLimit");
        assert!(message.contains("2Gi"), "{message}");
        world.microservice(&ns, "users", json!({})).await?;
        world.condition(&ns, "users", "BusReady", "True").await?;
        Ok(())
    });
}

#[test]
fn the_scale_subresource_reaches_the_deployment_and_back() {
    test("scale", |world| async move {
        let ns = world.namespace("scale").await?;
        world.microservice(&ns, "users", json!({})).await?;
        world.condition(&ns, "users", "BusReady", "True").await?;
        let api = world.api::<Microservice>(&ns);
        let scale = json!({"spec": {"replicas": 3}});
        api.patch_scale("users", &PatchParams::default(), &Patch::Merge(&scale)).await?;
        wait("the Deployment has three", || async {
            let deployment = world.api::<Deployment>(&ns).get("users").await?;
            Ok((deployment.spec.and_then(|spec| spec.replicas) == Some(3)).then_some(()))
        })
        .await?;
        world.pods_become_ready(&ns, "users").await?;
        world.condition(&ns, "users", "Ready", "True").await?;
        let scale = api.get_scale("users").await?;
        assert_eq!(scale.status.as_ref().map(|status| status.replicas), Some(3));
        let selector = scale.status.and_then(|status| status.selector);
        assert_eq!(selector.as_deref(), Some("murmur.dev/microservice=users"));
        Ok(())
    });
}

/// The object once nothing has written to it for two seconds.
async fn at_rest(api: &Api<Microservice>, name: &str) -> anyhow::Result<Microservice> {
    wait("nothing writes to it any more", || async {
        let before = api.get(name).await?;
        tokio::time::sleep(Duration::from_secs(2)).await;
        let after = api.get(name).await?;
        Ok((before.metadata.resource_version == after.metadata.resource_version).then_some(after))
    })
    .await
}

#[test]
fn in_a_namespace_that_is_being_deleted_nothing_is_made_and_nothing_claimed() {
    test("terminating", |world| async move {
        let ns = world.namespace("ending").await?;
        world.microservice(&ns, "users", json!({})).await?;
        world.condition(&ns, "users", "BusReady", "True").await?;
        let namespaces: Api<Namespace> = Api::all(world.client.clone());
        // Nobody empties it here, so it stays as it is: being deleted.
        namespaces.delete(&ns, &DeleteParams::default()).await?;
        // What it had begun before then, it may end.
        let before = at_rest(&world.api::<Microservice>(&ns), "users").await?;
        world.delete::<Deployment>(&ns, "users").await?;
        tokio::time::sleep(Duration::from_secs(3)).await;
        assert!(world.api::<Deployment>(&ns).get_opt("users").await?.is_none());
        let after = world.api::<Microservice>(&ns).get("users").await?;
        assert_eq!(before.metadata.resource_version, after.metadata.resource_version);
        Ok(())
    });
}
