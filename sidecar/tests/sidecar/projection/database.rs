//! What becomes of events when the database goes back, goes away, stands still, is full, or is another one.

use std::time::Duration;

use murmur_mesh::stream::DEAD_LETTERS;
use murmur_sidecar::database::DatabaseSettings;
use rustix::process::Signal;

use super::{applied, fill, held, on_both, positions, projection, total, until_applied, until_held, world};
use crate::support::{Database, Engine, eventually};

on_both!(
    a_database_that_goes_back_gets_the_events_that_it_lacks_again,
    a_database_that_is_away_costs_no_attempt,
    another_writer_is_noticed_and_nothing_is_applied_twice,
    a_replaced_event_store_builds_the_tables_anew,
    a_full_disk_costs_no_event_and_all_goes_on_once_there_is_room,
);

async fn a_database_that_goes_back_gets_the_events_that_it_lacks_again(engine: Engine) {
    let database = Database::start(engine).await;
    let mut world = world(&database, projection(engine), false).await;
    fill(&world, 1..=20).await;
    world.run().await;
    until_applied(&database, 1..=20).await;
    world.until_done("model-0").await;
    world.stop().await;
    // As a backup from after the 12th event would be.
    let table = positions(engine);
    database
        .execute(&format!(
            "DELETE FROM applied WHERE place > 12; DELETE FROM sums; INSERT INTO sums VALUES ('k0', 12); \
             UPDATE {table} SET position = 12, version = 1"
        ))
        .await;
    world.run().await;
    until_applied(&database, 1..=20).await;
    // And while the sidecar runs.
    database
        .execute(&format!(
            "DELETE FROM applied WHERE place > 12; DELETE FROM sums; INSERT INTO sums VALUES ('k0', 12); \
             UPDATE {table} SET position = 12, version = 1"
        ))
        .await;
    fill(&world, 21..=22).await;
    until_applied(&database, 1..=22).await;
    assert_eq!(total(&database).await, 22);
    // Lost with all that was in it.
    world.stop().await;
    database.execute(&format!("DROP TABLE applied; DROP TABLE sums; DROP TABLE {table}")).await;
    world.run().await;
    until_applied(&database, 1..=22).await;
    assert_eq!(total(&database).await, 22);
}

async fn a_database_that_is_away_costs_no_attempt(engine: Engine) {
    let mut database = Database::start(engine).await;
    let mut world = world(&database, projection(engine), false).await;
    let aside = match &mut database {
        Database::Sqlite(_) => {
            let (path, aside) = (database.path(), database.path().with_extension("aside"));
            std::fs::rename(&path, &aside).unwrap();
            std::fs::create_dir(&path).unwrap();
            Some((path, aside))
        }
        Database::Postgres(server) => {
            server.kill().await.unwrap();
            None
        }
    };
    if engine == Engine::Sqlite {
        // The file is made before the service starts: here it comes later.
        let (path, aside) = aside.unwrap();
        std::fs::remove_dir(&path).unwrap();
        world.run().await;
        fill(&world, 1..=10).await;
        until_applied(&database, 1..=10).await;
        std::fs::remove_file(&path).unwrap();
        std::fs::rename(&aside, &path).unwrap();
        return;
    }
    world.run().await;
    fill(&world, 1..=10).await;
    until_held(&world, "database").await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let Database::Postgres(server) = &mut database else { return };
    server.resume().await.unwrap();
    until_applied(&database, 1..=10).await;
    eventually("it goes on", async || held(&world).await.is_empty()).await;
    let Database::Postgres(server) = &mut database else { return };
    server.kill().await.unwrap();
    fill(&world, 11..=20).await;
    until_held(&world, "database").await;
    server.resume().await.unwrap();
    until_applied(&database, 1..=20).await;
    assert_eq!(world.stored(DEAD_LETTERS).await, 0);
}

async fn another_writer_is_noticed_and_nothing_is_applied_twice(engine: Engine) {
    let database = Database::start(engine).await;
    let world = world(&database, projection(engine), true).await;
    fill(&world, 1..=5).await;
    until_applied(&database, 1..=5).await;
    // What a replica that this one took over from did at the last moment.
    let table = positions(engine);
    database
        .execute(&format!(
            "INSERT INTO applied (id) VALUES ('6'); UPDATE sums SET total = total + 1 WHERE key = 'k0'; \
             UPDATE {table} SET position = 6, version = version + 1"
        ))
        .await;
    fill(&world, 6..=9).await;
    until_applied(&database, 1..=9).await;
    assert_eq!(total(&database).await, 9);
}

async fn a_replaced_event_store_builds_the_tables_anew(engine: Engine) {
    let database = Database::start(engine).await;
    let mut world = world(&database, projection(engine), true).await;
    fill(&world, 1..=10).await;
    until_applied(&database, 1..=10).await;
    // Another stream of the same name, whose first events have places that were taken before.
    world.js.delete_stream(murmur_mesh::stream::EVENTS).await.unwrap();
    world.stop().await;
    let mut config = async_nats::jetstream::stream::Config {
        name: murmur_mesh::stream::EVENTS.to_owned(),
        subjects: murmur_mesh::stream::EVENTS_SUBJECTS.iter().map(ToString::to_string).collect(),
        allow_direct: true,
        ..Default::default()
    };
    config.allow_atomic_publish = true;
    world.js.create_stream(config).await.unwrap();
    world.durables(&projection(engine)).await;
    fill(&world, 101..=120).await;
    // Its configuration is the old one for a moment: then it believes that ten of them are in.
    world.run().await;
    eventually("some are applied to the old tables", async || applied(&database).await.len() > 10).await;
    world
        .configure(|config| {
            config["eventStore"] = "2026-11-22T09:00:00Z".into();
        })
        .await;
    eventually("it is built anew", async || applied(&database).await.first() == Some(&101)).await;
    until_applied(&database, 101..=120).await;
    assert_eq!(total(&database).await, 20);
}

