//! The outbox in SQLite.

use std::path::PathBuf;
use std::time::Duration;

use async_nats::jetstream::stream::Config as Stream;
use murmur_mesh::stream::EVENTS;
use murmur_sidecar::database::DatabaseSettings;
use murmur_sidecar::limits::Limits;
use murmur_test_support::process::cpu_seconds;
use rusqlite::Connection;
use tempfile::TempDir;

use super::{STORE, by_key, standing, stored, until_stored, world};
use crate::support::{Process, Setup, Wire, World, eventually, key};

/// A folder with a database in it, as the sidecar has made it.
struct Database {
    path: PathBuf,
    _folder: TempDir,
}

impl Database {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("service.db");
        murmur_sidecar::database::sqlite::prepare(&path).unwrap();
        Self { path, _folder: folder }
    }

    fn settings(&self) -> DatabaseSettings {
        DatabaseSettings::Sqlite(self.path.clone())
    }

    /// The service's own connection.
    fn open(&self) -> Connection {
        let connection = Connection::open(&self.path).unwrap();
        connection.busy_timeout(Duration::from_secs(5)).unwrap();
        connection
    }

    fn number(&self, query: &str) -> i64 {
        self.open().query_row(query, [], |row| row.get(0)).unwrap()
    }
}

async fn started(setup: Setup) -> (Database, World) {
    let database = Database::new();
    let mut world = world(database.settings(), setup).await;
    world.run().await;
    (database, world)
}

#[tokio::test]
async fn what_is_committed_is_published_with_all_its_attributes_and_what_is_rolled_back_is_not() {
    let (database, world) = started(Setup::default()).await;
    let mut connection = database.open();
    let transaction = connection.transaction().unwrap();
    transaction.execute("INSERT INTO murmur_outbox (id, type, data) VALUES ('lost', 'T', '1')", []).unwrap();
    transaction.rollback().unwrap();
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    connection
        .execute(
            "INSERT INTO murmur_outbox (id, type, source, subject, partitionkey, data, time, extensions, traceparent)
             VALUES ('1', 'T', '/own', 'a b', 'k', '{\"n\":  1}', '2020-01-01T00:00:00Z', '{\"tenant\":\"x\"}', ?1)",
            [trace],
        )
        .unwrap();
    connection.execute("INSERT INTO murmur_outbox (type, data) VALUES ('T', x'00ff')", []).unwrap();
    until_stored(&world, 2).await;
    eventually("the table is empty", async || database.number("SELECT count(*) FROM murmur_outbox") == 0)
        .await;

    let all = stored(&world).await;
    assert_eq!(all.len(), 2, "what was rolled back is nowhere");
    let first = &all[0];
    for (name, value) in [
        ("ce-id", "1"),
        ("ce-source", "/own"),
        ("ce-subject", "a%20b"),
        ("ce-partitionkey", "k"),
        ("ce-time", "2020-01-01T00:00:00Z"),
        ("ce-datacontenttype", "application/json"),
        ("ce-tenant", "x"),
    ] {
        assert_eq!(first.header(name), value, "{name}");
    }
    assert_eq!(first.data, "{\"n\":  1}", "byte for byte");
    assert!(first.header("traceparent").starts_with("00-0af7651916cd43dd8448eb211c80319c-"));
    assert!(first.header("murmur-outbox-position").parse::<i64>().unwrap() > 0);
    assert_eq!(all[1].header("ce-source"), "/shop/users");
    assert_eq!(all[1].header("ce-id").len(), 32, "the table has given it an id");
}

