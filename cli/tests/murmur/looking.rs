//! Verbs that change nothing, and how the program is called.

use crate::meanwhile::murmur_meanwhile;
use crate::world::{Said, World};

#[tokio::test]
async fn what_is_stored_is_shown_to_people_and_to_programs() {
    let world = World::new().await;
    world.event("users", "1", "ada").await;
    world.event("orders", "2", "bob").await;
    world.event("users", "3", "ada").await;
    world.letter("1", "ada", 1).await;

    let tail = async |more: &[&str]| {
        let arguments = [&["events", "tail", "--from", "1", "--no-follow"], more].concat();
        world.murmur(&arguments).await.ok().lines().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(tail(&[]).await.len(), 3);
    let of_ada = tail(&["--key", "ada", "-o", "json"]).await;
    assert_eq!(of_ada.len(), 2);
    let last: serde_json::Value = serde_json::from_str(&of_ada[1]).unwrap();
    assert_eq!((&last["sequence"], &last["event"]["data"]["id"]), (&3.into(), &"3".into()));
    assert_eq!(tail(&["--service", "orders"]).await.len(), 1);
    assert_eq!(tail(&["--type", "Other"]).await.len(), 0);
    assert_eq!(world.murmur(&["events", "show", "2", "-o", "json"]).await.json()["event"]["id"], "2");

    let list = world.murmur(&["deadletters", "list"]).await.ok();
    assert!(list.contains("the service answered 400: no"), "{list}");
    let list = world.murmur(&["deadletters", "list", "-s", "s", "-o", "json"]).await.json();
    assert_eq!(list["deadLetters"][0]["event"]["id"], "1");
    assert_eq!(list["deadLetters"][0]["subscription"], "s");
    let none = world.murmur(&["deadletters", "list", "-s", "other"]).await.ok();
    assert_eq!(none, "other has no dead letters\n");
    assert!(world.murmur(&["deadletters", "show", "1"]).await.ok().contains("rejected"));

    let status = world.murmur(&["status", "-o", "json"]).await.json();
    assert_eq!(status["eventStore"]["events"], 3);
    assert_eq!(status["subscriptions"]["s"]["deadLetters"], 1);
    assert!(world.murmur(&["status"]).await.ok().contains("event store: 3 events"));
}

#[tokio::test]
async fn the_status_of_a_mesh_without_an_event_store_says_that_it_is_not_there_yet() {
    let world = World::without_streams().await;
    let said = world.murmur(&["status"]).await.ok();
    assert!(said.contains("event store: not there yet"), "{said}");
    let said = world.murmur(&["status", "-o", "json"]).await.json();
    assert_eq!(said["eventStore"], serde_json::Value::Null);
}

#[tokio::test]
async fn a_tail_that_does_not_follow_ends_while_services_publish() {
    let world = World::new().await;
    for id in ["1", "2", "3"] {
        world.event("users", id, "ada").await;
    }
    let mut later = 0;
    let publish = async || {
        // Bounded, so that a tail that follows fails instead of hanging.
        if later < 20 {
            later += 1;
            world.event("users", &format!("later-{later}"), "ada").await;
        }
    };
    let tail = ["events", "tail", "--from", "1", "--no-follow"];
    let said = murmur_meanwhile(&world, &tail, "$JS.API.STREAM.MSG.GET.EVENTS", publish).await.ok();
    assert_eq!(said.lines().count(), 3, "{said}");
}

#[tokio::test]
async fn a_tail_shows_what_comes() {
    let world = World::new().await;
    world.event("users", "old", "ada").await;
    let tail = world
        .command(&["events", "tail", "--limit", "1"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let publishing = async {
        loop {
            world.event("users", "new", "ada").await;
            tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        }
    };
    tokio::select! {
        output = tail.wait_with_output() => {
            let said = String::from_utf8(output.unwrap().stdout).unwrap();
            assert!(said.contains(r#"{"id":"new"}"#), "{said}");
        }
        () = publishing => {}
    }
}

#[tokio::test]
async fn mistakes_end_with_64_and_say_what_to_do() {
    let world = World::new().await;
    let letter = world.letter("1", "ada", 1).await.to_string();
    for (arguments, said) in [
        (vec!["deadletters", "redrive"], "required"),
        (vec!["deadletters", "redrive", "--all", "-s", "s"], "cannot be used with"),
        (vec!["deadletters", "redrive", "77"], "there is no dead letter 77"),
        (vec!["deadletters", "drop", &letter], "add --yes"),
        (vec!["mesh", "erase", "--key", "ada"], "add --yes"),
        (vec!["events", "tail", "--service", "Not A Name"], "is not valid"),
        (vec!["status", "--credentials", "/nowhere"], "user.creds cannot be read"),
    ] {
        let found = world.murmur(&arguments).await;
        assert_eq!(found.code, 64, "{arguments:?} {found:?}");
        assert!(found.err.contains(said), "{found:?}");
    }
    assert_eq!(world.stored("DEAD_LETTERS").await, 1);
    for namespace in [None, Some("")] {
        let mut command = world.command(&["mesh", "backup", "--to", "/tmp", "--credentials", "/nowhere"]);
        match namespace {
            Some(namespace) => command.env("MURMUR_NAMESPACE", namespace),
            None => command.env_remove("MURMUR_NAMESPACE"),
        };
        let found = Said::from(command.output().await.unwrap());
        assert_eq!(found.code, 64, "{found:?}");
        assert!(found.err.contains("--credentials does not name the mesh: give -n"), "{found:?}");
    }
    let found = world.murmur(&["status", "-n", "nowhere"]).await;
    assert_eq!(found.code, 1);
    assert!(found.err.contains("there is no Secret murmur-viewer in namespace nowhere"), "{found:?}");
}