/// A certificate authority, and a certificate of its for each name, with its key.
fn certificates<const N: usize>(names: [&str; N]) -> (String, [(String, String); N]) {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority_key = KeyPair::generate().unwrap();
    let root = authority.self_signed(&authority_key).unwrap();
    let issuer = Issuer::new(authority, authority_key);
    let made = names.map(|name| {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        (params.signed_by(&key, &issuer).unwrap().pem(), key.serialize_pem())
    });
    (root.pem(), made)
}

#[tokio::test]
async fn the_server_must_show_a_certificate_of_its_name_and_of_the_known_authority() {
    let mut database = Database::start(Engine::Postgres).await;
    let DatabaseSettings::Postgres(folder) = database.settings() else { panic!("it is Postgres") };
    let (root, [(certificate, key), (other_name, other_key)]) = certificates(["127.0.0.1", "localhost"]);
    let (other_root, []) = certificates([]);
    let Database::Postgres(server) = &mut database else { return };
    server.serve_tls(&certificate, &key).await.unwrap();
    let postgres = murmur_sidecar::database::postgres::Postgres::new(&folder);
    std::fs::write(folder.join("ca.crt"), &root).unwrap();
    let session = postgres.connect("test").await.unwrap();
    let encrypted = session.client.query_one("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()", &[]);
    assert!(encrypted.await.unwrap().get::<_, bool>(0));
    std::fs::write(folder.join("ca.crt"), &other_root).unwrap();
    let refused = postgres.connect("test").await.unwrap_err().to_string();
    assert!(refused.contains("UnknownIssuer") || refused.contains("certificate"), "{refused}");
    std::fs::write(folder.join("ca.crt"), "nothing").unwrap();
    assert!(postgres.connect("test").await.is_err(), "an empty list of authorities trusts nobody");
    let Database::Postgres(server) = &mut database else { return };
    server.serve_tls(&other_name, &other_key).await.unwrap();
    std::fs::write(folder.join("ca.crt"), &root).unwrap();
    assert!(postgres.connect("test").await.is_err());
    std::fs::remove_file(folder.join("ca.crt")).unwrap();
    assert!(postgres.connect("test").await.is_err(), "the server takes nobody without TLS");
}

/// Lets the disk be full from the 16th event on, as far as the database can tell.
async fn fill_up(engine: Engine, database: &Database) {
    database
        .execute(match engine {
            // It says so when a table has no more places, too.
            Engine::Sqlite => "UPDATE sqlite_sequence SET seq = 9223372036854775807 - 5 WHERE name = 'applied'",
            Engine::Postgres => {
                "CREATE FUNCTION disk() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                   RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = 'disk_full';
                 END $$;
                 CREATE TRIGGER disk BEFORE INSERT ON applied FOR EACH ROW WHEN (new.id = '16')
                   EXECUTE FUNCTION disk()"
            }
        })
        .await;
}

async fn make_room(engine: Engine, database: &Database) {
    database
        .execute(match engine {
            Engine::Sqlite => {
                "UPDATE applied SET place = CAST(id AS INTEGER);
                 UPDATE sqlite_sequence SET seq = (SELECT max(place) FROM applied) WHERE name = 'applied'"
            }
            Engine::Postgres => "DROP TRIGGER disk ON applied",
        })
        .await;
}

async fn a_full_disk_costs_no_event_and_all_goes_on_once_there_is_room(engine: Engine) {
    let database = Database::start(engine).await;
    let mut world = world(&database, projection(engine), true).await;
    fill(&world, 1..=10).await;
    until_applied(&database, 1..=10).await;
    world.until_done("model-0").await;
    // It is full in the middle of a transaction.
    world.stop().await;
    fill(&world, 11..=30).await;
    fill_up(engine, &database).await;
    world.run().await;
    until_held(&world, if engine == Engine::Sqlite { "full" } else { "No space left" }).await;
    // More than the attempts that an event has.
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(applied(&database).await.len() < 16);
    make_room(engine, &database).await;
    until_applied(&database, 1..=30).await;
    assert_eq!(total(&database).await, 30);
    eventually("it goes on", async || held(&world).await.is_empty()).await;
    assert_eq!(world.stored(DEAD_LETTERS).await, 0);
}

#[tokio::test]
async fn a_postgres_that_stands_still_is_told_of_and_what_it_was_given_is_applied_once() {
    let database = Database::start(Engine::Postgres).await;
    let world = world(&database, projection(Engine::Postgres), true).await;
    let Database::Postgres(server) = &database else { return };
    let mut stored = 0;
    // In the middle of whatever it does.
    for _ in 0..5 {
        server.signal_all(Signal::STOP).unwrap();
        fill(&world, stored + 1..=stored + 50).await;
        stored += 50;
        server.signal_all(Signal::CONT).unwrap();
        fill(&world, stored + 1..=stored + 5).await;
        stored += 5;
    }
    until_applied(&database, 1..=stored).await;
    // For longer than an answer may take.
    server.signal_all(Signal::STOP).unwrap();
    fill(&world, stored + 1..=stored + 50).await;
    let told = tokio::time::timeout(Duration::from_secs(100), async {
        while !held(&world).await.contains("does not answer") {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    });
    told.await.unwrap();
    server.signal_all(Signal::CONT).unwrap();
    until_applied(&database, 1..=stored + 50).await;
    eventually("it goes on", async || held(&world).await.is_empty()).await;
    assert_eq!(total(&database).await, stored + 50);
    assert_eq!(world.stored(DEAD_LETTERS).await, 0);
}
