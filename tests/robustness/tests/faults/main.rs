//! Outages of the bus, one by one: publishing answers honestly and goes on by
//! itself, delivery resumes by itself, nothing acknowledged is lost, nothing is
//! out of order.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "helpers of tests may fail a test"
)]

mod full_disk;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use murmur_mesh::durable::ACK_WAIT;
use murmur_mesh::stream::EVENTS;
use murmur_robustness::check::{check, status_for};
use murmur_robustness::history::{Answer, Delivery, Fate, History, Published};
use murmur_robustness::publisher::{Habits, Publishers, publish};
use murmur_robustness::service::Behaviour;
use murmur_robustness::world::World;
use murmur_test_support::cluster;
use rustix::process::Signal;
use tokio::time::sleep;

/// How soon delivery is to resume once the bus can serve: 5 s, with room for a busy machine,
/// and less than the ack wait: to wait for that is not to resume.
const SOON: Duration = Duration::from_secs(9);
/// How long all that is left may take: a stopped or killed holder's events come
/// again after the ack wait.
const PATIENCE: Duration = Duration::from_secs(60);

/// Between the events of a publisher: a strict order on three servers that share a busy machine must be able to follow.
const PAUSE: Duration = Duration::from_millis(100);

/// The subscriptions, one of each order.
const ORDERS: [&str; 3] = ["key", "strict", "free"];

fn sidecar() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_sidecar-under-test"))
}

/// A service that takes everything, in a moment.
fn willing(_pod: usize) -> Arc<Behaviour> {
    Arc::new(|delivery: &Delivery, before| {
        let fate = Fate::of(delivery.data.as_bytes()).unwrap_or(Fate::Taken);
        (status_for(fate, before), Duration::from_millis(5))
    })
}

async fn world(servers: usize) -> World {
    World::start(sidecar(), servers, 1, willing).await.unwrap()
}

/// What is published: through the sidecar, and past it to see when the bus serves.
struct Traffic {
    publishers: Publishers,
    probes: Vec<Published>,
}

fn traffic(world: &World) -> Traffic {
    let publishers = Publishers::start(&Habits::plain(3, PAUSE), world.ports());
    Traffic { publishers, probes: Vec::new() }
}

/// What one order has delivered so far, while something is waited for.
struct Progress {
    /// Those of all orders before this place are none of its news.
    deliveries: usize,
    since: Instant,
    longest_silence: Duration,
    is_there: bool,
}

/// Waits until each order has delivered what is wanted. For how long each was silent before that, at most: what was
/// published during an outage may be much, and in a strict order all of it comes first.
async fn until_delivered(
    world: &World,
    what: &str,
    wanted: impl Fn(&Delivery) -> bool,
) -> [Duration; ORDERS.len()] {
    let began = Instant::now();
    let mut orders = ORDERS.map(|_| Progress {
        deliveries: world.log.deliveries().len(),
        since: began,
        longest_silence: Duration::ZERO,
        is_there: false,
    });
    while began.elapsed() < PATIENCE {
        let deliveries = world.log.deliveries();
        for (name, order) in ORDERS.iter().zip(&mut orders).filter(|(_, order)| !order.is_there) {
            let mut new = deliveries[order.deliveries..].iter().filter(|one| one.subscription == *name);
            order.longest_silence = order.longest_silence.max(order.since.elapsed());
            if new.next().is_some() {
                (order.deliveries, order.since) = (deliveries.len(), Instant::now());
            }
            order.is_there = deliveries.iter().any(|one| one.subscription == *name && wanted(one));
        }
        if orders.iter().all(|order| order.is_there) {
            return orders.map(|order| order.longest_silence);
        }
        sleep(Duration::from_millis(20)).await;
    }
    panic!("nothing is delivered, {what}: {}", world.pods[0].sidecar.log());
}

/// Waits until something new has reached the service in each order.
async fn until_new(world: &World, what: &str) {
    let last = world.log.deliveries().iter().map(|one| one.sequence).max().unwrap_or(0);
    until_delivered(world, what, |one| one.sequence > last).await;
}

