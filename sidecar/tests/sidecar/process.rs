//! The program itself: its start, its end, and what it refuses to start with.

use std::path::Path;
use std::process::{Child, Output};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::{
    Process, Service, Setup, World, eventually, free_port, get, post, program, subscription,
};

async fn until_ended(child: &mut Child) -> Option<i32> {
    for _ in 0..2000 {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code();
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it does not end");
}

#[test]
fn wrong_settings_end_with_64_and_a_sentence_that_says_what_to_change() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    let run = |url: &str, pod: &str| -> Output {
        program()
            .arg("run")
            .env("MURMUR_BUS_URL", url)
            .env("MURMUR_POD", pod)
            .env("MURMUR_CONFIG", folder.path().join("config.json"))
            .env("MURMUR_BUS_CREDENTIALS", folder.path())
            .output()
            .unwrap()
    };
    let fails = |output: Output, word: &str| {
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(64), "{text}");
        assert!(text.contains(word), "{word} is not in {text}");
    };
    let good = "nats://127.0.0.1:4222";
    fails(program().arg("run").output().unwrap(), "--bus-url");
    fails(program().output().unwrap(), "Usage");
    fails(run("http://x", "a-1"), "MURMUR_BUS_URL");
    fails(run(good, "a-1"), "MURMUR_CONFIG");
    file("config.json", "{}");
    fails(run(good, "a-1"), "generation");
    file("config.json", r#"{"generation":1,"service":"users","mesh":"shop"}"#);
    fails(run(good, "a-1"), "message-id.key");
    file("message-id.key", "short");
    fails(run(good, "a-1"), "64 hexadecimal digits");
    file("message-id.key", &"0".repeat(64));
    fails(run(good, "a-1"), "token");
    file("token", "a-token");
    file("user.jwt", "garbage");
    fails(run(good, "a-1"), "user.jwt");
    std::fs::remove_file(folder.path().join("user.jwt")).unwrap();
    fails(run(good, "a.b"), "MURMUR_POD");
}

#[tokio::test]
async fn a_second_sidecar_waits_for_the_volume_and_the_database_is_there_before_it_is_started() {
    let world = World::start(Setup { sidecar: false, ..Setup::default() }).await;
    let volume = tempfile::tempdir().unwrap();
    let database = volume.path().join("service.db");
    let more = [("MURMUR_DATA", volume.path()), ("MURMUR_DATABASE_PATH", database.as_path())];
    let mut first = Process::start(&world, &more);
    first.until_connected().await;
    let connection = rusqlite::Connection::open(&database).unwrap();
    let mode: String = connection.query_row("PRAGMA journal_mode", [], |row| row.get(0)).unwrap();
    assert_eq!(mode, "wal");

    let second = Process::start(&world, &more);
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(!second.is_started().await);
    first.terminate();
    assert_eq!(until_ended(&mut first.child).await, Some(0));
    eventually("the second has the volume", async || second.is_started().await).await;
}

#[tokio::test]
async fn a_drain_finishes_what_is_in_flight_and_gives_the_rest_to_another_at_once() {
    let slow = Service::start(|_| (200, Duration::from_millis(700))).await;
    let mut all = subscription("all", slow.port, json!({"policy": "key", "shards": 1}));
    all["deliver"]["concurrency"] = 4.into();
    let subscriptions = vec![all];
    let mut world = World::start(Setup { subscriptions, sidecar: false, ..Setup::default() }).await;
    world.fill(100, |id| id.to_string()).await;
    let mut first = Process::start(&world, &[("MURMUR_POD", Path::new("users-0"))]);
    eventually("the first delivers", async || slow.count() == 4).await;

    let mut drain = first.drain();
    assert_eq!(until_ended(&mut drain).await, Some(0));
    let delivered = slow.count();
    assert_eq!(delivered, 4, "nothing new was sent after the drain began");
    let (in_flight, pending) = world.outstanding("all-0").await;
    assert_eq!(in_flight as u64 + pending, 96, "what was in flight is acknowledged");
    // Publishing goes on until SIGTERM.
    assert_eq!(post(first.local(), "/v1/events/T", &[], "").await.status, 200);

    let fast = Service::ok().await;
    let port = fast.port;
    world.configure(|config| config["subscriptions"][0]["deliver"]["port"] = port.into()).await;
    let takes_over = Instant::now();
    world.run().await;
    eventually("another one has the rest", async || fast.count() == 97).await;
    // Without the release it would have taken the pin's time, and without the first one's word the ack wait.
    assert!(takes_over.elapsed() < Duration::from_secs(8), "{:?}", takes_over.elapsed());
    world.until_done("all-0").await;
    first.terminate();
    assert_eq!(until_ended(&mut first.child).await, Some(0));
}

