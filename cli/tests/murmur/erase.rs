//! Erasing a key.

use crate::world::World;

#[tokio::test]
async fn a_keys_events_and_dead_letters_go_and_a_tombstone_tells_of_it() {
    let world = World::new().await;
    world.event("users", "1", "ada").await;
    world.event("orders", "2", "ada").await;
    world.event("users", "3", "bob").await;
    world.letter("1", "ada", 1).await;
    world.letter("3", "bob", 3).await;
    let found = world.murmur(&["mesh", "erase", "--key", "ada", "--yes", "-o", "json"]).await.json();
    assert_eq!((&found["events"], &found["deadLetters"]), (&2.into(), &1.into()));
    assert_eq!(found["tombstones"], serde_json::json!(["orders", "users"]));

    let left = world.murmur(&["events", "tail", "--from", "1", "--no-follow", "-o", "json"]).await.ok();
    let left: Vec<serde_json::Value> = left.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(left.len(), 3, "{left:?}");
    assert_eq!(left[0]["event"]["id"], "3");
    let tombstone = &left[2]["event"];
    assert_eq!((&tombstone["type"], &tombstone["partitionkey"]), (&"murmur.erased".into(), &"ada".into()));
    assert_eq!(tombstone["data"], serde_json::json!({"key": "ada", "service": "users", "events": 1}));
    assert_eq!(world.stored("DEAD_LETTERS").await, 1);

    let again = world.murmur(&["mesh", "erase", "--key", "ada", "--yes"]).await.ok();
    assert_eq!(again, "there is nothing of ada in the event store\n");
}

#[tokio::test]
async fn only_the_events_of_the_named_service_go() {
    let world = World::new().await;
    world.event("users", "1", "ada").await;
    world.event("orders", "2", "ada").await;
    world.murmur(&["mesh", "erase", "--key", "ada", "--service", "orders", "--yes"]).await.ok();
    let ids: Vec<_> = world.messages("EVENTS").await.into_iter().map(|(_, id)| id).collect();
    assert_eq!(ids.len(), 2, "{ids:?}");
    assert_eq!(ids[0], "1");
}
