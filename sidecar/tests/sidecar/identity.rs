//! Who the sidecar is on the bus: with the permissions that the operator gives
//! it, no more, it does all of the above; and a new JWT takes effect at once.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use data_encoding::BASE64URL_NOPAD;
use murmur_mesh::durable::{DurableName, Shard};
use murmur_mesh::stream::DEAD_LETTERS;
use murmur_mesh::subject;
use nkeys::KeyPair;
use serde_json::{Value, json};

use crate::support::{Broker, Service, Setup, Wire, World, eventually, key, post, subscription};

/// As murmur-plan allows them.
fn permissions(types: &[&str]) -> (Vec<String>, Vec<String>) {
    let service = "users".parse().unwrap();
    let mut publish: Vec<String> =
        types.iter().map(|one| subject::publish_permission(&service, &one.parse().unwrap())).collect();
    let name = "all".parse().unwrap();
    let durable = DurableName::new(&name, Shard::Number(0), None);
    publish.extend(subject::durable_permissions(&durable));
    publish.push(subject::dead_letters_of(&service, &name));
    publish.push(subject::config_request(&service));
    publish.push(subject::report_permission(&service));
    let inbox = format!("{}.>", key().inbox_prefix());
    let (config, report) = (subject::config(&service), subject::report_permission(&service));
    (publish, vec![inbox, config, report, subject::leader_elected(&durable)])
}

fn quoted(subjects: &[String]) -> String {
    subjects.iter().map(|one| format!("{one:?}")).collect::<Vec<_>>().join(", ")
}

#[tokio::test]
async fn the_planned_permissions_are_enough_and_no_request_is_refused() {
    let (publish, subscribe) = permissions(&["T"]);
    let broker = format!(
        "accounts {{ M {{ jetstream: enabled, users: [
            {{user: admin, password: x}},
            {{user: users, password: y, permissions: {{publish: {{allow: [{}]}}, subscribe: {{allow: [{}]}}}}}}
        ] }} }}",
        quoted(&publish),
        quoted(&subscribe)
    );
    let service = Service::start(|one| (if one.id() == "bad" { 400 } else { 200 }, Duration::ZERO)).await;
    let subscriptions = vec![subscription("all", service.port, json!({"policy": "key", "shards": 1}))];
    let mut world = World::start(Setup {
        broker,
        user: Some(("users".into(), "y".into())),
        administrator: Some(("admin".into(), "x".into())),
        subscriptions,
        ..Setup::default()
    })
    .await;
    world.publish("1", "k").await;
    world.publish("bad", "k").await;
    world.publish("3", "k").await;
    world.until_done("all-0").await;
    assert_eq!(service.ids(), ["1", "bad", "3"]);
    assert_eq!(world.stored(DEAD_LETTERS).await, 1);
    world.configure(|config| config["logLevel"] = "debug".into()).await;
    world.until_configured().await;
    world.stop().await;
    assert!(!world.broker.log().contains("Violation"), "{}", world.broker.log());
}

/// An operator, a mesh's account and its users, in a server's configuration.
struct Authority {
    account: KeyPair,
    configuration: String,
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

fn jwt(signer: &KeyPair, subject: &str, issued: u64, expires: u64, nats: &Value) -> String {
    let header = json!({"typ": "JWT", "alg": "ed25519-nkey"});
    let claims = json!({
        "jti": format!("{issued}-{expires}"), "iat": issued, "exp": expires, "iss": signer.public_key(),
        "name": "test", "sub": subject, "nats": nats,
    });
    let part = |value: &Value| BASE64URL_NOPAD.encode(value.to_string().as_bytes());
    let signed = format!("{}.{}", part(&header), part(&claims));
    let signature = BASE64URL_NOPAD.encode(&signer.sign(signed.as_bytes()).unwrap());
    format!("{signed}.{signature}")
}

impl Authority {
    fn new() -> Self {
        let operator = KeyPair::new_operator();
        let account = KeyPair::new_account();
        let system = KeyPair::new_account();
        let limits = json!({
            "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": true,
            "conn": -1, "leaf": -1, "mem_storage": -1, "disk_storage": -1, "streams": -1, "consumer": -1,
        });
        let of_account = |key: &KeyPair, limits: &Value| {
            let nats = json!({"limits": limits, "type": "account", "version": 2});
            jwt(&operator, &key.public_key(), now(), 0, &nats)
        };
        let of_operator = jwt(
            &operator,
            &operator.public_key(),
            now(),
            0,
            &json!({"type": "operator", "version": 2, "system_account": system.public_key()}),
        );
        let mut without_jetstream = limits.clone();
        for name in ["mem_storage", "disk_storage", "streams", "consumer"] {
            without_jetstream[name] = 0.into();
        }
        let configuration = format!(
            "operator: {of_operator}\nsystem_account: {}\nresolver: MEMORY\nresolver_preload {{\n {}: {}\n {}: {}\n}}\n",
            system.public_key(),
            system.public_key(),
            of_account(&system, &without_jetstream),
            account.public_key(),
            of_account(&account, &limits),
        );
        Self { account, configuration }
    }

