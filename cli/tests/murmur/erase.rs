//! Erasing a key.

use crate::meanwhile::murmur_meanwhile;
use crate::sidecar::Reader;
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

#[tokio::test]
async fn a_read_model_behind_a_sidecar_follows_and_a_new_one_never_sees_what_was_erased() {
    let world = World::new().await;
    for (id, key) in [("1", "ada"), ("2", "bob"), ("3", "ada")] {
        world.event("users", id, key).await;
    }
    let model = Reader::start(&world, "model").await;
    model.holds(&[("ada", &["1", "3"]), ("bob", &["2"])]).await;
    world.murmur(&["mesh", "erase", "--key", "ada", "--yes"]).await.ok();
    model.holds(&[("bob", &["2"])]).await;
    // Of that key as of any other: what comes later is new.
    world.event("users", "4", "ada").await;
    world.event("users", "5", "bob").await;
    let left: &[(&str, &[&str])] = &[("ada", &["4"]), ("bob", &["2", "5"])];
    model.holds(left).await;
    let new = Reader::start(&world, "new").await;
    new.holds(left).await;
}

#[tokio::test]
async fn what_a_sidecar_gives_up_while_its_event_is_erased_is_erased_too() {
    let world = World::new().await;
    let sequence = world.event("orders", "1", "ada").await;
    let give_up = async || {
        world.letter("1", "ada", sequence).await;
    };
    let erase = ["mesh", "erase", "--key", "ada", "--yes"];
    let said = murmur_meanwhile(&world, &erase, "$JS.API.STREAM.MSG.DELETE.EVENTS", give_up).await.ok();
    assert!(said.starts_with("erased 1 events and 1 dead letters of ada; 2 murmur.erased events"), "{said}");
    assert!(said.contains("may still become a dead letter: erase again"), "{said}");
    assert_eq!(world.stored("DEAD_LETTERS").await, 0);
    // Its publisher was another, whose events are gone: those who subscribe to it are told as well.
    let subjects: Vec<_> = world.messages("EVENTS").await.into_iter().map(|(subject, _)| subject).collect();
    assert!(
        subjects[0].starts_with("events.orders.") && subjects[1].starts_with("events.users."),
        "{subjects:?}"
    );
}
