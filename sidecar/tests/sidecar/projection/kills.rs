//! A sidecar that is killed again and again while it applies events, at moments drawn
//! from a seed that is printed. After each death the durable delivers all
//! from the first again: whatever comes again, each event has its effect once, in its
//! order, and what cannot be applied is one dead letter.

use std::collections::BTreeMap;
use std::time::Duration;

use murmur_mesh::stream::DEAD_LETTERS;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use serde_json::json;

use super::{projection, store};
use crate::support::{Database, Engine, Process, Setup, World, eventually};

const EVENTS: usize = 4000;
const DEATHS: usize = 12;
const KEYS: usize = 7;

/// Every so manieth event has no number.
fn is_bad(id: usize) -> bool {
    id.is_multiple_of(97)
}

/// What the tables must hold: checked against the events, not against what was seen on the way.
async fn check(world: &World, database: &Database) -> Result<(), String> {
    let good: Vec<usize> = (1..=EVENTS).filter(|id| !is_bad(*id)).collect();
    let applied = database.texts("SELECT id FROM applied ORDER BY place").await;
    let applied: Vec<usize> = applied.iter().map(|id| id.parse().unwrap()).collect();
    let mut counts: BTreeMap<usize, usize> = BTreeMap::new();
    for id in &applied {
        *counts.entry(*id).or_default() += 1;
    }
    let twice: Vec<_> = counts.iter().filter(|(_, count)| **count > 1).map(|(id, _)| *id).collect();
    let lost: Vec<_> = good.iter().filter(|id| !counts.contains_key(id)).collect();
    if applied != good {
        let out = applied.windows(2).find(|two| two[0] >= two[1]);
        return Err(format!("twice {twice:?}, lost {lost:?}, out of order {out:?}"));
    }
    let sums = database.texts("SELECT sum(total) FROM sums").await;
    if sums != [good.len().to_string()] {
        return Err(format!("the sums are {sums:?}, not {}", good.len()));
    }
    let mut dead = Vec::new();
    for sequence in 1..=world.stored(DEAD_LETTERS).await {
        let letter = world.message(DEAD_LETTERS, sequence).await;
        dead.push(letter.headers.get("ce-id").unwrap().as_str().parse::<usize>().unwrap());
    }
    dead.sort_unstable();
    let bad: Vec<usize> = (1..=EVENTS).filter(|id| is_bad(*id)).collect();
    if dead != bad {
        return Err(format!("the dead letters are {dead:?}, not {bad:?}"));
    }
    Ok(())
}

async fn deaths(engine: Engine) {
    let seed =
        std::env::var("MURMUR_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or_else(rand::random);
    eprintln!("MURMUR_SEED={seed}");
    let mut random = SmallRng::seed_from_u64(seed);
    let mut database = Database::start(engine).await;
    let world = World::start(Setup {
        subscriptions: vec![projection(engine)],
        database: Some(database.settings()),
        sidecar: false,
        ..Setup::default()
    })
    .await;
    let mut stored = 0;
    for death in 0..DEATHS {
        // Some of them come while it applies others.
        let upto = EVENTS * (death + 1) / DEATHS;
        let mut process = Process::start(&world, &[]);
        let die = Duration::from_millis(random.random_range(100..900));
        let filling = async {
            for id in stored + 1..=upto {
                let data = if is_bad(id) { "{}" } else { r#"{"n": 1}"# };
                store(&world, id, &format!("k{}", id % KEYS), data).await;
            }
        };
        tokio::join!(filling, tokio::time::sleep(die));
        stored = upto;
        process.child.kill().unwrap();
        process.child.wait().unwrap();
        if let Database::Postgres(server) = &mut database
            && random.random_bool(0.2)
        {
            server.kill().await.unwrap();
            server.resume().await.unwrap();
        }
        again(&world).await;
    }
    let process = Process::start(&world, &[]);
    eventually("all is applied", async || {
        let applied = database.try_texts("SELECT count(*) FROM applied").await;
        applied.is_some_and(|count| count[0].parse::<usize>().unwrap() >= EVENTS - EVENTS / 97)
    })
    .await;
    world.until_done("model-0").await;
    drop(process);
    assert_eq!(check(&world, &database).await, Ok(()), "MURMUR_SEED={seed}");
}

/// The durable delivers all again, and at once: nobody waits until the dead one's pin
/// has run out.
async fn again(world: &World) {
    let client = world.js.client();
    for (request, body) in [("UNPIN", json!({"group": "g"})), ("RESET", json!({"seq": 1}))] {
        let subject = format!("$JS.API.CONSUMER.{request}.EVENTS.model-0");
        client.request(subject, body.to_string().into()).await.unwrap();
    }
}

#[tokio::test]
async fn a_sidecar_that_is_killed_at_any_moment_applies_each_event_once_to_sqlite() {
    deaths(Engine::Sqlite).await;
}

#[tokio::test]
async fn a_sidecar_that_is_killed_at_any_moment_applies_each_event_once_to_postgres() {
    deaths(Engine::Postgres).await;
}

/// The real thing, with a pin that runs out: who applies is killed, or stands still and comes
/// back when another has long gone on.
async fn take_over(signal: &str) {
    let database = Database::start(Engine::Postgres).await;
    let world = World::start(Setup {
        subscriptions: vec![projection(Engine::Postgres)],
        database: Some(database.settings()),
        sidecar: false,
        ..Setup::default()
    })
    .await;
    let pod = |name: &'static str| Process::start(&world, &[("MURMUR_POD", std::path::Path::new(name))]);
    let first = pod("a");
    for id in 1..=EVENTS {
        let data = if is_bad(id) { "{}" } else { r#"{"n": 1}"# };
        store(&world, id, &format!("k{}", id % KEYS), data).await;
        if id == EVENTS / 2 {
            eventually("some are applied", async || {
                let applied = database.try_texts("SELECT count(*) FROM applied").await;
                applied.is_some_and(|count| count[0] != "0")
            })
            .await;
            first.signal(signal);
        }
    }
    let second = pod("b");
    world.until_done("model-0").await;
    if signal == "STOP" {
        first.signal("CONT");
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
    drop((first, second));
    assert_eq!(check(&world, &database).await, Ok(()));
}

#[tokio::test]
async fn another_replica_goes_on_where_a_killed_one_left_off() {
    take_over("KILL").await;
}

#[tokio::test]
async fn a_replica_that_stood_still_while_another_went_on_applies_nothing_twice() {
    take_over("STOP").await;
}
