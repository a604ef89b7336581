//! What a projection is: its statements are checked, its tables made, kept, and built anew.

use murmur_mesh::config::Projection;
use murmur_mesh::stream::DEAD_LETTERS;
use serde_json::json;

use super::{
    SQL, applied, fill, held, on_both, positions, projection, total, until_applied, until_held, world,
};
use crate::support::{Database, Engine, eventually};

on_both!(
    statements_that_do_not_fit_are_told_before_the_first_event,
    an_empty_history_makes_the_tables,
    a_replay_builds_the_tables_anew_beside_those_that_are_read,
    a_rebuild_that_is_told_of_before_its_definition_waits_for_it,
    a_changed_statement_counts_from_now_on_where_tables_are_kept,
);

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
    let table = positions(engine);
    if engine == Engine::Sqlite {
        let live = format!("SELECT run FROM {table} WHERE beside = 0");
        eventually("it is swapped", async || database.texts(&live).await == ["again"]).await;
    }
    fill(&world, 1..=3).await;
    until_applied(&database, 1..=3).await;
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

async fn a_rebuild_that_is_told_of_before_its_definition_waits_for_it(engine: Engine) {
    let database = Database::start(engine).await;
    let mut world = world(&database, projection(engine), true).await;
    fill(&world, 1..=10).await;
    until_applied(&database, 1..=10).await;
    world.until_done("model-0").await;
    let mut changed = projection(engine);
    changed["projection"]["on"][0]["sql"] = SQL.replace(":data.n)", ":data.n + 1)").into();
    let definition: Projection = serde_json::from_value(changed["projection"].clone()).unwrap();
    changed["replay"] = json!({"id": definition.run(""), "boundary": 10});
    let mut early = projection(engine);
    early["replay"] = changed["replay"].clone();
    world.durables(&early).await;
    world.configure(|config| config["subscriptions"] = json!([early])).await;
    until_held(&world, "another definition").await;
    assert_eq!(total(&database).await, 10);
    world.configure(|config| config["subscriptions"] = json!([changed])).await;
    eventually("it is built as its definition says", async || total(&database).await == 20).await;
    assert_eq!(applied(&database).await, (1..=10).collect::<Vec<_>>());
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