    /// A broker that trusts it, and an administrator's connection.
    async fn broker(&self) -> (Broker, async_nats::jetstream::Context) {
        let broker = Broker::start("", &self.configuration).await.unwrap();
        let administrator = KeyPair::new_user();
        let jwt = self.user(&administrator, now(), 0, None);
        let client = async_nats::ConnectOptions::with_jwt(jwt, move |nonce| {
            let signature = administrator.sign(&nonce).map_err(async_nats::AuthError::new);
            async move { signature }
        })
        .connect(broker.url())
        .await
        .unwrap();
        (broker, async_nats::jetstream::new(client))
    }

    fn user(
        &self,
        user: &KeyPair,
        issued: u64,
        expires: u64,
        allowed: Option<(Vec<String>, Vec<String>)>,
    ) -> String {
        let mut nats = json!({"type": "user", "version": 2, "subs": -1, "data": -1, "payload": -1});
        if let Some((publish, subscribe)) = allowed {
            nats["pub"] = json!({"allow": publish});
            nats["sub"] = json!({"allow": subscribe});
        }
        jwt(&self.account, &user.public_key(), issued, expires, &nats)
    }
}

#[tokio::test]
async fn a_jwt_that_comes_over_the_bus_brings_new_permissions_to_a_running_sidecar() {
    let authority = Authority::new();
    let (broker, js) = authority.broker().await;

    let user = KeyPair::new_user();
    let setup = Setup { sidecar: false, publishes: vec!["T", "U"], ..Setup::default() };
    let mut world = World::with(broker, js, setup).await;
    let old = authority.user(&user, now() - 10, 0, Some(permissions(&["T"])));
    std::fs::write(world.folder.path().join("user.jwt"), old).unwrap();
    std::fs::write(world.folder.path().join("user.nk"), user.seed().unwrap()).unwrap();
    world.run().await;
    world.publish("1", "k").await;

    let new = authority.user(&user, now(), 0, Some(permissions(&["T", "U"])));
    world.configure(|config| config["userJwt"] = new.into()).await;
    world.until_configured().await;
    eventually("the new type may be published", async || {
        post(world.local, "/v1/events/U", &[], "").await.status == 200
    })
    .await;
}

#[tokio::test]
async fn new_permissions_in_full_flight_lose_nothing_double_nothing_and_keep_the_order() {
    let authority = Authority::new();
    let (broker, js) = authority.broker().await;
    let service = Service::start(|_| (200, Duration::from_millis(1))).await;
    let subscriptions = vec![subscription("all", service.port, json!({"policy": "key", "shards": 1}))];
    let mut world =
        World::with(broker, js, Setup { sidecar: false, subscriptions, ..Setup::default() }).await;
    let user = KeyPair::new_user();
    let old = authority.user(&user, now() - 100, 0, Some(permissions(&["T"])));
    std::fs::write(world.folder.path().join("user.jwt"), old).unwrap();
    std::fs::write(world.folder.path().join("user.nk"), user.seed().unwrap()).unwrap();
    // Something is always on the way.
    let wire = Wire::to(world.broker.port(), Duration::from_millis(10)).await;
    world.wire = Some(wire.port);
    world.run().await;
    world.fill(4000, |id| format!("k{}", id % 50)).await;
    for step in 0..2 {
        eventually("some have arrived", async || service.count() > 300 + 600 * step).await;
        let new = authority.user(&user, now() - 50 + step as u64, 0, Some(permissions(&["T", "U"])));
        world.configure(|config| config["userJwt"] = new.into()).await;
        world.until_configured().await;
    }
    world.until_done("all-0").await;
    assert_eq!(service.count(), 4000);
    let mut last = std::collections::HashMap::new();
    for one in service.received() {
        let id: u64 = one.id().parse().unwrap();
        let before = last.insert(one.header("ce-partitionkey").to_owned(), id);
        assert!(before.is_none_or(|before| before < id), "{id} came after {before:?}");
    }
    let status = crate::support::get(world.local, "/v1/status").await.json();
    assert_eq!(status["bus"]["connects"], 3);
}

#[tokio::test]
async fn a_jwt_that_expires_is_replaced_from_the_file_without_a_restart() {
    let authority = Authority::new();
    let (broker, js) = authority.broker().await;
    let user = KeyPair::new_user();
    let mut world = World::with(broker, js, Setup { sidecar: false, ..Setup::default() }).await;
    let file = world.folder.path().join("user.jwt");
    let allowed = || Some(permissions(&["T"]));
    std::fs::write(&file, authority.user(&user, now() - 1, now() + 2, allowed())).unwrap();
    std::fs::write(world.folder.path().join("user.nk"), user.seed().unwrap()).unwrap();
    world.run().await;
    world.publish("1", "k").await;
    eventually("it expires", async || post(world.local, "/v1/events/T", &[], "").await.status == 503).await;
    std::fs::write(&file, authority.user(&user, now(), 0, allowed())).unwrap();
    eventually("it is back", async || post(world.local, "/v1/events/T", &[], "").await.status == 200).await;
}
