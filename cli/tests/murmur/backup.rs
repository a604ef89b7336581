//! Backups and what comes of them.

use std::path::Path;
use std::time::{Duration, SystemTime};

use async_nats::jetstream::consumer::{AckPolicy, pull};
use futures::StreamExt;
use murmur_mesh::restoring;
use murmur_test_support::mesh;
use serde_json::Value;

use crate::world::World;

async fn backup(world: &World, to: &Path) -> String {
    let to = to.to_str().unwrap();
    let made = world.murmur(&["mesh", "backup", "--to", to, "-o", "json"]).await.json();
    made["backup"].as_str().unwrap().to_owned()
}

/// Takes so many of a durable's next events and acknowledges them; their sequences.
async fn take(world: &World, number: usize) -> Vec<u64> {
    let stream = world.js.get_stream("EVENTS").await.unwrap();
    let config = pull::Config {
        durable_name: Some("d-0".into()),
        ack_policy: AckPolicy::Explicit,
        ..Default::default()
    };
    let durable = stream.get_or_create_consumer("d-0", config).await.unwrap();
    let mut messages = durable.fetch().max_messages(number).messages().await.unwrap();
    let mut sequences = Vec::new();
    while let Some(message) = messages.next().await {
        let message = message.unwrap();
        message.double_ack().await.unwrap();
        sequences.push(message.info().unwrap().stream_sequence);
    }
    sequences
}

#[tokio::test]
async fn a_restored_mesh_has_its_events_dead_letters_and_positions_of_the_backup() {
    let world = World::new().await;
    for id in 1..=20 {
        world.event("users", &id.to_string(), "ada").await;
    }
    world.letter("1", "ada", 1).await;
    assert_eq!(take(&world, 8).await.len(), 8);
    let folder = tempfile::tempdir().unwrap();
    let backup = backup(&world, folder.path()).await;
    // What comes after the backup is gone after the restore.
    world.event("users", "later", "ada").await;
    world.letter("later", "ada", 21).await;
    take(&world, 13).await;

    let refused = world.murmur(&["mesh", "restore", "--from", &backup]).await;
    assert_eq!(refused.code, 64);
    assert!(refused.err.contains("EVENTS holds 21 messages"), "{refused:?}");
    assert_eq!(world.stored("EVENTS").await, 21);
    world.murmur(&["mesh", "restore", "--from", &backup, "--replace"]).await.ok();

    let ids: Vec<String> = world.messages("EVENTS").await.into_iter().map(|(_, id)| id).collect();
    assert_eq!(ids, (1..=20).map(|id| id.to_string()).collect::<Vec<_>>());
    assert_eq!(world.stored("DEAD_LETTERS").await, 1);
    // The operator knows it by its mark from an empty one.
    let mut restored = world.js.get_stream("EVENTS").await.unwrap();
    assert!(restored.info().await.unwrap().config.metadata.contains_key(restoring::RESTORED));
    assert_eq!(take(&world, 12).await, (9..=20).collect::<Vec<_>>());
    assert_eq!(world.event("users", "new", "ada").await, 21);
    assert_eq!(take(&world, 1).await, [21]);
}

#[tokio::test]
async fn an_event_that_comes_while_the_operator_makes_way_is_not_lost() {
    let world = World::new().await;
    let folder = tempfile::tempdir().unwrap();
    let backup = backup(&world, folder.path()).await;
    let client = world.js.client();
    let mut words = mesh::subscribe(&client, "mesh.restoring").await.unwrap();
    let operator = async {
        let word = words.next().await.unwrap();
        world.event("users", "new", "ada").await;
        client.publish(word.reply.unwrap(), "".into()).await.unwrap();
        while words.next().await.unwrap().payload != "done" {}
    };
    let restore = ["mesh", "restore", "--from", &backup];
    let operator = tokio::time::timeout(Duration::from_secs(60), operator);
    let (refused, word_taken_back) = tokio::join!(world.murmur(&restore), operator);
    assert_eq!(refused.code, 64, "{refused:?}");
    assert!(refused.err.contains("EVENTS holds 1 messages"), "{refused:?}");
    assert!(word_taken_back.is_ok());
    assert_eq!(world.stored("EVENTS").await, 1);
}

