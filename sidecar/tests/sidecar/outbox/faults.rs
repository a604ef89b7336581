//! Faults at random from a printed seed, while the service commits: the sidecars
//! die at any point, the broker dies or stands still, for longer than it knows
//! message ids too, and so does the database; answers get lost, all of them or some.
//! In the end nothing fails for a while: a fault later on would mend what was passed
//! over. `OUTBOX_SEED` repeats a run.

#![allow(clippy::print_stdout, reason = "a run that failed is repeated by its seed")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use murmur_mesh::stream::EVENTS;
use murmur_sidecar::database::DatabaseSettings;
use murmur_test_support::postgres::{Postgres, SERVICE};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use rusqlite::Connection;
use rustix::process::Signal;
use tokio_postgres::Client;

use super::checker::{Truth, verdict};
use super::{stored, world};
use crate::support::{Process, Setup, Wire, World, eventually};

/// The broker forgets message ids after so long: any outage below is longer. What is on its way arrives sooner, on a
/// busy machine too: that is all that the window has to cover.
const WINDOW: Duration = Duration::from_secs(3);
/// For so long faults happen.
const FOR: Duration = Duration::from_secs(20);
/// For so long the service goes on committing after the last one.
const CALM: Duration = Duration::from_secs(2);

fn seed() -> u64 {
    let given = std::env::var("OUTBOX_SEED").ok().and_then(|text| text.parse().ok());
    let seed = given.unwrap_or_else(rand::random);
    println!("OUTBOX_SEED={seed}");
    seed
}

fn setup() -> Setup {
    // What is acknowledged is on disk: of what a broker forgets no outbox knows.
    Setup { duplicate_window: WINDOW, jetstream: "sync_interval: always", ..Setup::default() }
}

/// What an answer to a publish begins with.
const STORED: &[u8] = br#"{"stream":"EVENTS""#;

/// What one writer writes: a few rows of its own keys in each transaction.
struct Work {
    random: SmallRng,
    writer: usize,
    number: usize,
}

impl Work {
    fn new(seed: u64, writer: usize) -> Self {
        Self { random: SmallRng::seed_from_u64(seed ^ (writer as u64 + 1)), writer, number: 0 }
    }

    /// Ids and keys of the next transaction, and whether it is rolled back.
    fn next(&mut self) -> (Vec<(String, String)>, bool) {
        let rows = if self.random.random_bool(0.1) { 40 } else { self.random.random_range(1..5) };
        let rows = (0..rows).map(|_| {
            self.number += 1;
            let key = self.random.random_range(0..6);
            (format!("{}-{:06}", self.writer, self.number), format!("w{}k{key}", self.writer))
        });
        let rows = rows.collect();
        (rows, self.random.random_bool(0.1))
    }

    fn pause(&mut self) -> Duration {
        Duration::from_millis(self.random.random_range(0..25))
    }
}

/// Kills, stops and starts the sidecar processes and the broker, and what is lost on the way between them.
struct Faults {
    random: SmallRng,
    until: Instant,
    wire: Wire,
    /// Every second answer to a publish gets lost, and the connection stays.
    loses_some: Arc<AtomicBool>,
}

impl Faults {
    /// Gets in between the broker and the sidecars that are started from now on.
    async fn new(seed: u64, world: &mut World) -> Self {
        let loses_some = Arc::<AtomicBool>::default();
        let (loses, answers) = (loses_some.clone(), AtomicUsize::new(0));
        let wire = Wire::losing(world.broker.port(), move |message| {
            let is_answer = message.windows(STORED.len()).any(|some| some == STORED);
            is_answer
                && loses.load(Ordering::Relaxed)
                && answers.fetch_add(1, Ordering::Relaxed).is_multiple_of(2)
        });
        let wire = wire.await;
        world.wire = Some(wire.port);
        Self { random: SmallRng::seed_from_u64(seed), until: Instant::now() + FOR, wire, loses_some }
    }

    async fn wait(&mut self, milliseconds: std::ops::Range<u64>) {
        tokio::time::sleep(Duration::from_millis(self.random.random_range(milliseconds))).await;
    }

