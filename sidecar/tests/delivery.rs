//! Delivery by a real sidecar from a real nats-server to a service.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use http::StatusCode;
use murmur_mesh::config::{Ordering, SidecarConfig, Subscription};
use murmur_mesh::durable::ACK_WAIT;
use murmur_mesh::{stream, subject};
use murmur_test_support::receiver::{Delivery, Receiver, Reply};
use murmur_test_support::sidecar::{Sidecar, TOKEN};
use murmur_test_support::{Broker, mesh};

const BINARY: &str = env!("CARGO_BIN_EXE_murmur-sidecar");
const SOON: Duration = Duration::from_secs(20);

struct Bed {
    broker: Broker,
    sidecar: Sidecar,
}

impl Bed {
    async fn start(subscriptions: Vec<Subscription>) -> Result<Self> {
        let broker = Broker::start("", "").await?;
        let client = mesh::client(&broker).await?;
        mesh::streams(&client, -1).await?;
        for subscription in &subscriptions {
            mesh::durables(&client, subscription).await?;
        }
        let config = mesh::config(subscriptions)?;
        let sidecar = Sidecar::start(Path::new(BINARY), &broker.url(), &config, &[]).await?;
        Ok(Self { broker, sidecar })
    }

    /// Publishes one event, as soon as the bus is there.
    async fn publish(&self, id: &str, key: &str) -> Result<()> {
        let mut last = None;
        for _ in 0..500 {
            let answer = self.sidecar.publish(id, key).await?;
            if answer.status == StatusCode::OK {
                return Ok(());
            }
            last = Some(answer);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        anyhow::bail!("{id} could not be published: {last:?} {}", self.sidecar.log())
    }

    async fn dead_letters(&self) -> Result<Vec<String>> {
        let client = mesh::client(&self.broker).await?;
        let stream = client.get_stream(stream::DEAD_LETTERS).await?;
        let last = stream.cached_info().state.last_sequence;
        let mut subjects = vec![];
        for sequence in 1..=last {
            subjects.push(stream.get_raw_message(sequence).await?.subject.to_string());
        }
        Ok(subjects)
    }
}

fn count(deliveries: &[Delivery], id: &str) -> usize {
    deliveries.iter().filter(|delivery| delivery.id() == id).count()
}

fn taken(deliveries: &[Delivery]) -> HashSet<&str> {
    deliveries.iter().filter(|delivery| delivery.status.is_success()).map(Delivery::id).collect()
}

#[tokio::test]
async fn an_event_arrives_as_it_was_published_and_only_once() -> Result<()> {
    let receiver = Receiver::accepting().await?;
    let bed = Bed::start(vec![mesh::subscription("ticks", receiver.port)?]).await?;
    bed.publish("warm-up", "").await?;
    let sent = [
        ("ce-id", "1"),
        ("ce-partitionkey", "k"),
        ("ce-subject", "a%20b"),
        ("content-type", "application/json"),
        ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
    ];
    let answer = bed.sidecar.post("/v1/events/Tick", &sent, r#"{"n": 1.0}"#).await?;
    let sequence = answer.json()["sequence"].as_u64().unwrap_or(0);
    let deliveries = receiver.wait(SOON, |all| count(all, "1") == 1).await?;
    let delivery = deliveries.iter().find(|delivery| delivery.id() == "1").cloned();
    let delivery = delivery.ok_or_else(|| anyhow::anyhow!("not there"))?;
    assert_eq!(delivery.path, "/events");
    assert_eq!(&delivery.body[..], br#"{"n": 1.0}"#);
    for (name, value) in [
        ("ce-type", "Tick"),
        ("ce-source", "/mesh/tested"),
        ("ce-specversion", "1.0"),
        ("ce-subject", "a%20b"),
        ("ce-partitionkey", "k"),
        ("content-type", "application/json"),
        ("murmur-subscription", "ticks"),
        ("murmur-sequence", &sequence.to_string()),
        ("murmur-attempt", "1"),
        ("authorization", &format!("Bearer {TOKEN}")),
    ] {
        assert_eq!(delivery.header(name), value, "{name}");
    }
    assert!(delivery.header("traceparent").starts_with("00-0af7651916cd43dd8448eb211c80319c-"));
    assert_eq!(delivery.header("nats-msg-id"), "");
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(count(&receiver.deliveries(), "1"), 1);
    Ok(())
}

#[tokio::test]
async fn a_rejected_event_is_a_dead_letter_at_once_and_the_next_goes_on() -> Result<()> {
    for status in [400, 410, 413, 415, 422] {
        let receiver = Receiver::start(move |headers| {
            Reply::status(if headers["ce-id"] == "bad" { status } else { 204 })
        })
        .await?;
        let bed = Bed::start(vec![mesh::subscription("ticks", receiver.port)?]).await?;
        bed.publish("bad", "k").await?;
        bed.publish("good", "k").await?;
        let deliveries = receiver.wait(SOON, |all| count(all, "good") == 1).await?;
        assert_eq!(count(&deliveries, "bad"), 1, "{status}");
        assert_eq!(bed.dead_letters().await?, ["dead.tested.ticks.0.1"], "{status}");
    }
    Ok(())
}

#[tokio::test]
async fn a_dead_letter_holds_the_event_unchanged_and_its_cause() -> Result<()> {
    let receiver = Receiver::start(|_| Reply::status(422)).await?;
    let bed = Bed::start(vec![mesh::subscription("ticks", receiver.port)?]).await?;
    bed.publish("bad", "k").await?;
    receiver.wait(SOON, |all| count(all, "bad") == 1).await?;
    let stream = mesh::client(&bed.broker).await?.get_stream(stream::DEAD_LETTERS).await?;
    let mut letter = stream.get_raw_message(1).await;
    for _ in 0..100 {
        if letter.is_ok() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        letter = stream.get_raw_message(1).await;
    }
    let letter = letter?;
    assert_eq!(&letter.payload[..], br#"{"id":"bad"}"#);
    let header =
        |name: &str| letter.headers.get(name).map(|value| value.as_str().to_owned()).unwrap_or_default();
    assert_eq!(header("ce-id"), "bad");
    assert_eq!(header("ce-partitionkey"), "k");
    assert_eq!(header("murmur-dead-reason"), "rejected");
    assert!(header("murmur-dead-cause").contains("422"), "{}", header("murmur-dead-cause"));
    assert_eq!(header("murmur-dead-attempts"), "1");
    assert_eq!(header("murmur-dead-sequence"), "1");
    Ok(())
}

#[tokio::test]
async fn a_service_that_answers_500_for_ever_blocks_no_other_key() -> Result<()> {
    let receiver =
        Receiver::start(|headers| Reply::status(if headers["ce-id"] == "bad" { 500 } else { 204 })).await?;
    let bed = Bed::start(vec![mesh::subscription("ticks", receiver.port)?]).await?;
    bed.publish("bad", "a").await?;
    bed.publish("behind", "a").await?;
    for number in 0..20 {
        bed.publish(&format!("other-{number}"), &format!("k{number}")).await?;
    }
    let deliveries = receiver.wait(SOON, |all| count(all, "behind") == 1).await?;
    let attempts: Vec<_> = deliveries
        .iter()
        .filter(|delivery| delivery.id() == "bad")
        .map(|delivery| delivery.header("murmur-attempt").to_owned())
        .collect();
    assert_eq!(attempts, ["1", "2", "3"]);
    // Its own key waited, the others did not.
    let place = |id: &str| deliveries.iter().rposition(|delivery| delivery.id() == id).unwrap_or(usize::MAX);
    assert!(place("behind") > place("bad"));
    assert!(place("other-0") < place("bad"), "another key waited: {:?}", receiver.ids());
    assert_eq!(bed.dead_letters().await?, ["dead.tested.ticks.0.1"]);
    Ok(())
}

#[tokio::test]
async fn a_service_that_is_down_for_three_times_its_retry_budget_misses_nothing() -> Result<()> {
    let mut receiver = Receiver::accepting().await?;
    // Its budget: 100 ms + 200 ms between three attempts.
    let bed = Bed::start(vec![mesh::subscription("ticks", receiver.port)?]).await?;
    receiver.close().await;
    for number in 0..1000 {
        bed.publish(&format!("{number}"), &format!("k{}", number % 10)).await?;
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    receiver.open().await?;
    let deliveries = receiver.wait(Duration::from_secs(40), |all| taken(all).len() == 1000).await?;
    in_order_per_key(&deliveries);
    assert_eq!(bed.dead_letters().await?, Vec::<String>::new());
    assert!(
        deliveries.iter().all(|delivery| delivery.header("murmur-attempt") == "1"),
        "an outage was counted"
    );
    Ok(())
}

#[tokio::test]
async fn a_503_holds_the_subscription_with_one_probe_at_a_time() -> Result<()> {
    let open = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let gate = open.clone();
    let receiver = Receiver::start(move |_| {
        Reply::status(if gate.load(std::sync::atomic::Ordering::Relaxed) { 204 } else { 503 })
    })
    .await?;
    let bed = Bed::start(vec![mesh::subscription("ticks", receiver.port)?]).await?;
    for number in 0..200 {
        bed.publish(&format!("{number}"), &format!("k{number}")).await?;
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    let refused = receiver.deliveries().len();
    // At most what was in flight when it began, and then one probe after another.
    assert!(refused < 40, "a service that is away was asked {refused} times in two seconds");
    open.store(true, std::sync::atomic::Ordering::Relaxed);
    receiver.wait(Duration::from_secs(30), |all| taken(all).len() == 200).await?;
    assert_eq!(bed.dead_letters().await?, Vec::<String>::new());
    Ok(())
}

/// Each key's events, without repeats, must come in the order of the store.
fn in_order_per_key(deliveries: &[Delivery]) {
    let mut last: HashMap<&str, u64> = HashMap::new();
    let mut seen = HashSet::new();
    for delivery in deliveries.iter().filter(|delivery| delivery.status.is_success()) {
        if seen.insert(delivery.id()) {
            let sequence = delivery.header("murmur-sequence").parse().unwrap_or(0);
            let before = last.insert(delivery.header("ce-partitionkey"), sequence).unwrap_or(0);
            assert!(before < sequence, "{} (sequence {sequence}) came after {before}", delivery.id());
        }
    }
}

#[tokio::test]
async fn order_per_key_is_kept_through_retries() -> Result<()> {
    let failures = std::sync::Mutex::new(HashMap::<String, u32>::new());
    let receiver = Receiver::start(move |headers| {
        let id = headers["ce-id"].to_str().unwrap_or_default().to_owned();
        let mut failures = failures.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let failed = failures.entry(id.clone()).or_default();
        // Every seventh event fails once.
        if id.parse::<u32>().unwrap_or(0) % 7 == 0 && *failed == 0 {
            *failed += 1;
            return Reply::status(500);
        }
        Reply::status(204)
    })
    .await?;
    let mut subscription = mesh::subscription("ticks", receiver.port)?;
    subscription.ordering = Ordering::Key { shards: 4 };
    let bed = Bed::start(vec![subscription]).await?;
    for number in 0..210 {
        bed.publish(&format!("{number}"), &format!("k{}", number % 6)).await?;
    }
    let deliveries = receiver.wait(SOON, |all| taken(all).len() == 210).await?;
    in_order_per_key(&deliveries);
    assert_eq!(bed.dead_letters().await?, Vec::<String>::new());
    Ok(())
}

#[tokio::test]
async fn a_service_slower_than_the_broker_waits_is_not_sent_the_event_again() -> Result<()> {
    let delay = ACK_WAIT + Duration::from_secs(3);
    let receiver = Receiver::start(move |headers| Reply {
        delay: if headers["ce-id"] == "slow" { delay } else { Duration::ZERO },
        ..Reply::status(204)
    })
    .await?;
    let mut subscription = mesh::subscription("ticks", receiver.port)?;
    subscription.deliver.timeout = delay * 2;
    let bed = Bed::start(vec![subscription]).await?;
    bed.publish("slow", "k").await?;
    bed.publish("next", "k").await?;
    let deliveries = receiver.wait(delay * 2, |all| count(all, "next") == 1).await?;
    assert_eq!(count(&deliveries, "slow"), 1);
    Ok(())
}

#[tokio::test]
async fn events_without_an_order_are_shared_by_two_sidecars() -> Result<()> {
    let receiver =
        Receiver::start(|_| Reply { delay: Duration::from_millis(30), ..Reply::status(204) }).await?;
    let mut subscription = mesh::subscription("ticks", receiver.port)?;
    subscription.ordering = Ordering::None;
    subscription.deliver.concurrency = 2;
    let config = mesh::config(vec![subscription.clone()])?;
    let bed = Bed::start(vec![subscription]).await?;
    let second =
        Sidecar::start(Path::new(BINARY), &bed.broker.url(), &config, &[("MURMUR_POD", "tested-1")]).await?;
    for number in 0..100 {
        bed.publish(&format!("{number}"), "").await?;
    }
    receiver.wait(SOON, |all| taken(all).len() == 100).await?;
    for sidecar in [&bed.sidecar, &second] {
        let metrics = murmur_test_support::http::get(sidecar.admin, "/metrics").await?;
        let text = String::from_utf8_lossy(&metrics.body).into_owned();
        let delivered: f64 = text
            .lines()
            .filter(|line| line.starts_with("murmur_deliveries_total{") && line.contains("done"))
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum();
        ensure!(delivered > 10.0, "one sidecar delivered {delivered}: {text}");
    }
    Ok(())
}

#[tokio::test]
async fn what_is_no_event_in_the_store_becomes_a_dead_letter() -> Result<()> {
    let receiver = Receiver::accepting().await?;
    let bed = Bed::start(vec![mesh::subscription("ticks", receiver.port)?]).await?;
    mesh::client(&bed.broker).await?.publish("events.other.3.Tick", "not an event".into()).await?.await?;
    bed.publish("good", "k").await?;
    receiver.wait(SOON, |all| count(all, "good") == 1).await?;
    assert_eq!(bed.dead_letters().await?, ["dead.tested.ticks.0.1"]);
    assert_eq!(receiver.deliveries().len(), 1);
    Ok(())
}

#[tokio::test]
async fn a_broker_that_was_killed_costs_nothing_that_was_acknowledged() -> Result<()> {
    let receiver = Receiver::accepting().await?;
    let mut bed = Bed::start(vec![mesh::subscription("ticks", receiver.port)?]).await?;
    for number in 0..50 {
        bed.publish(&format!("before-{number}"), &format!("k{}", number % 5)).await?;
    }
    bed.broker.kill().await?;
    tokio::time::sleep(Duration::from_millis(500)).await;
    ensure!(bed.sidecar.publish("while-away", "k").await?.status == StatusCode::SERVICE_UNAVAILABLE);
    bed.broker.resume().await?;
    for number in 0..50 {
        bed.publish(&format!("after-{number}"), &format!("k{}", number % 5)).await?;
    }
    let deliveries = receiver.wait(Duration::from_secs(40), |all| taken(all).len() >= 100).await?;
    in_order_per_key(&deliveries);
    assert_eq!(bed.dead_letters().await?, Vec::<String>::new());
    Ok(())
}

/// Publishes a configuration as the operator does.
async fn configure(broker: &Broker, config: &SidecarConfig) -> Result<()> {
    let text = serde_json::to_vec(config)?;
    mesh::client(broker).await?.publish(subject::config(&config.service), text.into()).await?.await?;
    Ok(())
}

#[tokio::test]
async fn a_new_configuration_is_taken_up_without_a_restart_and_loses_nothing() -> Result<()> {
    let (first, second) = (Receiver::accepting().await?, Receiver::accepting().await?);
    let old = mesh::subscription("old", first.port)?;
    let bed = Bed::start(vec![old.clone()]).await?;
    let new = mesh::subscription("new", second.port)?;
    mesh::durables(&mesh::client(&bed.broker).await?, &new).await?;
    for number in 0..20 {
        bed.publish(&format!("{number}"), "k").await?;
    }
    // The new one comes, the old one stays.
    let mut config = mesh::config(vec![old, new.clone()])?;
    config.generation = 2;
    config.publishes.push("Other".parse()?);
    configure(&bed.broker, &config).await?;
    second.wait(SOON, |all| taken(all).len() == 20).await?;
    ensure!(bed.sidecar.post("/v1/events/Other", &[], "").await?.status == StatusCode::OK);
    // The old one goes; a lower generation changes nothing.
    config.generation = 3;
    config.subscriptions = vec![new];
    configure(&bed.broker, &config).await?;
    let mut stale = config.clone();
    stale.generation = 1;
    stale.publishes.clear();
    configure(&bed.broker, &stale).await?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    bed.publish("last", "k").await?;
    second.wait(SOON, |all| count(all, "last") == 1).await?;
    assert_eq!(count(&first.deliveries(), "last"), 0);
    assert_eq!(taken(&first.deliveries()).len(), 20);
    assert_eq!(first.deliveries().len(), 20, "something came twice");
    Ok(())
}
