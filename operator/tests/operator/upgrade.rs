//! Sidecars are upgraded a few services at a time, and no further once one fails.

use k8s_openapi::api::apps::v1::Deployment;
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams};
use murmur_crds::Microservice;
use serde_json::json;

use crate::world::{SIDECAR_IMAGE, World, test_alone, wait};

async fn images(world: &World, ns: &str) -> anyhow::Result<Vec<String>> {
    let mut all = Vec::new();
    for name in ["a", "b", "c"] {
        let deployment = serde_json::to_value(world.api::<Deployment>(ns).get(name).await?)?;
        let image = &deployment["spec"]["template"]["spec"]["initContainers"][0]["image"];
        all.push(image.as_str().unwrap_or_default().to_owned());
    }
    Ok(all)
}

/// Services of other tests, which are over, would wait for their turn too, or be waited for:
/// nothing else removes the Deployments of those that are deleted.
pub async fn alone(world: &World) -> anyhow::Result<()> {
    let everywhere: Api<Microservice> = Api::all(world.client.clone());
    for service in everywhere.list(&ListParams::default()).await? {
        let of_it = world.api::<Microservice>(&service.namespace().unwrap_or_default());
        of_it.delete(&service.name_any(), &DeleteParams::default()).await?;
    }
    let everywhere: Api<Deployment> = Api::all(world.client.clone());
    for deployment in everywhere.list(&ListParams::default()).await? {
        let of_it = world.api::<Deployment>(&deployment.namespace().unwrap_or_default());
        of_it.delete(&deployment.name_any(), &DeleteParams::default()).await?;
    }
    Ok(())
}

async fn upgraded(world: &World, ns: &str) -> anyhow::Result<Vec<usize>> {
    let images = images(world, ns).await?;
    Ok((0..images.len()).filter(|index| images[*index] == "murmur/sidecar:new").collect())
}

#[test]
fn a_new_sidecar_goes_to_one_service_after_another_and_stops_at_one_that_fails() {
    test_alone("upgrade", |world| async move {
        alone(&world).await?;
        let ns = world.namespace("upgrade").await?;
        for name in ["a", "b", "c"] {
            world.microservice(&ns, name, json!({})).await?;
            world.condition(&ns, name, "BusReady", "True").await?;
            world.pods_become_ready(&ns, name).await?;
            world.condition(&ns, name, "Ready", "True").await?;
        }
        world.microservice(&ns, "pinned", json!({"sidecar": {"version": "0.0.9"}})).await?;
        world.kill_operator().await?;
        let more = ["--sidecar-upgrades-at-once", "1"];
        let operator = world.start_operator_with(&world.new_lease(), "murmur/sidecar:new", &more).await?;
        let first =
            wait("one is upgraded", || async { Ok(upgraded(&world, &ns).await?.first().copied()) }).await?;
        tokio::time::sleep(std::time::Duration::from_secs(3)).await;
        assert_eq!(upgraded(&world, &ns).await?, [first], "the others wait for it");
        let names = ["a", "b", "c"];
        let other = names.iter().position(|name| *name != names[first]).unwrap_or_default();
        let (reason, _) = world.condition(&ns, names[other], "Progressing", "False").await?;
        assert_eq!(reason, "SidecarUpgradeWaits");
        world.pods_become_ready(&ns, names[first]).await?;
        let two = wait("the next one is upgraded", || async {
            Ok(Some(upgraded(&world, &ns).await?).filter(|all| all.len() == 2))
        })
        .await?;
        // The second one does not become ready.
        let second = two.into_iter().find(|index| *index != first).unwrap_or_default();
        let third = 3 - first - second;
        let api = world.api::<Deployment>(&ns);
        let generation = api.get(names[second]).await?.metadata.generation;
        let stuck = json!({"status": {"observedGeneration": generation, "replicas": 2, "updatedReplicas": 1,
            "availableReplicas": 1, "conditions": [{"type": "Progressing", "status": "False",
                "reason": "ProgressDeadlineExceeded"}]}});
        api.patch_status(names[second], &PatchParams::default(), &Patch::Merge(&stuck)).await?;
        wait("the third says that it has stopped", || async {
            let (reason, message) = world.condition(&ns, names[third], "Progressing", "False").await?;
            let named = message.contains(&format!("{ns}/{}", names[second]));
            Ok((reason == "SidecarUpgradeStopped" && named).then_some(()))
        })
        .await?;
        assert_eq!(upgraded(&world, &ns).await?.len(), 2);
        let repaired =
            json!({"status": {"conditions": [{"type": "Progressing", "status": "True", "reason": "New"}]}});
        api.patch_status(names[second], &PatchParams::default(), &Patch::Merge(&repaired)).await?;
        world.pods_become_ready(&ns, names[second]).await?;
        wait("all are upgraded", || async { Ok((upgraded(&world, &ns).await?.len() == 3).then_some(())) })
            .await?;
        let pinned = serde_json::to_value(api.get("pinned").await?)?;
        let image = &pinned["spec"]["template"]["spec"]["initContainers"][0]["image"];
        assert_eq!(image, "murmur/sidecar:0.0.9");
        operator.stop().await?;
        world.delete::<Microservice>(&ns, "pinned").await?;
        world.restart_operator().await
    });
}