    /// What the broker says is lost for a while, and then so are the connections: what it has stored meanwhile the
    /// sidecars do not know.
    async fn all_answers_lost(&mut self) {
        self.wire.hold();
        if self.random.random_bool(0.5) {
            tokio::time::sleep(WINDOW).await;
        }
        self.wait(20..400).await;
        self.wire.cut();
    }

    /// Of what is sent at the same time some is known to be stored, and some is not, for longer than the broker knows
    /// message ids.
    async fn some_answers_lost(&mut self) {
        // What has piled up goes as batches, of which each has one answer.
        self.wait(300..500).await;
        self.loses_some.store(true, Ordering::Relaxed);
        self.wait(20..200).await;
        self.loses_some.store(false, Ordering::Relaxed);
        tokio::time::sleep(WINDOW).await;
        // Else they are given up in their own time, if nothing else happens before.
        if self.random.random_bool(0.8) {
            self.wire.cut();
        }
    }

    async fn kill_sidecar(&mut self, world: &World, sidecars: &mut [Process]) {
        let one = self.random.random_range(0..sidecars.len());
        sidecars[one].child.kill().unwrap();
        sidecars[one].child.wait().unwrap();
        self.wait(0..60).await;
        sidecars[one] = Process::start(world, &[]);
    }

    /// The broker goes for a while, of which half are longer than it knows message ids; at times a
    /// sidecar dies meanwhile.
    async fn broker_away(&mut self, world: &mut World, sidecars: &mut [Process]) {
        let stands_still = self.random.random_bool(0.3);
        if stands_still {
            world.broker.signal(Signal::STOP).unwrap();
        } else {
            world.broker.kill().await.unwrap();
        }
        if self.random.random_bool(0.5) {
            self.kill_sidecar(world, sidecars).await;
        }
        if self.random.random_bool(0.5) {
            tokio::time::sleep(WINDOW).await;
        }
        self.wait(50..500).await;
        if stands_still {
            world.broker.signal(Signal::CONT).unwrap();
        } else {
            world.broker.resume().await.unwrap();
        }
    }
}

async fn until_empty(what: &str, waiting: impl AsyncFn() -> i64) {
    eventually(what, async || waiting().await == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_fails_each_row_committed_in_sqlite_is_stored_once_and_in_order() {
    let seed = seed();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("service.db");
    murmur_sidecar::database::sqlite::prepare(&path).unwrap();
    let mut world = world(DatabaseSettings::Sqlite(path.clone()), setup()).await;
    let mut faults = Faults::new(seed, &mut world).await;
    let mut sidecars = vec![Process::start(&world, &[])];
    sidecars[0].until_connected().await;

    let open = move || {
        let connection = Connection::open(&path).unwrap();
        connection.busy_timeout(Duration::from_secs(20)).unwrap();
        connection
    };
    open().execute_batch("CREATE TABLE truth (id TEXT, key TEXT)").unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let writer = {
        let (stop, mut connection, mut work) = (stop.clone(), open(), Work::new(seed, 0));
        std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                let (rows, undone) = work.next();
                let transaction =
                    connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).unwrap();
                for (id, key) in &rows {
                    let insert =
                        "INSERT INTO murmur_outbox (id, type, partitionkey, data) VALUES (?1, 'T', ?2, ?3)";
                    transaction.execute(insert, (id, key, format!("data of {id}"))).unwrap();
                    transaction.execute("INSERT INTO truth VALUES (?1, ?2)", (id, key)).unwrap();
                }
                if undone {
                    transaction.rollback().unwrap();
                } else {
                    transaction.commit().unwrap();
                }
                std::thread::sleep(work.pause());
            }
        })
    };
    while Instant::now() < faults.until {
        faults.wait(20..400).await;
        match faults.random.random_range(0..12) {
            0..=4 => faults.kill_sidecar(&world, &mut sidecars).await,
            5 | 6 => faults.all_answers_lost().await,
            7..=9 => faults.some_answers_lost().await,
            _ => faults.broker_away(&mut world, &mut sidecars).await,
        }
    }
    tokio::time::sleep(CALM).await;
    stop.store(true, Ordering::Relaxed);
    writer.join().unwrap();
    let connection = open();
    until_empty("the outbox is empty", async || {
        connection.query_row("SELECT count(*) FROM murmur_outbox", [], |row| row.get(0)).unwrap()
    })
    .await;
    let mut truth = Truth::new();
    let mut statement = connection.prepare("SELECT key, id FROM truth ORDER BY rowid").unwrap();
    for row in statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap() {
        let (key, id): (String, String) = row.unwrap();
        truth.entry(key).or_default().push(id);
    }
    let count = verdict(&truth, &stored(&world).await).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    println!("{count} events");
}

