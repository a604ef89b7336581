//! How full an event store is.

use k8s_openapi::api::events::v1::Event;
use kube::api::{Api, ListParams, PostParams};
use murmur_crds::Mesh;
use serde_json::json;

use crate::world::{test, wait};

#[test]
fn an_event_store_that_fills_up_says_so_in_figures_a_condition_and_an_event() {
    test("room", |world| async move {
        let ns = world.namespace("room").await?;
        world.microservice(&ns, "users", json!({})).await?;
        let mesh = json!({"apiVersion": "murmur.dev/v1alpha1", "kind": "Mesh", "metadata": {"name": "default"},
            "spec": {"eventStore": {"maxBytes": "1Mi"}}});
        let meshes: Api<Mesh> = world.api(&ns);
        meshes.create(&PostParams::default(), &serde_json::from_value(mesh)?).await?;
        let (reason, _) = world.condition_of::<Mesh>(&ns, "default", "HasRoom", "True").await?;
        assert_eq!(reason, "Room");
        let administrator = world.administrator(&ns).await?;
        for _ in 0..9 {
            administrator.request("events.users.0.T", vec![0; 100_000].into()).await?;
        }
        let (reason, message) = world.condition_of::<Mesh>(&ns, "default", "HasRoom", "False").await?;
        assert_eq!(reason, "EventStoreNearlyFull", "{message}");
        let events: Api<Event> = world.api(&ns);
        wait("an event on the namespace says so", || async {
            let events = events.list(&ListParams::default()).await?;
            let told = events.iter().any(|event| {
                let about = event.regarding.as_ref().and_then(|about| about.kind.as_deref());
                about == Some("Namespace") && event.reason.as_deref() == Some("EventStoreNearlyFull")
            });
            Ok(told.then_some(()))
        })
        .await?;
        let metrics = world.metrics().await?;
        for (name, value) in [("events", "9"), ("last_sequence", "9"), ("max_bytes", "1048576")] {
            let line = format!("murmur_operator_event_store_{name}{{mesh=\"{ns}\"}} {value}\n");
            assert!(metrics.contains(&line), "{line} is not in\n{metrics}");
        }
        assert!(metrics.contains("event_store_used_ratio"), "{metrics}");
        Ok(())
    });
}