/// Waits until the bus serves clients of these servers, and then until an event that
/// it stored then is delivered: until then no order may be silent for long.
async fn until_resumed(world: &World, traffic: &mut Traffic, servers: &[usize], what: &str) {
    let began = Instant::now();
    let id = format!("probe-{}", traffic.probes.len());
    let probe = world.bed.until_serving(servers, &id, PATIENCE).await.unwrap();
    let serves = began.elapsed().as_secs_f64();
    traffic.probes.push(probe);
    let silent = until_delivered(world, what, |one| one.id == id).await;
    let figure = |(name, silent): (&&str, &Duration)| format!("{name} {:.1} s", silent.as_secs_f64());
    let figures: Vec<_> = ORDERS.iter().zip(&silent).map(figure).collect();
    println!(
        "{what}: the bus serves after {serves:.1} s, then silent at most: {}; all is here {:.1} s after the outage",
        figures.join(", "),
        began.elapsed().as_secs_f64()
    );
    let log = || world.pods[0].sidecar.log();
    assert!(silent.iter().all(|silent| *silent < SOON), "{what}: {silent:?}: {}", log());
}

/// Ends the traffic and checks everything; the history for more.
async fn ends_well(world: &World, traffic: Traffic) -> History {
    sleep(Duration::from_secs(1)).await;
    let mut published = traffic.publishers.end().await;
    published.extend(traffic.probes);
    let history = world.history(published, PATIENCE).await.unwrap();
    let violations: Vec<_> = check(&history).iter().map(ToString::to_string).collect();
    assert!(violations.is_empty(), "{}\n{}", violations.join("\n"), world.pods[0].sidecar.log());
    assert!(history.published.len() > 20, "{} events are no traffic", history.published.len());
    history
}

#[tokio::test]
async fn a_sidecar_that_starts_before_the_bus_refuses_honestly_and_works_once_it_is_there() {
    let mut world = world(1).await;
    world.pods[0].sidecar.kill().await.unwrap();
    world.bed.cluster.servers()[0].kill().await.unwrap();
    world.pods[0].sidecar.resume().await.unwrap();
    let port = world.pods[0].sidecar.port;
    assert_eq!(publish(port, "early", "k", "{}").await, Answer::NotStored(503));
    let mut traffic = traffic(&world);
    sleep(Duration::from_secs(2)).await;
    world.bed.cluster.servers()[0].resume().await.unwrap();
    until_resumed(&world, &mut traffic, &[0], "after a start without the bus").await;
    ends_well(&world, traffic).await;
}

#[tokio::test]
async fn a_killed_broker_that_comes_back_with_its_data_costs_nothing_but_the_time() {
    let mut world = world(1).await;
    let mut traffic = traffic(&world);
    for away in [500, 3000, 12_000] {
        until_new(&world, "before a kill").await;
        world.bed.cluster.servers()[0].kill().await.unwrap();
        sleep(Duration::from_millis(away)).await;
        world.bed.cluster.servers()[0].resume().await.unwrap();
        until_resumed(&world, &mut traffic, &[0], &format!("after a kill for {away} ms")).await;
    }
    let history = ends_well(&world, traffic).await;
    let refused = history.published.iter().flat_map(|event| &event.answers);
    assert!(refused.clone().any(|answer| *answer == Answer::NotStored(503)), "nobody noticed the outage");
}

#[tokio::test]
async fn a_broker_that_stands_still_is_answered_for_honestly_and_missed_no_longer_than_it_is_away() {
    let mut world = world(1).await;
    let mut traffic = traffic(&world);
    // Short, and longer than the ack wait.
    for away in [3, 15] {
        until_new(&world, "before a stop").await;
        world.bed.cluster.servers()[0].signal(Signal::STOP).unwrap();
        sleep(Duration::from_secs(away)).await;
        world.bed.cluster.servers()[0].signal(Signal::CONT).unwrap();
        until_resumed(&world, &mut traffic, &[0], &format!("after a stop for {away} s")).await;
    }
    ends_well(&world, traffic).await;
}

