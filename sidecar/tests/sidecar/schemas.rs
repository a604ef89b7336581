//! Data is checked against the schema of its type before anything is stored.

use murmur_mesh::stream::EVENTS;
use serde_json::{Value, json};

use crate::support::{Setup, World, post};

const JSON: (&str, &str) = ("content-type", "application/json");

fn schema() -> Value {
    json!({
        "type": "object",
        "required": ["id"],
        "properties": {"id": {"type": "integer"}, "price": {"$ref": "#/$defs/price"}},
        "$defs": {"price": {"type": "number", "minimum": 0}},
    })
}

async fn world(schemas: Value) -> World {
    let mut world = World::start(Setup { sidecar: false, ..Setup::default() }).await;
    world.with_file(|config| config["schemas"] = schemas);
    world.run().await;
    world
}

async fn refused(world: &World, header: (&str, &str), body: &str, status: u16, code: &str) -> String {
    let answer = post(world.local, "/v1/events/T", &[header], body.to_owned()).await;
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (status, code), "{answer:?}");
    answer.json()["detail"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn data_that_breaks_the_schema_of_its_type_is_refused_and_the_place_is_named() {
    let world = world(json!({"T": schema()})).await;
    let detail = refused(&world, JSON, r#"{"id": 1, "price": -1}"#, 422, "schemaViolated").await;
    assert!(detail.contains("/price"), "{detail}");
    refused(&world, JSON, "{}", 422, "schemaViolated").await;
    assert_eq!(world.stored(EVENTS).await, 0);
    let answer = post(world.local, "/v1/events/T", &[JSON], r#"{"id": 1, "price": 1.5}"#).await;
    assert_eq!(answer.status, 200, "{answer:?}");
}

#[tokio::test]
async fn data_that_is_no_json_is_refused_where_the_type_has_a_schema_and_only_there() {
    let world = world(json!({"T": schema()})).await;
    for (content_type, body) in
        [("text/plain", "{\"id\":1}"), ("application/json", "{"), ("application/json", "")]
    {
        refused(&world, ("content-type", content_type), body, 422, "schemaViolated").await;
    }
    let other = "/v1/events/com.example.gr%C3%B6%C3%9Fe";
    assert_eq!(post(world.local, other, &[("content-type", "text/plain")], "hi").await.status, 200);
}

#[tokio::test]
async fn a_schema_that_is_none_lets_nothing_of_its_type_pass_and_says_why() {
    let world = world(json!({"T": {"type": "text"}})).await;
    let detail = refused(&world, JSON, "{}", 500, "schemaInvalid").await;
    assert!(detail.contains("spec.publishes"), "{detail}");
    let other = "/v1/events/com.example.gr%C3%B6%C3%9Fe";
    assert_eq!(post(world.local, other, &[JSON], "{}").await.status, 200);
}

#[tokio::test]
async fn a_schema_that_changes_holds_from_then_on_without_a_restart() {
    let mut world = world(json!({})).await;
    world.publish("free", "k").await;
    world.configure(|config| config["schemas"] = json!({"T": schema()})).await;
    world.until_configured().await;
    refused(&world, JSON, "{}", 422, "schemaViolated").await;
    world.configure(|config| config["schemas"] = json!({})).await;
    world.until_configured().await;
    world.publish("free again", "k").await;
}

#[tokio::test]
async fn a_batch_with_data_that_breaks_a_schema_stores_nothing() {
    let world = world(json!({"T": schema()})).await;
    let batch = json!([{"type": "T", "data": {"id": 1}}, {"type": "T", "data": {"id": "one"}}]);
    let headers = [("content-type", "application/cloudevents-batch+json")];
    let answer = post(world.local, "/v1/events", &headers, batch.to_string()).await;
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (422, "schemaViolated"));
    let json = answer.json();
    let detail = json["detail"].as_str().unwrap();
    assert!(detail.starts_with("event 1 of the batch") && detail.contains("/id"), "{detail}");
    assert_eq!(world.stored(EVENTS).await, 0);
}