#[tokio::test]
async fn a_lost_event_store_is_restored_where_nothing_is() {
    let world = World::new().await;
    world.event("users", "1", "ada").await;
    let folder = tempfile::tempdir().unwrap();
    let backup = backup(&world, folder.path()).await;
    for stream in ["EVENTS", "DEAD_LETTERS"] {
        world.js.delete_stream(stream).await.unwrap();
    }
    world.murmur(&["mesh", "restore", "--from", &backup]).await.ok();
    assert_eq!(world.stored("EVENTS").await, 1);
}

#[tokio::test]
async fn a_large_store_that_is_written_to_is_saved_whole() {
    let world = World::new().await;
    let body = "x".repeat(20_000);
    for id in 0..400 {
        world.store(&format!("events.users.{}.T", id % 64), &[], &body).await;
    }
    let folder = tempfile::tempdir().unwrap();
    let publishing = async {
        loop {
            world.store("events.users.1.T", &[], &body).await;
        }
    };
    let backup = tokio::select! {
        backup = backup(&world, folder.path()) => backup,
        () = publishing => unreachable!(),
    };
    world.murmur(&["mesh", "restore", "--from", &backup, "--replace"]).await.ok();
    assert!(world.stored("EVENTS").await >= 400);
}

#[tokio::test]
async fn a_damaged_backup_is_refused_and_nothing_is_lost() {
    let world = World::new().await;
    world.event("users", "1", "ada").await;
    let folder = tempfile::tempdir().unwrap();
    let backup = backup(&world, folder.path()).await;
    let file = Path::new(&backup).join("EVENTS.snapshot");
    let mut bytes = std::fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    let said = world.murmur(&["mesh", "restore", "--from", &backup, "--replace"]).await;
    assert_eq!(said.code, 1);
    assert!(said.err.contains("EVENTS.snapshot is damaged"), "{said:?}");
    assert_eq!(world.stored("EVENTS").await, 1);
    let nowhere = world.murmur(&["mesh", "restore", "--from", "/nowhere"]).await;
    assert_eq!(nowhere.code, 64, "{nowhere:?}");
}

#[tokio::test]
async fn only_the_newest_backups_of_the_mesh_are_kept() {
    let world = World::new().await;
    let folder = tempfile::tempdir().unwrap();
    let others = folder.path().join(format!("{}-x-20200101T000000Z", world.namespace));
    let old = folder.path().join(format!("{}-20200101T000000Z", world.namespace));
    for made in [&others, &old] {
        std::fs::create_dir(made).unwrap();
        std::fs::write(made.join("manifest.json"), "{}").unwrap();
    }
    let to = folder.path().to_str().unwrap();
    let said: Value = world.murmur(&["mesh", "backup", "--to", to, "--keep", "1", "-o", "json"]).await.json();
    assert_eq!(said["removed"][0], old.to_str().unwrap());
    assert!(others.exists() && !old.exists() && Path::new(said["backup"].as_str().unwrap()).exists());
    let said = world.murmur(&["mesh", "backup", "--to", "/nowhere"]).await;
    assert_eq!(said.code, 64, "{said:?}");
}

#[tokio::test]
async fn what_an_interrupted_backup_left_goes_and_nothing_else() {
    let world = World::new().await;
    let folder = tempfile::tempdir().unwrap();
    let an_hour_ago = SystemTime::now() - Duration::from_secs(3600);
    let make = |name: &str, file_is_old: bool| {
        let path = folder.path().join(name);
        let file = path.join("EVENTS.snapshot");
        std::fs::create_dir(&path).unwrap();
        std::fs::write(&file, "x").unwrap();
        if file_is_old {
            std::fs::File::open(&file).unwrap().set_modified(an_hour_ago).unwrap();
        }
        std::fs::File::open(&path).unwrap().set_modified(an_hour_ago).unwrap();
        path
    };
    let mesh = &world.namespace;
    let left = make(&format!(".{mesh}-20200101T000000Z.partial"), true);
    let others = [
        make(&format!(".{mesh}-20200102T000000Z.partial"), false),
        make(&format!(".{mesh}-x-20200101T000000Z.partial"), true),
        make(&format!(".{mesh}-20200101T000000Z.partial.mine"), true),
        make(&format!("{mesh}-20200101T000000Z.partial"), true),
        make(&format!("{mesh}-20200101T000000Z"), true),
    ];
    backup(&world, folder.path()).await;
    assert!(!left.exists());
    for other in others {
        assert!(other.join("EVENTS.snapshot").exists(), "{other:?}");
    }
}
