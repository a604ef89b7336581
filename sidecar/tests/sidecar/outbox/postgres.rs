//! The outbox in Postgres.

use std::time::Duration;

use murmur_mesh::stream::EVENTS;
use murmur_sidecar::database::DatabaseSettings;
use murmur_test_support::postgres::{Postgres, SERVICE};
use tokio_postgres::Client;

use super::{by_key, standing, stored, until_stored, world};
use crate::support::{Process, Setup, World, eventually};

async fn started() -> (Postgres, Client, World) {
    let server = Postgres::start(&["fsync = off"]).await.unwrap();
    let mut world = world(DatabaseSettings::Postgres(server.credentials().unwrap()), Setup::default()).await;
    world.run().await;
    let service = server.connect(SERVICE, SERVICE).await.unwrap();
    (server, service, world)
}

async fn number(client: &Client, query: &str) -> i64 {
    client.query_one(query, &[]).await.unwrap().get(0)
}

async fn until_empty(client: &Client) {
    eventually("the table is empty", async || {
        number(client, "SELECT count(*) FROM murmur_outbox").await == 0
    })
    .await;
}

#[tokio::test]
async fn what_is_committed_is_published_with_all_its_attributes_and_what_is_no_event_is_put_aside() {
    let (_server, mut service, world) = started().await;
    let transaction = service.transaction().await.unwrap();
    transaction.batch_execute("INSERT INTO murmur_outbox (type) VALUES ('T')").await.unwrap();
    transaction.rollback().await.unwrap();
    service
        .batch_execute(
            "INSERT INTO murmur_outbox (id, type, subject, partitionkey, data, time, extensions)
             VALUES ('1', 'T', 's', 'k', '{\"n\":  1}', '2020-01-01 01:00:00+01', '{\"tenant\":\"x\"}');
             INSERT INTO murmur_outbox (type, data) VALUES ('T', jsonb_build_object('a', 1));
             INSERT INTO murmur_outbox (type, data_base64) VALUES ('T', 'AP8=');
             INSERT INTO murmur_outbox (type) VALUES ('Unknown');
             INSERT INTO murmur_outbox (type, data) VALUES ('T', repeat('x', 5000000))",
        )
        .await
        .unwrap();
    until_stored(&world, 3).await;
    until_empty(&service).await;
    let all = stored(&world).await;
    assert_eq!(all.len(), 3, "what was rolled back is nowhere");
    for (name, value) in [
        ("ce-id", "1"),
        ("ce-source", "/shop/users"),
        ("ce-subject", "s"),
        ("ce-partitionkey", "k"),
        ("ce-time", "2020-01-01T00:00:00.000000Z"),
        ("ce-datacontenttype", "application/json"),
        ("ce-tenant", "x"),
    ] {
        assert_eq!(all[0].header(name), value, "{name}");
    }
    assert_eq!(all[0].data, "{\"n\":  1}", "byte for byte");
    assert_eq!(all[1].data, "{\"a\": 1}");
    assert_eq!(all[1].header("ce-id").len(), 36, "the table has given it an id");
    let refused =
        service.query("SELECT cause FROM murmur_outbox_refused ORDER BY position", &[]).await.unwrap();
    let causes: Vec<String> = refused.iter().map(|row| row.get(0)).collect();
    assert!(causes[0].contains("spec.publishes") && causes[1].contains("5000"), "{causes:?}");
    eventually("it is told of", async || standing(&world).await["refused"] == 2).await;
    service.batch_execute("DELETE FROM murmur_outbox_refused").await.unwrap();
}

#[tokio::test]
async fn a_transaction_that_commits_after_others_with_higher_positions_is_not_passed_over() {
    let (server, mut service, world) = started().await;
    let late = service.transaction().await.unwrap();
    late.batch_execute("INSERT INTO murmur_outbox (id, type) VALUES ('late', 'T')").await.unwrap();
    let other = server.connect(SERVICE, SERVICE).await.unwrap();
    other.batch_execute("INSERT INTO murmur_outbox (id, type) VALUES ('early', 'T')").await.unwrap();
    until_stored(&world, 1).await;
    until_empty(&other).await;
    late.commit().await.unwrap();
    until_stored(&world, 2).await;
    until_empty(&other).await;
}

#[tokio::test]
async fn the_table_does_not_grow_however_much_goes_through_it() {
    let (_server, service, world) = started().await;
    let rows =
        "INSERT INTO murmur_outbox (type, data) SELECT 'T', repeat('x', 500) FROM generate_series(1, 5000)";
    let mut sizes = Vec::new();
    for round in 1..=8 {
        service.batch_execute(rows).await.unwrap();
        until_stored(&world, round * 5000).await;
        until_empty(&service).await;
        sizes.push(number(&service, "SELECT pg_total_relation_size('murmur_outbox')").await);
    }
    // Two rounds go through before it is cleared.
    assert!(sizes[7] <= sizes[2] * 2, "{sizes:?}");
}

#[tokio::test]
async fn of_two_replicas_one_publishes_and_the_other_takes_over_when_it_dies_or_its_session_does() {
    let server = Postgres::start(&["fsync = off"]).await.unwrap();
    let world = world(DatabaseSettings::Postgres(server.credentials().unwrap()), Setup::default()).await;
    let mut one = Process::start(&world, &[]);
    one.until_connected().await;
    let service = server.connect(SERVICE, SERVICE).await.unwrap();
    let insert = "INSERT INTO murmur_outbox (type, partitionkey) VALUES ('T', 'k')";
    service.batch_execute(insert).await.unwrap();
    until_stored(&world, 1).await;
    let two = Process::start(&world, &[]);
    two.until_connected().await;
    one.child.kill().unwrap();
    service.batch_execute(insert).await.unwrap();
    until_stored(&world, 2).await;
    let postgres = server.connect("postgres", "postgres").await.unwrap();
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'murmur'";
    postgres.batch_execute(end).await.unwrap();
    service.batch_execute(insert).await.unwrap();
    until_stored(&world, 3).await;
    until_empty(&service).await;
    assert_eq!(world.stored(EVENTS).await, 3);
}

#[tokio::test]
async fn a_database_that_restarts_or_is_away_at_the_start_is_waited_for() {
    let mut server = Postgres::start(&["fsync = off"]).await.unwrap();
    let world = world(DatabaseSettings::Postgres(server.credentials().unwrap()), Setup::default()).await;
    server.kill().await.unwrap();
    let process = Process::start(&world, &[]);
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(!process.is_started().await, "the service would not find its outbox");
    server.resume().await.unwrap();
    process.until_connected().await;
    let service = server.connect(SERVICE, SERVICE).await.unwrap();
    service.batch_execute("INSERT INTO murmur_outbox (id, type) VALUES ('1', 'T')").await.unwrap();
    until_stored(&world, 1).await;
    server.kill().await.unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    server.resume().await.unwrap();
    let service = server.connect(SERVICE, SERVICE).await.unwrap();
    service.batch_execute("INSERT INTO murmur_outbox (id, type) VALUES ('2', 'T')").await.unwrap();
    until_stored(&world, 2).await;
    until_empty(&service).await;
    assert_eq!(by_key(&stored(&world).await).len(), 1);
}
