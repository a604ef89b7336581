//! Data outlives everything but an explicit wish.

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Secret};
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, DynamicObject, ListParams, Patch, PatchParams};
use murmur_crds::Microservice;
use serde_json::json;

use crate::world::{World, condition, test, wait};

#[test]
fn a_claim_survives_its_service_and_is_taken_up_again() {
    test("claims", |world| async move {
        let ns = world.namespace("claims").await?;
        let volume = |size: &str, when: &str| json!({"volume": {"size": size, "whenDeleted": when}});
        world.microservice(&ns, "kept", volume("1Gi", "Retain")).await?;
        world.microservice(&ns, "gone", volume("1Gi", "Delete")).await?;
        world.condition(&ns, "kept", "BusReady", "True").await?;
        world.condition(&ns, "gone", "BusReady", "True").await?;
        let claims = world.api::<PersistentVolumeClaim>(&ns);
        let kept = claims.get("kept-data").await?;
        assert!(kept.metadata.owner_references.is_none(), "the garbage collector would take it");
        assert!(
            kept.metadata
                .finalizers
                .unwrap_or_default()
                .iter()
                .all(|it| it == "kubernetes.io/pvc-protection")
        );
        assert_eq!(claims.get("gone-data").await?.metadata.owner_references.map(|it| it.len()), Some(1));

        let old = world.api::<Microservice>(&ns).get("kept").await?.metadata.uid.unwrap_or_default();
        world.delete::<Microservice>(&ns, "kept").await?;
        assert_eq!(claims.get("kept-data").await?.metadata.uid, kept.metadata.uid);
        world.microservice(&ns, "kept", volume("1Gi", "Retain")).await?;
        wait("the new one is there, once the old one's objects are gone", || async {
            collect(&world, &ns, &old).await?;
            let found = serde_json::to_value(world.api::<Microservice>(&ns).get("kept").await?)?;
            Ok(condition(&found, "BusReady").filter(|it| it["status"] == "True"))
        })
        .await?;
        assert_eq!(claims.get("kept-data").await?.metadata.uid, kept.metadata.uid);
        // A service without a volume any more leaves its claim as it is.
        world.microservice(&ns, "gone", json!({})).await?;
        world.condition(&ns, "gone", "BusReady", "True").await?;
        assert!(claims.get_opt("gone-data").await?.is_some());
        Ok(())
    });
}

/// Does what the garbage collector would: what an owner that is gone owned goes, too.
pub async fn collect(world: &World, ns: &str, owner: &str) -> anyhow::Result<()> {
    let kinds = murmur_plan::object::prunable().into_iter().chain([murmur_plan::object::claim()]);
    for kind in kinds {
        let api: Api<DynamicObject> = Api::namespaced_with(world.client.clone(), ns, &kind);
        for object in api.list(&ListParams::default()).await? {
            if object.owner_references().iter().any(|found| found.uid == owner) {
                api.delete(&object.name_any(), &DeleteParams::background()).await?;
            }
        }
    }
    Ok(())
}

#[test]
fn a_claim_that_was_grown_by_hand_is_not_shrunk() {
    test("grown claim", |world| async move {
        let ns = world.namespace("grown").await?;
        world.microservice(&ns, "users", json!({"volume": {"size": "1Gi"}})).await?;
        world.condition(&ns, "users", "BusReady", "True").await?;
        let claims = world.api::<PersistentVolumeClaim>(&ns);
        // Only a bound claim of a class that allows it grows; a label shows that it is still looked after.
        let edit = json!({"metadata": {"labels": {"app.kubernetes.io/name": "other"}}});
        claims.patch("users-data", &PatchParams::default(), &Patch::Merge(&edit)).await?;
        wait("the label is back", || async {
            let labels = claims.get("users-data").await?.metadata.labels.unwrap_or_default();
            Ok((labels["app.kubernetes.io/name"] == "users").then_some(()))
        })
        .await?;
        Ok(())
    });
}

#[test]
fn the_keys_of_a_service_are_made_once() {
    test("keys", |world| async move {
        let ns = world.namespace("keys").await?;
        world.microservice(&ns, "users", json!({})).await?;
        world.condition(&ns, "users", "BusReady", "True").await?;
        let secrets = world.api::<Secret>(&ns);
        let before = secrets.get("users-sidecar").await?.data.unwrap_or_default();
        world.microservice(&ns, "users", json!({"publishes": [{"type": "UserCreated"}]})).await?;
        let after = wait("the JWT says more", || async {
            let now = secrets.get("users-sidecar").await?.data.unwrap_or_default();
            Ok((now["user.jwt"] != before["user.jwt"]).then_some(now))
        })
        .await?;
        for key in ["user.nk", "message-id.key", "token"] {
            assert_eq!(before[key], after[key], "{key}");
        }
        // Broken by hand, they are not made anew behind the user's back.
        let broken = json!({"data": {"user.nk": null}});
        secrets.patch("users-sidecar", &PatchParams::default(), &Patch::Merge(&broken)).await?;
        world.microservice(&ns, "users", json!({"publishes": []})).await?;
        let (reason, message) = world.condition(&ns, "users", "Ready", "False").await?;
        assert_eq!(reason, "SecretUnusable");
        assert!(message.contains("users-sidecar") && message.contains("delete it"), "{message}");
        world.delete::<Secret>(&ns, "users-sidecar").await?;
        Ok(())
    });
}