/// A sidecar that stands still (a frozen machine, a stopped process) loses its
/// pin; when it goes on, what it still holds is another's.
#[tokio::test]
async fn a_sidecar_that_stood_still_delivers_nothing_that_another_has_taken_over() {
    let first_service = Service::start(|_| (200, Duration::from_millis(300))).await;
    let mut one = subscription("all", first_service.port, json!({"policy": "key", "shards": 1}));
    one["deliver"]["concurrency"] = 1.into();
    let mut world =
        World::start(Setup { subscriptions: vec![one], sidecar: false, ..Setup::default() }).await;
    world.fill(40, |id| id.to_string()).await;
    let first = Process::start(&world, &[]);
    eventually("the first delivers", async || first_service.count() == 2).await;
    first.signal("STOP");
    tokio::time::sleep(Duration::from_millis(500)).await;
    let delivered = first_service.count();

    let second_service = Service::ok().await;
    let port = second_service.port;
    world.with_file(|config| config["subscriptions"][0]["deliver"]["port"] = port.into());
    world.run().await;
    eventually("another one has taken over", async || second_service.count() > 30).await;
    world.until_done("all-0").await;
    first.signal("CONT");
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(first_service.count(), delivered, "the first went on with what it held");
}

#[tokio::test]
async fn sigterm_lets_a_publish_in_flight_end() {
    let world = World::start(Setup { sidecar: false, ..Setup::default() }).await;
    let mut process = Process::start(&world, &[]);
    process.until_connected().await;
    // Nobody answers, so the publish waits until its time is up.
    world.js.delete_stream("EVENTS").await.unwrap();
    let _silent = world.listen_without_an_answer().await;
    let local = process.local();
    let publish = tokio::spawn(async move { post(local, "/v1/events/T", &[], "").await });
    tokio::time::sleep(Duration::from_millis(300)).await;
    process.terminate();
    assert_eq!(publish.await.unwrap().status, 504);
    assert_eq!(until_ended(&mut process.child).await, Some(0));
}

#[tokio::test]
async fn a_drain_without_a_sidecar_fails_with_a_sentence() {
    let mut command = program();
    let output = command
        .args(["drain", "--local-address"])
        .arg(format!("127.0.0.1:{}", free_port().unwrap()))
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stderr).unwrap().contains("MURMUR_LOCAL_ADDRESS"));
}

#[tokio::test]
async fn the_services_pre_stop_is_answered_after_endpoints_have_settled_and_deliveries_have_ended() {
    let service = Service::start(|_| (200, Duration::from_secs(7))).await;
    let subscriptions = vec![subscription("all", service.port, json!({"policy": "none"}))];
    let world = World::start(Setup { subscriptions, ..Setup::default() }).await;
    world.publish("1", "k").await;
    eventually("it is with the service", async || service.count() == 1).await;
    let asked = Instant::now();
    assert_eq!(get(world.admin, "/drained").await.status, 200);
    assert!(asked.elapsed() >= Duration::from_secs(6), "{:?}", asked.elapsed());
    assert_eq!(world.outstanding("all-all").await, (0, 0));
}
