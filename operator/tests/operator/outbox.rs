//! What becomes of a service's outbox on the bus and in its status.

use anyhow::Context;
use murmur_crds::Microservice;
use murmur_mesh::report::{OutboxReport, Report};
use serde_json::{Value, json};

use crate::bus::{as_service, on_bus};
use crate::world::{World, test, wait};

const DURABLE: &str = "CONSUMER.INFO.EVENTS.outbox_orders";

fn with_outbox(outbox: bool) -> Value {
    let mut database = json!({"engine": "SQLite", "storage": {"size": "1Gi"}});
    if outbox {
        database["outbox"] = json!({});
    }
    json!({"publishes": [{"type": "OrderPlaced"}], "database": database})
}

async fn durable(world: &World, ns: &str) -> anyhow::Result<Option<Value>> {
    let info = world.jetstream(ns, DURABLE, &Value::Null).await?;
    Ok(info.get("error").is_none().then_some(info))
}

#[test]
fn a_service_with_an_outbox_has_a_durable_to_read_back_from_for_as_long_as_it_has_the_outbox() {
    test("outbox", |world| async move {
        let ns = world.namespace("outbox").await?;
        world.microservice(&ns, "orders", with_outbox(true)).await?;
        world.condition(&ns, "orders", "BusReady", "True").await?;
        let made = wait("it is made", || durable(&world, &ns)).await?;
        assert_eq!(made["config"]["ack_policy"], "none");
        assert_eq!(made["config"]["headers_only"], true);
        assert!(on_bus(&world, &ns, "orders").await?.context("no configuration")?.outbox);

        // Its service sets it to a place and pulls; another service cannot.
        let orders = as_service(&world, &ns, "orders").await?;
        let reset =
            orders.request("$JS.API.CONSUMER.RESET.EVENTS.outbox_orders", "{\"seq\":1}".into()).await?;
        let reset: Value = serde_json::from_slice(&reset.payload)?;
        assert!(reset.get("error").is_none() && reset["num_pending"] == 0, "{reset}");
        world.microservice(&ns, "users", json!({})).await?;
        world.condition(&ns, "users", "BusReady", "True").await?;
        let users = as_service(&world, &ns, "users").await?;
        let refused = users.request("$JS.API.CONSUMER.RESET.EVENTS.outbox_orders", "{\"seq\":1}".into());
        let refused = tokio::time::timeout(std::time::Duration::from_secs(1), refused).await;
        assert!(refused.is_err() || refused.is_ok_and(|answer| answer.is_err()), "another's outbox");

        // Deleted by hand it comes back.
        world.jetstream(&ns, "CONSUMER.DELETE.EVENTS.outbox_orders", &Value::Null).await?;
        wait("it is made anew", || durable(&world, &ns)).await?;

        world.microservice(&ns, "orders", with_outbox(false)).await?;
        let gone = || async { Ok(durable(&world, &ns).await?.is_none().then_some(())) };
        wait("it has gone with the outbox", gone).await?;
        world.microservice(&ns, "orders", with_outbox(true)).await?;
        wait("it is made again", || durable(&world, &ns)).await?;
        world.delete::<Microservice>(&ns, "orders").await?;
        wait("it has gone with the service", gone).await?;
        Ok(())
    });
}

#[test]
fn what_the_relaying_sidecar_reports_becomes_the_condition_outbox_ready() {
    test("outbox condition", |world| async move {
        let ns = world.namespace("outboxes").await?;
        world.microservice(&ns, "orders", with_outbox(true)).await?;
        world.condition(&ns, "orders", "OutboxReady", "Unknown").await?;
        let orders = as_service(&world, &ns, "orders").await?;
        let report = |outbox: OutboxReport| {
            let report = Report {
                pod: "orders-1".to_owned(),
                version: "0.1.0".to_owned(),
                generation: 1,
                subscriptions: vec![],
                leaving: false,
                released: Vec::new(),
                outbox: Some(outbox),
            };
            Ok::<_, anyhow::Error>(serde_json::to_vec(&report)?)
        };
        orders.publish("report.orders.orders-1", report(OutboxReport::default())?.into()).await?;
        world.condition(&ns, "orders", "OutboxReady", "True").await?;
        let cause = "the service does not publish OrderPayed".to_owned();
        let refused = OutboxReport { held: None, refused: 2, cause: Some(cause.clone()) };
        orders.publish("report.orders.orders-1", report(refused)?.into()).await?;
        let (reason, message) = world.condition(&ns, "orders", "OutboxReady", "False").await?;
        assert_eq!(reason, "RowsRefused");
        assert!(message.contains(&cause), "{message}");
        Ok(())
    });
}