#[tokio::test]
async fn rows_that_are_no_events_of_the_service_are_put_aside_with_the_cause_and_the_others_go_on() {
    let (database, world) = started(Setup::default()).await;
    let connection = database.open();
    connection
        .execute_batch(
            "BEGIN;
             INSERT INTO murmur_outbox (id, type, partitionkey) VALUES ('1', 'Unknown', 'k');
             INSERT INTO murmur_outbox (id, type, partitionkey, extensions) VALUES ('2', 'T', 'k', 'no json');
             INSERT INTO murmur_outbox (id, type, partitionkey) VALUES (x'00ff', 'T', 'k');
             INSERT INTO murmur_outbox (id, type, data) VALUES ('4', 'T', zeroblob(2000000));
             INSERT INTO murmur_outbox (id, type, partitionkey) VALUES ('5', 'T', 'k');
             COMMIT",
        )
        .unwrap();
    until_stored(&world, 1).await;
    eventually("all are told of", async || standing(&world).await["refused"] == 4).await;
    assert_eq!(by_key(&stored(&world).await)["k"], ["5"]);
    let mut statement =
        connection.prepare("SELECT cause FROM murmur_outbox_refused ORDER BY position").unwrap();
    let causes: Vec<String> =
        statement.query_map([], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap();
    for (cause, word) in causes.iter().zip(["spec.publishes", "extensions", "id holds bytes", "2000"]) {
        assert!(cause.contains(word), "{cause}");
    }
    assert_eq!(database.number("SELECT count(*) FROM murmur_outbox"), 0);
}

#[tokio::test]
async fn a_type_that_only_the_newer_configuration_on_the_bus_has_is_not_refused_at_the_start() {
    let database = Database::new();
    let mut world = world(database.settings(), Setup::default()).await;
    world.run().await;
    world.stop().await;
    let mut newer = serde_json::Value::Null;
    world.with_file(|config| newer = config.clone());
    newer["generation"] = 5.into();
    newer["publishes"] = serde_json::json!(["T", "New"]);
    world.js.publish("config.users", newer.to_string().into()).await.unwrap().await.unwrap();
    let insert =
        "INSERT INTO murmur_outbox (id, type, partitionkey) VALUES ('1', 'New', 'k'), ('2', 'T', 'k')";
    database.open().execute(insert, []).unwrap();
    world.run().await;
    until_stored(&world, 2).await;
    assert_eq!(by_key(&stored(&world).await)["k"], ["1", "2"]);
    assert_eq!(database.number("SELECT count(*) FROM murmur_outbox_refused"), 0);
}

/// Stores the event of a row as a sidecar did that died before it deleted the row.
async fn store_as_the_one_before(world: &World, id: &str, position: &str) {
    let mut headers = async_nats::HeaderMap::new();
    let message_id = key().message_id(&"users".parse().unwrap(), "/shop/users", id);
    for (name, value) in [
        ("Nats-Msg-Id", message_id.as_str()),
        ("murmur-outbox-position", position),
        ("ce-id", id),
        ("ce-partitionkey", "k"),
    ] {
        headers.insert(name, value);
    }
    world.js.publish_with_headers("events.users.1.T", headers, "".into()).await.unwrap().await.unwrap();
}

#[tokio::test]
async fn what_was_stored_before_a_crash_is_not_stored_again_after_the_duplicate_window() {
    let window = Duration::from_secs(1);
    let (database, mut world) = started(Setup { duplicate_window: window, ..Setup::default() }).await;
    let connection = database.open();
    connection
        .execute("INSERT INTO murmur_outbox (id, type, partitionkey) VALUES ('1', 'T', 'k')", [])
        .unwrap();
    until_stored(&world, 1).await;
    eventually("it is deleted", async || database.number("SELECT count(*) FROM murmur_outbox") == 0).await;
    world.stop().await;

    for id in ["2", "3", "4"] {
        let insert = "INSERT INTO murmur_outbox (id, type, partitionkey) VALUES (?1, 'T', 'k')";
        connection.execute(insert, [id]).unwrap();
    }
    store_as_the_one_before(&world, "2", "2").await;
    // A post of the service itself under the id of a row, and a row of another table: neither is the row's event.
    store_as_the_one_before(&world, "3", "99").await;
    tokio::time::sleep(window * 2).await;
    world.run().await;
    eventually("all is deleted", async || database.number("SELECT count(*) FROM murmur_outbox") == 0).await;
    assert_eq!(by_key(&stored(&world).await)["k"], ["1", "2", "3", "3", "4"]);
}

#[tokio::test]
async fn what_was_stored_although_its_answer_was_lost_is_not_stored_again_after_the_duplicate_window() {
    let (database, window) = (Database::new(), Duration::from_secs(1));
    let mut world = world(database.settings(), Setup { duplicate_window: window, ..Setup::default() }).await;
    let wire = Wire::to(world.broker.port(), Duration::ZERO).await;
    world.wire = Some(wire.port);
    world.run().await;
    let mut all = 0;
    // Few go one by one, many as a batch.
    for count in [1, 3, 40] {
        wire.hold();
        let rows = vec!["('T', 'k')"; count].join(",");
        let insert = format!("INSERT INTO murmur_outbox (type, partitionkey) VALUES {rows}");
        database.open().execute(&insert, []).unwrap();
        // Of a key the second one waits for the first one's answer.
        let stored = if count < 16 { 1 } else { count };
        until_stored(&world, (all + stored) as u64).await;
        tokio::time::sleep(window * 2).await;
        wire.cut();
        eventually("the table is empty", async || database.number("SELECT count(*) FROM murmur_outbox") == 0)
            .await;
        all += count;
        assert_eq!(world.stored(EVENTS).await, all as u64);
    }
}

#[tokio::test]
async fn the_mark_does_not_pass_an_event_whose_answer_was_lost_alone() {
    let (database, window) = (Database::new(), Duration::from_secs(1));
    // It is given up only when the broker does not know its message id any more.
    let limits = Limits { publish_timeout: window * 2, ..Limits::default() };
    let setup = Setup { duplicate_window: window, limits, ..Setup::default() };
    let mut world = world(database.settings(), setup).await;
    let second = br#"{"stream":"EVENTS","seq":2"#;
    let wire = Wire::losing(world.broker.port(), |message| {
        message.windows(second.len()).any(|some| some.starts_with(second))
    });
    let wire = wire.await;
    world.wire = Some(wire.port);
    world.run().await;
    let insert = "INSERT INTO murmur_outbox (type, partitionkey)";
    database.open().execute(&format!("{insert} VALUES ('T', 'first')"), []).unwrap();
    until_stored(&world, 1).await;
    // Both go at the same time; the later one's answer comes.
    database.open().execute(&format!("{insert} VALUES ('T', 'a'), ('T', 'b')"), []).unwrap();
    eventually("the table is empty", async || database.number("SELECT count(*) FROM murmur_outbox") == 0)
        .await;
    assert_eq!(by_key(&stored(&world).await).values().map(Vec::len).collect::<Vec<_>>(), [1, 1, 1]);
}

#[tokio::test]
async fn another_event_store_is_compared_as_a_whole_and_gets_what_it_does_not_hold() {
    let (database, mut world) = started(Setup::default()).await;
    let connection = database.open();
    connection
        .execute("INSERT INTO murmur_outbox (id, type, partitionkey) VALUES ('1', 'T', 'k')", [])
        .unwrap();
    until_stored(&world, 1).await;
    eventually("it is deleted", async || database.number("SELECT count(*) FROM murmur_outbox") == 0).await;
    let mark: (String, i64) = connection
        .query_row("SELECT stream, sequence FROM murmur_outbox_relay", [], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .unwrap();
    assert_eq!(mark, (STORE.to_owned(), 1));
    world.stop().await;
    for stream in ["EVENTS", "DEAD_LETTERS", "CONFIG"] {
        world.js.delete_stream(stream).await.unwrap();
    }
    world.streams(-1).await;
    world.outbox_durable().await;
    connection
        .execute_batch(
            "INSERT INTO murmur_outbox (id, type, partitionkey) VALUES ('2', 'T', 'k'), ('3', 'T', 'k');
         UPDATE murmur_outbox_relay SET sequence = 1000",
        )
        .unwrap();
    store_as_the_one_before(&world, "2", "2").await;
    world.with_file(|config| config["eventStore"] = "2027-01-01T00:00:00Z".into());
    world.run().await;
    eventually("all is deleted", async || database.number("SELECT count(*) FROM murmur_outbox") == 0).await;
    assert_eq!(by_key(&stored(&world).await)["k"], ["2", "3"]);
    let now: (String, i64) = connection
        .query_row("SELECT stream, sequence FROM murmur_outbox_relay", [], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .unwrap();
    assert_eq!(now, ("2027-01-01T00:00:00Z".to_owned(), 2));
}

#[tokio::test]
async fn while_the_bus_is_away_the_service_commits_and_later_all_of_it_is_published_in_order() {
    let (database, mut world) = started(Setup::default()).await;
    world.broker.kill().await.unwrap();
    let connection = database.open();
    for id in 0..500 {
        let values = (id.to_string(), format!("k{}", id % 7));
        let insert = "INSERT INTO murmur_outbox (id, type, partitionkey) VALUES (?1, 'T', ?2)";
        connection.execute(insert, values).unwrap();
    }
    eventually("it says why it waits", async || {
        standing(&world).await["held"].as_str().is_some_and(|held| held.contains("no connection"))
    })
    .await;
    world.broker.resume().await.unwrap();
    until_stored(&world, 500).await;
    eventually("it waits no longer", async || standing(&world).await["held"].is_null()).await;
    let keys = by_key(&stored(&world).await);
    for ids in keys.values() {
        assert!(ids.iter().map(|id| id.parse::<u32>().unwrap()).is_sorted(), "{ids:?}");
    }
    assert_eq!(keys.values().map(Vec::len).sum::<usize>(), 500);
}

#[tokio::test]
async fn an_event_that_finds_no_room_holds_up_its_key_and_no_other_until_there_is_room() {
    let (database, world) = started(Setup { max_bytes: 20_000, ..Setup::default() }).await;
    database
        .open()
        .execute_batch(
            "INSERT INTO murmur_outbox (id, type, partitionkey, data) VALUES
             ('large', 'T', 'k', hex(zeroblob(15000))), ('small', 'T', 'k', '1'), ('other', 'T', 'j', '1')",
        )
        .unwrap();
    until_stored(&world, 1).await;
    eventually("it says why it waits", async || {
        standing(&world).await["held"].as_str().is_some_and(|held| held.contains("full"))
    })
    .await;
    assert_eq!(by_key(&stored(&world).await).into_keys().collect::<Vec<_>>(), ["j"]);
    let mut stream = world.js.get_stream(EVENTS).await.unwrap();
    let config = stream.info().await.unwrap().config.clone();
    world.js.update_stream(Stream { max_bytes: -1, ..config }).await.unwrap();
    until_stored(&world, 3).await;
    assert_eq!(by_key(&stored(&world).await)["k"], ["large", "small"]);
}

#[tokio::test]
async fn the_same_event_in_two_rows_is_one_event() {
    let (database, world) = started(Setup::default()).await;
    let rows: Vec<String> = (0..40).map(|number| format!("('{}', 'T')", number % 20)).collect();
    database
        .open()
        .execute(&format!("INSERT INTO murmur_outbox (id, type) VALUES {}", rows.join(",")), [])
        .unwrap();
    eventually("the table is empty", async || database.number("SELECT count(*) FROM murmur_outbox") == 0)
        .await;
    assert_eq!(world.stored(EVENTS).await, 20);
}

#[tokio::test]
async fn what_the_service_has_committed_at_its_end_is_published_before_the_sidecar_ends() {
    let database = Database::new();
    let world = world(database.settings(), Setup::default()).await;
    let mut process = Process::start(&world, &[]);
    process.until_connected().await;
    let connection = database.open();
    // Its relay is at work: it has opened the database, for which it needs the lock that is taken now.
    connection.execute("INSERT INTO murmur_outbox (type, data) VALUES ('T', '1')", []).unwrap();
    until_stored(&world, 1).await;
    connection.execute_batch("BEGIN IMMEDIATE").unwrap();
    // Three batches: a busy machine too does these within the few seconds that an end may take.
    for _ in 0..600 {
        connection.execute("INSERT INTO murmur_outbox (type, data) VALUES ('T', '1')", []).unwrap();
    }
    connection.execute_batch("COMMIT").unwrap();
    process.terminate();
    process.child.wait().unwrap();
    assert_eq!(world.stored(EVENTS).await, 601);
    assert_eq!(database.number("SELECT count(*) FROM murmur_outbox"), 0);
}

#[tokio::test]
async fn an_idle_outbox_costs_next_to_nothing_and_the_database_does_not_grow() {
    let database = Database::new();
    let world = world(database.settings(), Setup::default()).await;
    let process = Process::start(&world, &[]);
    process.until_connected().await;
    let connection = database.open();
    let mut pages = Vec::new();
    for _ in 0..10 {
        let rows = vec!["('T', hex(randomblob(100)))"; 1000].join(",");
        connection.execute(&format!("INSERT INTO murmur_outbox (type, data) VALUES {rows}"), []).unwrap();
        eventually("the table is empty", async || database.number("SELECT count(*) FROM murmur_outbox") == 0)
            .await;
        pages.push(database.number("PRAGMA page_count"));
    }
    assert!(pages[9] <= pages[1] * 2, "{pages:?}");
    let pid = i32::try_from(process.child.id()).unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let before = cpu_seconds(pid).unwrap();
    tokio::time::sleep(Duration::from_secs(3)).await;
    let used = cpu_seconds(pid).unwrap() - before;
    assert!(used < 0.3, "{used} s of 3");
}

#[tokio::test]
async fn an_outbox_that_is_switched_off_keeps_its_rows_and_one_that_is_switched_on_publishes_them() {
    let (database, mut world) = started(Setup::default()).await;
    world.configure(|config| config["outbox"] = false.into()).await;
    world.until_configured().await;
    eventually("it is no longer told of", async || standing(&world).await.is_null()).await;
    database.open().execute("INSERT INTO murmur_outbox (id, type) VALUES ('1', 'T')", []).unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(world.stored(EVENTS).await, 0);
    world.configure(|config| config["outbox"] = true.into()).await;
    until_stored(&world, 1).await;
}
