//! What becomes of events: each is applied once and in its order, or is a dead letter.

use murmur_mesh::stream::{DEAD_LETTERS, EVENTS};
use serde_json::json;

use super::{causes, fill, on_both, positions, projection, store, total, until_applied, world};
use crate::support::{Database, Engine, eventually};

on_both!(
    events_from_before_and_after_the_start_are_applied_once_and_in_their_order,
    an_event_that_cannot_be_applied_becomes_a_dead_letter_and_the_others_go_on,
    events_of_other_types_behind_the_last_one_set_nothing_back,
    a_statement_that_fails_on_the_third_event_costs_that_event_alone,
    a_redriven_dead_letter_is_applied_with_its_repaired_data_where_it_stands_now,
);

async fn events_from_before_and_after_the_start_are_applied_once_and_in_their_order(engine: Engine) {
    let database = Database::start(engine).await;
    let mut world = world(&database, projection(engine), false).await;
    fill(&world, 1..=700).await;
    world.run().await;
    until_applied(&database, 1..=700).await;
    fill(&world, 701..=720).await;
    until_applied(&database, 1..=720).await;
    world.until_done("model-0").await;
    world.stop().await;
    fill(&world, 721..=740).await;
    world.run().await;
    until_applied(&database, 1..=740).await;
    assert_eq!(total(&database).await, 740);
    assert_eq!(world.stored(DEAD_LETTERS).await, 0);
}

async fn an_event_that_cannot_be_applied_becomes_a_dead_letter_and_the_others_go_on(engine: Engine) {
    let database = Database::start(engine).await;
    let mut world = world(&database, projection(engine), false).await;
    fill(&world, 1..=2).await;
    store(&world, 3, "k0", r#"{"n": 2000000}"#).await;
    store(&world, 4, "k0", r#"{"other": 1}"#).await;
    store(&world, 5, "k0", r#"{"n": null}"#).await;
    fill(&world, 6..=50).await;
    world.run().await;
    let good = (1..=50).filter(|id| !(3..=5).contains(id));
    until_applied(&database, good.clone()).await;
    world.until_done("model-0").await;
    let causes = causes(&world).await;
    assert_eq!(causes.len(), 3, "{causes:?}");
    assert!(causes[0].to_lowercase().contains("check constraint"), "{causes:?}");
    assert!(causes[1].contains("data.n"), "{causes:?}");
    assert!(causes[2].to_lowercase().contains("null"), "{causes:?}");
    assert_eq!(total(&database).await, 47);
}

async fn events_of_other_types_behind_the_last_one_set_nothing_back(engine: Engine) {
    let database = Database::start(engine).await;
    let mut world = world(&database, projection(engine), false).await;
    let stream = world.js.get_stream(murmur_mesh::stream::EVENTS).await.unwrap();
    world.filter("model-0", &["events.*.*.T", "redrive.users.model.*"]).await;
    fill(&world, 1..=10).await;
    for id in 11..=15 {
        world.store_at("events.filler.1.Other".into(), &id.to_string(), "k", "{}").await.await.unwrap();
    }
    world.run().await;
    until_applied(&database, 1..=10).await;
    world.until_done("model-0").await;
    // The broker's mark may be behind those: the position follows it.
    let table = positions(engine);
    let position = format!("SELECT position FROM {table}");
    eventually("the position follows", async || {
        let mark = stream.consumer_info("model-0").await.unwrap().ack_floor.stream_sequence;
        database.own_texts(&position).await == [mark.to_string()]
    })
    .await;
    world.stop().await;
    world.run().await;
    fill(&world, 21..=22).await;
    until_applied(&database, (1..=10).chain(21..=22)).await;
    world.until_done("model-0").await;
    // One that was set back counts anew.
    let info = stream.consumer_info("model-0").await.unwrap();
    assert_eq!(info.delivered.consumer_sequence, 12);
}

async fn a_statement_that_fails_on_the_third_event_costs_that_event_alone(engine: Engine) {
    let database = Database::start(engine).await;
    let mut reading = projection(engine);
    // What only the database finds wrong, while the statement runs.
    let read = match engine {
        Engine::Sqlite => "length(json(:data.text))",
        Engine::Postgres => "length((:data.text::text::json)::text)",
    };
    let sql = format!("INSERT INTO applied (id) VALUES (:id); INSERT INTO sums VALUES (:id, {read})");
    reading["projection"]["on"][0]["sql"] = sql.into();
    let world = world(&database, reading, true).await;
    for id in 1..=5 {
        let text = if id == 3 { "{" } else { "{}" };
        store(&world, id, "k", &json!({"text": text}).to_string()).await;
    }
    until_applied(&database, [1, 2, 4, 5]).await;
    world.until_done("model-0").await;
    let causes = causes(&world).await;
    assert_eq!(causes.len(), 1, "{causes:?}");
    assert!(causes[0].contains("projection.statements[T].sql"), "{causes:?}");
    assert!(causes[0].to_lowercase().contains("json"), "{causes:?}");
    assert_eq!(database.texts("SELECT count(*) FROM sums WHERE total = 2").await, ["4"]);
}

async fn a_redriven_dead_letter_is_applied_with_its_repaired_data_where_it_stands_now(engine: Engine) {
    let database = Database::start(engine).await;
    let mut world = world(&database, projection(engine), false).await;
    world.filter("model-0", &["events.>", "redrive.users.model.*"]).await;
    fill(&world, 1..=2).await;
    store(&world, 3, "k0", r#"{"other": 1}"#).await;
    fill(&world, 4..=6).await;
    world.run().await;
    until_applied(&database, [1, 2, 4, 5, 6]).await;
    world.until_done("model-0").await;
    assert_eq!(world.stored(DEAD_LETTERS).await, 1);
    // Not repaired yet: it dies again, as a letter of its own.
    world.redrive(1, None).await;
    eventually("it is a dead letter again", async || world.stored(DEAD_LETTERS).await == 2).await;
    // Twice, as after a crash: it is stored once.
    for _ in 0..2 {
        world.redrive(2, Some(r#"{"n": 10}"#)).await;
    }
    until_applied(&database, [1, 2, 4, 5, 6, 3]).await;
    fill(&world, 7..=7).await;
    until_applied(&database, [1, 2, 4, 5, 6, 3, 7]).await;
    world.until_done("model-0").await;
    assert_eq!(total(&database).await, 16);
    let last = world.stored(EVENTS).await.to_string();
    let position = format!("SELECT position FROM {}", positions(engine));
    assert_eq!(database.own_texts(&position).await, [last]);
    // Nor does a new start apply it anew.
    world.stop().await;
    world.run().await;
    fill(&world, 8..=8).await;
    until_applied(&database, [1, 2, 4, 5, 6, 3, 7, 8]).await;
    let causes = causes(&world).await;
    assert!(causes.len() == 2 && causes.iter().all(|cause| cause.contains("data.n")), "{causes:?}");
}