/// Writes until it is told to stop; a lost connection is made anew. What was committed only the
/// database knows.
async fn write(server: Arc<tokio::sync::RwLock<Postgres>>, stop: Arc<AtomicBool>, mut work: Work) {
    while !stop.load(Ordering::Relaxed) {
        let connected = server.read().await.connect(SERVICE, SERVICE).await;
        if let Ok(mut client) = connected {
            while !stop.load(Ordering::Relaxed) && transaction(&mut client, &mut work).await.is_ok() {}
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn transaction(client: &mut Client, work: &mut Work) -> Result<(), tokio_postgres::Error> {
    let (rows, undone) = work.next();
    let transaction = client.transaction().await?;
    for (id, key) in &rows {
        let insert = "INSERT INTO murmur_outbox (id, type, partitionkey, data) VALUES ($1, 'T', $2, $3)";
        transaction.execute(insert, &[id, key, &format!("data of {id}")]).await?;
        transaction.execute("INSERT INTO truth (id, key) VALUES ($1, $2)", &[id, key]).await?;
    }
    // Others commit meanwhile, with higher positions.
    tokio::time::sleep(work.pause() * 3).await;
    if undone {
        transaction.rollback().await?;
    } else {
        transaction.commit().await?;
    }
    tokio::time::sleep(work.pause()).await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_fails_each_row_committed_in_postgres_is_stored_once_and_in_order() {
    let seed = seed();
    let server = Postgres::start(&["fsync = off"]).await.unwrap();
    let credentials = server.credentials().unwrap();
    let mut world = world(DatabaseSettings::Postgres(credentials), setup()).await;
    let mut faults = Faults::new(seed, &mut world).await;
    let mut sidecars = vec![Process::start(&world, &[]), Process::start(&world, &[])];
    for sidecar in &sidecars {
        sidecar.until_connected().await;
    }
    let service = server.connect(SERVICE, SERVICE).await.unwrap();
    service.batch_execute("CREATE TABLE truth (place bigserial, id text, key text)").await.unwrap();
    let server = Arc::new(tokio::sync::RwLock::new(server));
    let stop = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..3)
        .map(|writer| tokio::spawn(write(server.clone(), stop.clone(), Work::new(seed, writer))))
        .collect();
    while Instant::now() < faults.until {
        faults.wait(20..400).await;
        match faults.random.random_range(0..14) {
            0..=4 => faults.kill_sidecar(&world, &mut sidecars).await,
            5 | 6 => faults.broker_away(&mut world, &mut sidecars).await,
            7 | 8 => faults.all_answers_lost().await,
            9..=11 => faults.some_answers_lost().await,
            12 => {
                let postgres = server.read().await.connect("postgres", "postgres").await.unwrap();
                let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'murmur'";
                postgres.batch_execute(end).await.unwrap();
            }
            _ => {
                let mut server = server.write().await;
                server.kill().await.unwrap();
                faults.wait(0..300).await;
                server.resume().await.unwrap();
            }
        }
    }
    tokio::time::sleep(CALM).await;
    stop.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.await.unwrap();
    }
    let service = server.read().await.connect(SERVICE, SERVICE).await.unwrap();
    until_empty("the outbox is empty", async || {
        service.query_one("SELECT count(*) FROM murmur_outbox", &[]).await.unwrap().get(0)
    })
    .await;
    let mut truth = Truth::new();
    for row in service.query("SELECT key, id FROM truth ORDER BY place", &[]).await.unwrap() {
        truth.entry(row.get(0)).or_default().push(row.get(1));
    }
    let count = verdict(&truth, &stored(&world).await).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    println!("{count} events; {} in the event store", world.stored(EVENTS).await);
}
