//! What the operator changes of database servers by itself goes to a few at a time.

use k8s_openapi::api::apps::v1::StatefulSet;
use kube::api::{Patch, PatchParams};
use murmur_crds::Microservice;
use serde_json::json;

use crate::upgrade::alone;
use crate::world::{SIDECAR_IMAGE, World, test_alone, wait};

const NAMES: [&str; 3] = ["a", "b", "c"];

/// The server's controller says that its pod is the planned one, and ready.
async fn is_complete(world: &World, ns: &str, service: &str) -> anyhow::Result<()> {
    let (sets, name) = (world.api::<StatefulSet>(ns), format!("{service}-db"));
    let generation = sets.get(&name).await?.metadata.generation;
    let status = json!({"status": {"observedGeneration": generation, "replicas": 1, "updatedReplicas": 1,
        "readyReplicas": 1}});
    sets.patch_status(&name, &PatchParams::default(), &Patch::Merge(&status)).await?;
    Ok(())
}

/// The services whose server has the image of this registry.
async fn with(world: &World, ns: &str, image: &str) -> anyhow::Result<Vec<&'static str>> {
    let mut all = Vec::new();
    for name in NAMES {
        let set = serde_json::to_value(world.api::<StatefulSet>(ns).get(&format!("{name}-db")).await?)?;
        let found = set["spec"]["template"]["spec"]["containers"][0]["image"].as_str().unwrap_or_default();
        if found.starts_with(image) {
            all.push(name);
        }
    }
    Ok(all)
}

#[test]
fn the_operators_own_change_goes_to_one_database_after_another_and_a_users_at_once() {
    test_alone("rolling", |world| async move {
        alone(&world).await?;
        let ns = world.namespace("rolling").await?;
        let postgres = |version: &str| json!({"database": {"engine": "Postgres", "version": version, "storage": {"size": "1Gi"}}});
        for name in NAMES {
            world.microservice(&ns, name, postgres("17.2")).await?;
            world.condition(&ns, name, "BusReady", "True").await?;
            world.claim_is_bound(&ns, &format!("{name}-db"), "1Gi").await?;
            world.server_is(&ns, name, true).await?;
            is_complete(&world, &ns, name).await?;
            world.pods_become_ready(&ns, name).await?;
            world.condition(&ns, name, "Ready", "True").await?;
        }
        world.kill_operator().await?;
        let more = ["--sidecar-upgrades-at-once", "1", "--postgres-image", "mirror/postgres"];
        let operator = world.start_operator_with(&world.new_lease(), SIDECAR_IMAGE, &more).await?;
        let mirrored = || with(&world, &ns, "mirror/");
        let first = wait("one is changed", || async { Ok(mirrored().await?.first().copied()) }).await?;
        tokio::time::sleep(std::time::Duration::from_secs(3)).await;
        assert_eq!(mirrored().await?, [first], "the others wait for it");
        let others: Vec<&str> = NAMES.into_iter().filter(|name| *name != first).collect();
        wait("another says that it waits", || async {
            let (reason, message) = world.condition(&ns, others[0], "Progressing", "False").await?;
            let named = message.contains(&format!("{ns}/{first}-db"));
            Ok((reason == "DatabaseUpgradeWaits" && named).then_some(()))
        })
        .await?;
        // What its user changes does not wait.
        let change = json!({"spec": postgres("17.3")});
        let api = world.api::<Microservice>(&ns);
        api.patch(others[0], &PatchParams::default(), &Patch::Merge(&change)).await?;
        wait("it is changed", || async { Ok((mirrored().await?.contains(&others[0])).then_some(())) })
            .await?;
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        assert!(!mirrored().await?.contains(&others[1]));
        is_complete(&world, &ns, first).await?;
        wait("the last one is changed", || async { Ok((mirrored().await?.len() == 3).then_some(())) })
            .await?;
        operator.stop().await?;
        for name in NAMES {
            world.delete::<Microservice>(&ns, name).await?;
        }
        world.restart_operator().await
    });
}
