//! Redriving and dropping.

use async_nats::jetstream::consumer::{AckPolicy, pull};
use futures::StreamExt;

use crate::meanwhile::murmur_meanwhile;
use crate::world::World;

#[tokio::test]
async fn redriven_letters_go_to_their_subscription_in_the_order_of_the_event_store() {
    let world = World::new().await;
    // They died in another order than they were stored in.
    world.letter("third", "ada", 30).await;
    world.letter("first", "ada", 10).await;
    world.letter("second", "ada", 20).await;
    let found = world.murmur(&["deadletters", "redrive", "-s", "s", "-o", "json"]).await.json();
    assert_eq!(found["redriven"], 3);
    let messages = world.messages("EVENTS").await;
    let ids: Vec<_> = messages.iter().map(|(_, id)| id.as_str()).collect();
    assert_eq!(ids, ["first", "second", "third"]);
    assert!(messages.iter().all(|(subject, _)| subject.starts_with("redrive.tested.s.")), "{messages:?}");
    assert_eq!(world.stored("DEAD_LETTERS").await, 0);
}

#[tokio::test]
async fn a_redrive_that_died_before_the_letter_was_deleted_stores_nothing_twice() {
    // Letters that came after that run, of a later event and of an earlier one.
    for (sequence, other) in [(10, 20), (20, 10)] {
        let world = World::new().await;
        let letter = world.letter("1", "ada", sequence).await;
        // What the dead run had stored, long ago: the broker has forgotten its message id.
        let mut headers = vec![("ce-id".to_owned(), "1".to_owned())];
        let id = format!("redrive dead.tested.s.0.{sequence} {letter}");
        headers.push(("Nats-Msg-Id".to_owned(), id));
        let partition = murmur_mesh::partition::Partition::of("ada").number();
        let mut stream = world.js.get_stream("EVENTS").await.unwrap();
        let mut config = stream.info().await.unwrap().config.clone();
        config.duplicate_window = std::time::Duration::from_millis(100);
        world.js.update_stream(config).await.unwrap();
        world.store(&format!("redrive.tested.s.{partition}"), &headers, "{}").await;
        tokio::time::sleep(std::time::Duration::from_millis(400)).await;

        world.letter("2", "ada", other).await;
        world.murmur(&["deadletters", "redrive", "--all"]).await.ok();
        let ids: Vec<_> = world.messages("EVENTS").await.into_iter().map(|(_, id)| id).collect();
        assert_eq!(ids, ["1", "2"], "the other letter is of sequence {other}");
        assert_eq!(world.stored("DEAD_LETTERS").await, 0);
    }
}

#[tokio::test]
async fn a_run_that_was_cut_off_is_repeated_with_the_same_letters() {
    let world = World::new().await;
    for (id, sequence) in [("1", 10), ("2", 20), ("3", 30), ("4", 40)] {
        world.letter(id, "ada", sequence).await;
    }
    world.murmur(&["deadletters", "redrive", "1"]).await.ok();
    let again = world.murmur(&["deadletters", "redrive", "1", "2", "-o", "json"]).await;
    assert!(again.err.contains("there is no dead letter 1 "), "{again:?}");
    assert_eq!(again.json()["redriven"], 1);
    let dropped = world.murmur(&["deadletters", "drop", "1", "2", "3", "--yes", "-o", "json"]).await;
    assert!(dropped.err.contains("there is no dead letter 1, 2 "), "{dropped:?}");
    assert_eq!(dropped.json()["dropped"], 1);
    assert_eq!((world.stored("EVENTS").await, world.stored("DEAD_LETTERS").await), (2, 1));

    for verb in [["redrive", "1", "2"].as_slice(), &["drop", "1", "2", "--yes"]] {
        let none = world.murmur(&[&["deadletters"], verb].concat()).await;
        assert_eq!(none.code, 64, "{none:?}");
        assert!(none.err.contains("there is no dead letter 1, 2; "), "{none:?}");
    }
}

#[tokio::test]
async fn all_letters_are_those_that_were_there_at_the_start() {
    let world = World::new().await;
    world.letter("1", "ada", 1).await;
    world.letter("2", "ada", 2).await;
    let mut later = 0;
    let give_up = async || {
        // Bounded, so that a run that goes on for ever fails instead of hanging.
        if later < 20 {
            later += 1;
            world.letter("later", "ada", 2 + later).await;
        }
    };
    let drop = ["deadletters", "drop", "--all", "--yes", "-o", "json"];
    let said = murmur_meanwhile(&world, &drop, "$JS.API.STREAM.MSG.GET.DEAD_LETTERS", give_up).await;
    assert_eq!(said.json()["dropped"], 2);
    assert_eq!(world.stored("DEAD_LETTERS").await, later);
}

#[tokio::test]
async fn a_letter_is_kept_while_its_redrive_cannot_be_stored() {
    let world = World::new().await;
    let letter = world.letter("1", "ada", 10).await.to_string();
    let mut stream = world.js.get_stream("EVENTS").await.unwrap();
    let mut config = stream.info().await.unwrap().config.clone();
    config.max_bytes = 10;
    world.js.update_stream(config).await.unwrap();
    let found = world.murmur(&["deadletters", "redrive", &letter]).await;
    assert_eq!(found.code, 1);
    assert!(found.err.contains("maximum bytes exceeded"), "{found:?}");
    assert_eq!(world.stored("DEAD_LETTERS").await, 1);
}

#[tokio::test]
async fn what_holds_no_event_is_left_and_named_and_the_rest_goes() {
    let world = World::new().await;
    world.store("dead.tested.s.0.1", &[], "garbage").await;
    world.letter("1", "ada", 10).await;
    let found = world.murmur(&["deadletters", "redrive", "--all"]).await;
    assert_eq!(found.code, 1);
    assert!(found.err.contains("1 dead letters were left, such as letter 1"), "{found:?}");
    assert_eq!((world.stored("EVENTS").await, world.stored("DEAD_LETTERS").await), (1, 1));
    world.murmur(&["deadletters", "drop", "1", "--yes"]).await.ok();
    assert_eq!(world.stored("DEAD_LETTERS").await, 0);
}

#[tokio::test]
async fn a_redrive_removes_copies_of_earlier_ones_that_were_acknowledged_and_no_others() {
    let world = World::new().await;
    let redrive = async |id: &str, sequence: u64| {
        world.letter(id, "ada", sequence).await;
        world.murmur(&["deadletters", "redrive", "--all"]).await.ok();
    };
    let left =
        async || -> Vec<String> { world.messages("EVENTS").await.into_iter().map(|(_, id)| id).collect() };
    for (sequence, id) in (1..).zip(["1", "2", "3", "4"]) {
        redrive(id, sequence).await;
    }
    assert_eq!(left().await, ["1", "2", "3", "4"], "nobody was given them");
    let config = pull::Config {
        durable_name: Some("s-0".to_owned()),
        ack_policy: AckPolicy::Explicit,
        filter_subject: "redrive.tested.s.*".to_owned(),
        ..pull::Config::default()
    };
    let durable = world.js.create_consumer_on_stream(config, "EVENTS").await.unwrap();
    let mut given = durable.fetch().max_messages(4).messages().await.unwrap();
    // The first two, and the last: the third is still out.
    for acknowledged in [true, true, false, true] {
        let message = given.next().await.unwrap().unwrap();
        if acknowledged {
            message.double_ack().await.unwrap();
        }
    }
    redrive("5", 5).await;
    assert_eq!(left().await, ["3", "4", "5"]);
}
