//! Projections: events become rows of the service's own database, each with its
//! effect once.

use std::time::Duration;

use murmur_mesh::stream::DEAD_LETTERS;
use murmur_sidecar::database::DatabaseSettings;
use serde_json::{Value, json};

use crate::support::{Database, Engine, Setup, World, eventually, get};

/// Tables in which a repeated effect shows, and the order of effects.
fn schema(engine: Engine) -> String {
    let counting = match engine {
        Engine::Sqlite => "place INTEGER PRIMARY KEY AUTOINCREMENT",
        Engine::Postgres => "place BIGSERIAL PRIMARY KEY",
    };
    format!(
        "CREATE TABLE IF NOT EXISTS applied ({counting}, id TEXT NOT NULL);\n\
         CREATE TABLE IF NOT EXISTS sums (key TEXT PRIMARY KEY, total INTEGER NOT NULL CHECK (total < 1000000));\n\
         CREATE INDEX IF NOT EXISTS by_total ON sums (total)"
    )
}

const SQL: &str = "INSERT INTO applied (id) VALUES (:id);\n\
    INSERT INTO sums VALUES (:partitionkey, :data.n) \
    ON CONFLICT (key) DO UPDATE SET total = sums.total + excluded.total";

pub(crate) fn projection(engine: Engine) -> Value {
    json!({
        "name": "model",
        "ordering": {"policy": "key", "shards": 1},
        "projection": {
            "tables": ["applied", "sums"],
            "onChange": "rebuild",
            "schema": schema(engine),
            "on": [{"type": "T", "sql": SQL}],
        },
        "retry": {"maxAttempts": 3, "initialDelay": 50, "factor": 2, "maxDelay": 200},
        "deadLetter": "keep",
    })
}

async fn world(database: &Database, projection: Value, sidecar: bool) -> World {
    World::start(Setup {
        subscriptions: vec![projection],
        database: Some(database.settings()),
        sidecar,
        ..Setup::default()
    })
    .await
}

pub(crate) async fn store(world: &World, id: usize, key: &str, data: &str) {
    let subject = murmur_mesh::subject::event(
        &"filler".parse().unwrap(),
        murmur_mesh::partition::Partition::of(key),
        &"T".parse().unwrap(),
    );
    world.store_at(subject, &id.to_string(), key, data).await.await.unwrap();
}