#[tokio::test]
async fn a_replaced_store_is_delivered_from_its_first_event_whatever_the_sidecar_still_held() {
    let is_away = Arc::new(AtomicBool::new(false));
    let seen = is_away.clone();
    let mut world = World::start(sidecar(), 1, 1, move |_| {
        let is_away = seen.clone();
        Arc::new(move |_: &Delivery, _| (if is_away.load(Relaxed) { 503 } else { 204 }, Duration::ZERO))
    })
    .await
    .unwrap();
    let port = world.pods[0].sidecar.port;
    is_away.store(true, Relaxed);
    for number in 1..=5 {
        assert!(matches!(publish(port, &format!("old-{number}"), "k", "{}").await, Answer::Stored { .. }));
    }
    // The probes show that its events are held.
    until_delivered(&world, "held events of the old store", |_| true).await;

    world.bed.cluster.servers()[0].kill().await.unwrap();
    world.bed.cluster.servers()[0].lose_data().unwrap();
    world.bed.cluster.servers()[0].resume().await.unwrap();
    world.bed.furnish().await.unwrap();
    let began = Instant::now();
    for number in 1..=5 {
        while !matches!(publish(port, &format!("new-{number}"), "k", "{}").await, Answer::Stored { .. }) {
            assert!(began.elapsed() < SOON, "publishing does not go on");
            sleep(Duration::from_millis(100)).await;
        }
    }
    is_away.store(false, Relaxed);
    let took = |id: &str, name: &str| {
        let taken = |one: &Delivery| one.id == id && one.subscription == name;
        world.log.deliveries().iter().any(|one| taken(one) && one.answered.is_some_and(|(_, s)| s == 204))
    };
    for name in ["key", "strict", "free"] {
        for number in 1..=5 {
            let id = format!("new-{number}");
            while !took(&id, name) {
                assert!(
                    began.elapsed() < PATIENCE,
                    "{id} never reached {name}: {}",
                    world.pods[0].sidecar.log()
                );
                sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

#[tokio::test]
async fn a_change_of_leader_in_a_cluster_of_three_loses_nothing_and_keeps_the_order() {
    let world = world(3).await;
    let mut traffic = traffic(&world);
    // Before that nobody knows that there is no other pod, which may have what is lost on its way.
    sleep(ACK_WAIT + Duration::from_secs(1)).await;
    for _ in 0..5 {
        until_new(&world, "before a leader steps down").await;
        cluster::step_down(&world.bed.context, EVENTS).await.unwrap();
        cluster::durable_steps_down(&world.bed.context, EVENTS, "key-0").await.unwrap();
        cluster::durable_steps_down(&world.bed.context, EVENTS, "strict-all").await.unwrap();
        until_resumed(&world, &mut traffic, &[0, 1, 2], "after a leader stepped down").await;
    }
    assert!(world.pods[0].sidecar.log().contains("has a new leader"), "the cluster's word was not heard");
    ends_well(&world, traffic).await;
}

#[tokio::test]
async fn with_its_leader_killed_or_standing_still_a_cluster_of_three_works_on() {
    let mut world = world(3).await;
    let mut traffic = traffic(&world);
    until_new(&world, "before the kill").await;
    let leader = world.bed.cluster.leader(&world.bed.context, EVENTS).await.unwrap();
    world.bed.cluster.servers()[leader].kill().await.unwrap();
    // An election takes some seconds; the leader itself does not come back for now.
    let others: Vec<_> = (0..3).filter(|server| *server != leader).collect();
    until_resumed(&world, &mut traffic, &others, "after the leader was killed").await;
    world.bed.cluster.servers()[leader].resume().await.unwrap();
    sleep(Duration::from_secs(2)).await;

    let leader = world.bed.cluster.leader(&world.bed.context, EVENTS).await.unwrap();
    world.bed.cluster.servers()[leader].signal(Signal::STOP).unwrap();
    let others: Vec<_> = (0..3).filter(|server| *server != leader).collect();
    until_resumed(&world, &mut traffic, &others, "after the leader stood still").await;
    world.bed.cluster.servers()[leader].signal(Signal::CONT).unwrap();
    ends_well(&world, traffic).await;
}

#[tokio::test]
async fn a_cluster_of_three_killed_all_at_once_has_everything_that_it_acknowledged() {
    let mut world = world(3).await;
    let mut traffic = traffic(&world);
    until_new(&world, "before all three are killed").await;
    for server in world.bed.cluster.servers() {
        server.signal(Signal::KILL).unwrap();
    }
    for server in world.bed.cluster.servers() {
        server.kill().await.unwrap();
    }
    sleep(Duration::from_secs(2)).await;
    for server in world.bed.cluster.servers() {
        server.resume().await.unwrap();
    }
    until_resumed(&world, &mut traffic, &[0, 1, 2], "after all three were killed").await;
    ends_well(&world, traffic).await;
}