/// Where each sidecar of these services sends spans.
async fn endpoints(world: &World, ns: &str, names: &[&str]) -> anyhow::Result<Vec<Option<String>>> {
    let mut all = Vec::new();
    for name in names {
        let deployment = serde_json::to_value(world.api::<Deployment>(ns).get(name).await?)?;
        let env = &deployment["spec"]["template"]["spec"]["initContainers"][0]["env"];
        let mut env = env.as_array().into_iter().flatten();
        let found = env.find(|one| one["name"] == "OTEL_EXPORTER_OTLP_ENDPOINT");
        all.push(found.and_then(|one| Some(one["value"].as_str()?.to_owned())));
    }
    Ok(all)
}

#[test]
fn a_collector_that_is_new_goes_to_one_service_after_another_and_pod_overrides_win() {
    test_alone("tracing", |world| async move {
        alone(&world).await?;
        let ns = world.namespace("tracing").await?;
        let own = json!({"name": "OTEL_EXPORTER_OTLP_ENDPOINT", "value": "http://own:4318"});
        let sidecar = json!({"name": "murmur-sidecar", "env": [own]});
        let overrides = json!({"podOverrides": {"spec": {"initContainers": [sidecar]}}});
        for (name, spec) in [("a", json!({})), ("b", json!({})), ("own", overrides)] {
            world.microservice(&ns, name, spec).await?;
            world.condition(&ns, name, "BusReady", "True").await?;
            world.pods_become_ready(&ns, name).await?;
            world.condition(&ns, name, "Ready", "True").await?;
        }
        world.kill_operator().await?;
        let more = ["--sidecar-upgrades-at-once", "1", "--sidecar-otlp-endpoint", "http://collector:4318"];
        let operator = world.start_operator_with(&world.new_lease(), SIDECAR_IMAGE, &more).await?;
        // Each in its turn, in whatever order, and the last one's pods are told nothing new.
        let annotated = async || -> anyhow::Result<Vec<&str>> {
            let mut all = Vec::new();
            for name in ["a", "b", "own"] {
                let deployment = world.api::<Deployment>(&ns).get(name).await?;
                if deployment.annotations().contains_key("murmur.dev/sidecar-tracing") {
                    all.push(name);
                }
            }
            Ok(all)
        };
        let mut done = Vec::new();
        while done.len() < 3 {
            let now = wait("the next one is told", || async {
                Ok(Some(annotated().await?).filter(|told| told.len() > done.len()))
            })
            .await?;
            assert_eq!(now.len(), done.len() + 1, "one at a time");
            let next = now.iter().find(|name| !done.contains(*name)).copied().unwrap_or_default();
            if let Some(waiting) = ["a", "b", "own"].into_iter().find(|name| !now.contains(name)) {
                wait("the next one is said to wait", || async {
                    let (reason, _) = world.condition(&ns, waiting, "Progressing", "False").await?;
                    Ok((reason == "SidecarUpgradeWaits").then_some(()))
                })
                .await?;
                assert_eq!(annotated().await?, now, "the others wait for it");
            }
            world.pods_become_ready(&ns, next).await?;
            done = now;
        }
        let [collector, own] = ["http://collector:4318", "http://own:4318"].map(|it| Some(it.to_owned()));
        assert_eq!(endpoints(&world, &ns, &["a", "b", "own"]).await?, [collector.clone(), collector, own]);
        operator.stop().await?;
        for name in ["a", "b", "own"] {
            world.delete::<Microservice>(&ns, name).await?;
        }
        world.restart_operator().await
    });
}
