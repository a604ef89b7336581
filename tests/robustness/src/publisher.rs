//! Publishes through sidecars, as a careful client does: again with the same id
//! until it was answered with 200.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use murmur_test_support::http::request;
use murmur_test_support::mesh::EVENT_TYPE;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use crate::history::{Answer, Fate, Published};

/// How long one request may take: more than the sidecar's own bound of 5 s.
const PATIENCE: Duration = Duration::from_secs(8);
/// How long an event is tried after its publisher was told to stop: then all is well again.
const LAST_TRIES: Duration = Duration::from_secs(60);
/// Keys of one publisher.
const KEYS: u32 = 2;

/// Posts an event once, to the sidecar on this port.
pub async fn publish(port: u16, id: &str, key: &str, data: &str) -> Answer {
    let headers =
        [("ce-id", id), ("ce-partitionkey", key), ("content-type", "application/json"), ("ce-lang", "en")];
    let path = format!("/v1/events/{EVENT_TYPE}");
    let asked = request(port, Method::POST, &path, &headers, Bytes::from(data.to_owned()));
    let Ok(Ok(answer)) = timeout(PATIENCE, asked).await else { return Answer::None };
    let (status, json) = (answer.status.as_u16(), answer.json());
    match (status, json["outcome"].as_str()) {
        (200, _) => match json["sequence"].as_u64() {
            Some(sequence) => Answer::Stored { sequence },
            None => Answer::Unexpected(status, String::from_utf8_lossy(&answer.body).into_owned()),
        },
        (429 | 503 | 504 | 507, Some("notStored")) => Answer::NotStored(status),
        (429 | 503 | 504 | 507, Some("unknown")) => Answer::Unknown(status),
        _ => Answer::Unexpected(status, String::from_utf8_lossy(&answer.body).into_owned()),
    }
}

/// What publishers publish, and how.
#[derive(Debug, Clone)]
pub struct Habits {
    /// How many there are.
    pub publishers: usize,
    /// The wait between two events of one, on average.
    pub pause: Duration,
    /// One event in so many is rejected by the services; 0: none.
    pub rejected: u32,
    /// One event in so many fails for ever.
    pub exhausted: u32,
    /// One event in so many fails once.
    pub failing_once: u32,
    /// From which their choices are drawn.
    pub seed: u64,
}

impl Habits {
    /// Events that services take, so many publishers with so long a pause.
    pub fn plain(publishers: usize, pause: Duration) -> Self {
        Self { publishers, pause, rejected: 0, exhausted: 0, failing_once: 0, seed: 0 }
    }
}

/// Publishers at work.
pub struct Publishers {
    working: watch::Sender<bool>,
    tasks: Vec<JoinHandle<Vec<Published>>>,
}

impl Publishers {
    /// Starts them; each goes on with the next of the sidecars on these ports
    /// when one has failed it.
    pub fn start(habits: &Habits, ports: Vec<u16>) -> Self {
        let working = watch::Sender::new(true);
        let ports: Arc<[u16]> = ports.into();
        let tasks = (0..habits.publishers)
            .map(|number| {
                let (habits, ports) = (habits.clone(), ports.clone());
                tokio::spawn(work(number, habits, ports, working.subscribe()))
            })
            .collect();
        Self { working, tasks }
    }

    /// Lets each end with the event that it is at; what they published.
    pub async fn end(self) -> Vec<Published> {
        self.working.send_replace(false);
        let mut all = Vec::new();
        for task in self.tasks {
            all.extend(task.await.unwrap_or_default());
        }
        all
    }
}

async fn work(
    number: usize,
    habits: Habits,
    ports: Arc<[u16]>,
    mut working: watch::Receiver<bool>,
) -> Vec<Published> {
    let mut random = SmallRng::seed_from_u64(habits.seed.wrapping_add(number as u64 + 1));
    let mut published = Vec::new();
    let mut at = number;
    while *working.borrow_and_update() {
        let id = format!("{number}-{}", published.len() + 1);
        let key = format!("{number}/{}", random.random_range(0..KEYS));
        let fate = fate(&habits, &mut random);
        let data = fate.data(&id);
        let mut event = Published { publisher: number, id, key, data, fate, answers: Vec::new() };
        let mut given_up: Option<Instant> = None;
        while event.sequence().is_none() && given_up.is_none_or(|moment| Instant::now() < moment) {
            let port = ports[at % ports.len()];
            let answer = publish(port, &event.id, &event.key, &event.data).await;
            if !matches!(answer, Answer::Stored { .. }) {
                at += 1;
                sleep(Duration::from_millis(random.random_range(50..150))).await;
            }
            event.answers.push(answer);
            if !*working.borrow() {
                given_up.get_or_insert_with(|| Instant::now() + LAST_TRIES);
            }
        }
        published.push(event);
        let pause = habits.pause.mul_f64(random.random_range(0.0..2.0));
        let _ = timeout(pause, working.changed()).await;
    }
    published
}

fn fate(habits: &Habits, random: &mut SmallRng) -> Fate {
    let mut one_in = |number: u32| number > 0 && random.random_range(0..number) == 0;
    if one_in(habits.rejected) {
        Fate::Rejected
    } else if one_in(habits.exhausted) {
        Fate::Exhausted
    } else if one_in(habits.failing_once) {
        Fate::TakenAtLast
    } else {
        Fate::Taken
    }
}