async fn fill(world: &World, ids: std::ops::RangeInclusive<usize>) {
    for id in ids {
        store(world, id, &format!("k{}", id % 3), r#"{"n": 1}"#).await;
    }
}

/// Ids in the order in which they had their effect.
async fn applied(database: &Database) -> Vec<usize> {
    let rows = database.try_texts("SELECT id FROM applied ORDER BY place").await.unwrap_or_default();
    rows.iter().map(|id| id.parse().unwrap()).collect()
}

async fn total(database: &Database) -> usize {
    database.texts("SELECT sum(total) FROM sums").await[0].parse().unwrap()
}

async fn until_applied(database: &Database, ids: impl IntoIterator<Item = usize>) {
    let ids: Vec<usize> = ids.into_iter().collect();
    eventually("all are applied", async || applied(database).await.len() >= ids.len()).await;
    assert_eq!(applied(database).await, ids);
}

async fn held(world: &World) -> String {
    let status = get(world.local, "/v1/status").await.json();
    status["subscriptions"][0]["held"].as_str().unwrap_or_default().to_owned()
}

async fn until_held(world: &World, word: &str) {
    eventually(&format!("it holds because of {word}"), async || held(world).await.contains(word)).await;
}

/// The cause of each dead letter.
async fn causes(world: &World) -> Vec<String> {
    let mut causes = Vec::new();
    for sequence in 1..=world.stored(DEAD_LETTERS).await {
        let letter = world.message(DEAD_LETTERS, sequence).await;
        causes.push(letter.headers.get("murmur-dead-cause").map(ToString::to_string).unwrap_or_default());
    }
    causes
}

macro_rules! on_both {
    ($($name:ident),* $(,)?) => {
        mod sqlite { $(#[tokio::test] async fn $name() { super::$name(super::Engine::Sqlite).await; })* }
        mod postgres { $(#[tokio::test] async fn $name() { super::$name(super::Engine::Postgres).await; })* }
    };
}

on_both!(
    events_from_before_and_after_the_start_are_applied_once_and_in_their_order,
    an_event_that_cannot_be_applied_becomes_a_dead_letter_and_the_others_go_on,
    a_database_that_goes_back_gets_the_events_that_it_lacks_again,
    a_database_that_is_away_costs_no_attempt,
    another_writer_is_noticed_and_nothing_is_applied_twice,
    a_replay_builds_the_tables_anew_beside_those_that_are_read,
    a_changed_statement_counts_from_now_on_where_tables_are_kept,
    a_replaced_event_store_builds_the_tables_anew,
    statements_that_do_not_fit_are_told_before_the_first_event,
    an_empty_history_makes_the_tables,
    events_of_other_types_behind_the_last_one_set_nothing_back,
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

async fn a_database_that_goes_back_gets_the_events_that_it_lacks_again(engine: Engine) {
    let database = Database::start(engine).await;
    let mut world = world(&database, projection(engine), false).await;
    fill(&world, 1..=20).await;
    world.run().await;
    until_applied(&database, 1..=20).await;
    world.until_done("model-0").await;
    world.stop().await;
    // As a backup from after the 12th event would be.
    let table = if engine == Engine::Sqlite { "murmur_projections" } else { "murmur.projections" };
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
    let table = if engine == Engine::Sqlite { "murmur_projections" } else { "murmur.projections" };
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

async fn a_replay_builds_the_tables_anew_beside_those_that_are_read(engine: Engine) {
    let database = Database::start(engine).await;
    let mut world = world(&database, projection(engine), true).await;
    fill(&world, 1..=30).await;
    until_applied(&database, 1..=30).await;
    world.until_done("model-0").await;
    // Something that shows whether the tables are the old ones.
    database.execute("UPDATE sums SET total = 500").await;
    let mut replayed = projection(engine);
    replayed["replay"] = json!({"id": "again", "boundary": 30});
    replayed["projection"]["on"][0]["sql"] = SQL.replace(":data.n)", ":data.n + 1)").into();
    world.durables(&replayed).await;
    world
        .configure(|config| {
            config["subscriptions"] = json!([replayed]);
        })
        .await;
    eventually("it is swapped", async || total(&database).await == 60).await;
    assert_eq!(applied(&database).await, (1..=30).collect::<Vec<_>>());
    fill(&world, 31..=33).await;
    until_applied(&database, 1..=33).await;
    assert_eq!(total(&database).await, 66);
    let left = match engine {
        Engine::Sqlite => {
            "SELECT name FROM sqlite_master WHERE name LIKE 'murmur\\_%\\_%' ESCAPE '\\' AND name NOT LIKE 'murmur_projections%'"
        }
        Engine::Postgres => "SELECT nspname FROM pg_namespace WHERE nspname LIKE 'murmur_b%'",
    };
    assert_eq!(database.texts(left).await, [] as [&str; 0]);
}

async fn a_changed_statement_counts_from_now_on_where_tables_are_kept(engine: Engine) {
    let database = Database::start(engine).await;
    let mut kept = projection(engine);
    kept["projection"]["onChange"] = "keep".into();
    let mut world = world(&database, kept.clone(), true).await;
    fill(&world, 1..=10).await;
    until_applied(&database, 1..=10).await;
    kept["projection"]["on"][0]["sql"] = SQL.replace(":data.n)", ":data.n + 1)").into();
    world
        .configure(|config| {
            config["subscriptions"] = json!([kept]);
        })
        .await;
    world.until_configured().await;
    fill(&world, 11..=20).await;
    until_applied(&database, 1..=20).await;
    assert_eq!(total(&database).await, 30);
    // Where they are to be rebuilt, they stay as they are until there is a rebuild.
    kept["projection"]["onChange"] = "rebuild".into();
    kept["projection"]["on"][0]["sql"] = SQL.into();
    world
        .configure(|config| {
            config["subscriptions"] = json!([kept]);
        })
        .await;
    until_held(&world, "rebuild").await;
    fill(&world, 21..=22).await;
    assert_eq!(total(&database).await, 30);
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

async fn statements_that_do_not_fit_are_told_before_the_first_event(engine: Engine) {
    let database = Database::start(engine).await;
    database.execute("CREATE TABLE others (id TEXT)").await;
    let mut wrong = projection(engine);
    let mut world = world(&database, wrong.clone(), false).await;
    wrong["projection"]["on"][0]["sql"] = "INSERT INTO others VALUES (:id)".into();
    let configured = json!([wrong]);
    world.with_file(|config| config["subscriptions"] = configured);
    world.run().await;
    until_held(&world, "others").await;
    let told = held(&world).await;
    assert!(told.contains("projection.statements[T].sql"), "{told}");
    for (sql, word) in [
        ("INSERT INTO applied (nothing) VALUES (:id)", "nothing"),
        ("INSERT INTO applied (id) VALUES (:id", "projection.statements[T].sql"),
        ("UPDATE murmur_projections SET position = 0", "projection.statements[T].sql"),
    ] {
        wrong["projection"]["on"][0]["sql"] = sql.into();
        world
            .configure(|config| {
                config["subscriptions"] = json!([wrong]);
            })
            .await;
        world.until_configured().await;
        until_held(&world, word).await;
    }
    fill(&world, 1..=3).await;
    world
        .configure(|config| {
            config["subscriptions"] = json!([projection(engine)]);
        })
        .await;
    until_applied(&database, 1..=3).await;
    assert_eq!(world.stored(DEAD_LETTERS).await, 0);
    assert_eq!(held(&world).await, "");
}

async fn events_of_other_types_behind_the_last_one_set_nothing_back(engine: Engine) {
    let database = Database::start(engine).await;
    let mut world = world(&database, projection(engine), false).await;
    let stream = world.js.get_stream(murmur_mesh::stream::EVENTS).await.unwrap();
    let mut durable = stream.consumer_info("model-0").await.unwrap().config;
    durable.filter_subjects = vec!["events.*.*.T".to_owned(), "redrive.users.model.*".to_owned()];
    let durable: async_nats::jetstream::consumer::pull::Config =
        async_nats::jetstream::consumer::FromConsumer::try_from_consumer_config(durable).unwrap();
    stream.update_consumer(durable).await.unwrap();
    fill(&world, 1..=10).await;
    for id in 11..=15 {
        world.store_at("events.filler.1.Other".into(), &id.to_string(), "k", "{}").await.await.unwrap();
    }
    world.run().await;
    until_applied(&database, 1..=10).await;
    world.until_done("model-0").await;
    // The broker's mark may be behind those: the position follows it.
    let table = if engine == Engine::Sqlite { "murmur_projections" } else { "murmur.projections" };
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

async fn an_empty_history_makes_the_tables(engine: Engine) {
    let database = Database::start(engine).await;
    let mut world = world(&database, projection(engine), true).await;
    eventually("there are tables", async || {
        database.try_texts("SELECT count(*) FROM sums").await == Some(vec!["0".to_owned()])
    })
    .await;
    // A replay of nothing ends, too.
    let mut replayed = projection(engine);
    replayed["replay"] = json!({"id": "again", "boundary": 0});
    world.durables(&replayed).await;
    world.configure(|config| config["subscriptions"] = json!([replayed])).await;
    let table = if engine == Engine::Sqlite { "murmur_projections" } else { "murmur.projections" };
    if engine == Engine::Sqlite {
        let live = format!("SELECT run FROM {table} WHERE beside = 0");
        eventually("it is swapped", async || database.texts(&live).await == ["again"]).await;
    }
    fill(&world, 1..=3).await;
    until_applied(&database, 1..=3).await;
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
