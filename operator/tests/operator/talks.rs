//! Services that ask and call each other: what each is told follows its neighbours.

use std::time::Duration;

use futures::StreamExt;
use murmur_crds::Microservice;
use murmur_mesh::config::SidecarConfig;
use serde_json::json;

use crate::bus::{as_service, on_bus, publish};
use crate::world::{World, test, wait};

/// Waits until a service is told something.
async fn told(
    world: &World,
    ns: &str,
    service: &str,
    what: &str,
    holds: impl Fn(&SidecarConfig) -> bool,
) -> anyhow::Result<SidecarConfig> {
    wait(what, || async { Ok(on_bus(world, ns, service).await?.filter(&holds)) }).await
}

#[test]
fn a_service_is_told_when_a_neighbour_comes_changes_or_goes() {
    test("neighbours", |world| async move {
        let ns = world.namespace("talks").await?;
        let spec = json!({"asks": [{"query": "Q"}], "calls": [{"name": "users", "timeout": "2s"}]});
        world.microservice(&ns, "history", spec).await?;
        let alone = told(&world, &ns, "history", "it is alone", |_| true).await?;
        assert!(alone.asks[0].services.is_empty() && alone.calls[0].port.is_none(), "{alone:?}");

        let answers = json!({"answers": [{"query": "Q", "path": "/q"}]});
        world.microservice(&ns, "users", answers.clone()).await?;
        world.microservice(&ns, "orders", answers.clone()).await?;
        let both = |config: &SidecarConfig| config.asks[0].services.len() == 2;
        let config = told(&world, &ns, "history", "both answer", both).await?;
        assert_eq!(config.asks[0].services, ["orders", "users"].map(|name| name.parse().unwrap()));
        assert_eq!(config.calls[0].port, Some(8080));

        let mut moved = answers;
        moved["port"] = json!(9090);
        world.microservice(&ns, "users", moved).await?;
        told(&world, &ns, "history", "the port", |config| config.calls[0].port == Some(9090)).await?;
        world.microservice(&ns, "orders", json!({})).await?;
        told(&world, &ns, "history", "orders answers no more", |config| config.asks[0].services.len() == 1)
            .await?;
        world.delete::<Microservice>(&ns, "users").await?;
        let gone =
            |config: &SidecarConfig| config.asks[0].services.is_empty() && config.calls[0].port.is_none();
        let last = told(&world, &ns, "history", "users is gone", gone).await?;

        // What is none of its business changes nothing.
        world.microservice(&ns, "orders", json!({"publishes": [{"type": "A"}], "port": 9090})).await?;
        told(&world, &ns, "orders", "orders has changed", |config| !config.publishes.is_empty()).await?;
        tokio::time::sleep(Duration::from_secs(1)).await;
        let now = told(&world, &ns, "history", "it is there", |_| true).await?;
        assert_eq!(now.generation, last.generation);
        Ok(())
    });
}

#[test]
fn a_query_reaches_who_answers_it_and_no_answer_can_forge_an_event() {
    test("queries", |world| async move {
        let ns = world.namespace("queries").await?;
        world.microservice(&ns, "history", json!({"asks": [{"query": "Q"}]})).await?;
        let spec = json!({"answers": [{"query": "Q", "path": "/q"}], "asks": [{"query": "Q"}]});
        world.microservice(&ns, "users", spec).await?;
        world.microservice(&ns, "products", json!({"publishes": [{"type": "ProductCreated"}]})).await?;
        for service in ["history", "users", "products"] {
            world.condition(&ns, service, "BusReady", "True").await?;
        }
        let answered = |config: &SidecarConfig| config.asks[0].services.len() == 1;
        told(&world, &ns, "history", "users answers", answered).await?;
        told(&world, &ns, "users", "it answers itself", answered).await?;

        let users = as_service(&world, &ns, "users").await?;
        let mut queries = users.queue_subscribe("query.users.Q", "users".to_owned()).await?;
        users.flush().await?;
        let history = as_service(&world, &ns, "history").await?;
        let mut answers = history.subscribe("answers.history.1").await?;
        history.publish_with_reply("query.users.Q", "answers.history.1", "ask".into()).await?;
        let query = tokio::time::timeout(Duration::from_secs(5), queries.next()).await?;
        let reply = query.and_then(|query| query.reply).ok_or_else(|| anyhow::anyhow!("no reply subject"))?;
        users.publish(reply, "answer".into()).await?;
        let answer = tokio::time::timeout(Duration::from_secs(5), answers.next()).await?;
        assert_eq!(answer.map(|answer| answer.payload), Some("answer".into()));

        // Others may neither hear nor ask.
        assert!(publish(&history, "query.products.Q").await.is_err());
        let products = as_service(&world, &ns, "products").await?;
        assert!(publish(&products, "query.users.Q").await.is_err());
        let mut tap = products.subscribe("query.users.Q").await?;
        let mut without_group = users.subscribe("query.users.Q").await?;
        // A message to itself whose reply subject is another's event gives no right to that event.
        for carrier in ["query.users.Q", "report.users.users-1"] {
            let mut heard = users.subscribe("report.users.*").await?;
            users.publish_with_reply(carrier, "events.products.0.ProductCreated", "x".into()).await?;
            let next = async {
                tokio::select! { one = heard.next() => one, one = queries.next() => one }
            };
            tokio::time::timeout(Duration::from_secs(5), next).await?;
            assert!(publish(&users, "events.products.0.ProductCreated").await.is_err());
            users.publish("events.products.0.ProductCreated", "forged".into()).await?;
        }
        users.flush().await?;
        let stream = world.jetstream(&ns, "STREAM.INFO.EVENTS", &serde_json::Value::Null).await?;
        assert_eq!(stream["state"]["messages"], 0, "{stream}");
        for tap in [&mut tap, &mut without_group] {
            let heard = tokio::time::timeout(Duration::from_millis(200), tap.next()).await;
            assert!(!matches!(heard, Ok(Some(_))), "{heard:?}");
        }
        Ok(())
    });
}

#[test]
fn a_schema_that_does_not_compile_is_a_condition() {
    test("schema", |world| async move {
        let ns = world.namespace("schema").await?;
        let spec = |kind: &str| json!({"publishes": [{"type": "A", "schema": {"type": kind}}]});
        world.microservice(&ns, "users", spec("text")).await?;
        let (reason, message) = world.condition(&ns, "users", "Ready", "False").await?;
        assert_eq!(reason, "InvalidSchema");
        assert!(message.contains("spec.publishes[A].schema"), "{message}");
        world.microservice(&ns, "users", spec("object")).await?;
        let config =
            told(&world, &ns, "users", "the schema is told", |config| !config.schemas.is_empty()).await?;
        assert_eq!(config.schemas[&"A".parse()?], json!({"type": "object"}));
        Ok(())
    });
}
