//! Queries: several services of one mesh, each with a sidecar of its own, on
//! one real broker.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, Uri};
use axum::response::Response;
use bytes::Bytes;
use murmur_sidecar::Listeners;
use murmur_sidecar::logging::Level;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::support::{Answer, Setup, World, eventually, free_port, get, post};

/// What a service answers.
#[derive(Clone)]
enum Says {
    Json(&'static str),
    Status(u16),
    Text(&'static str),
    Bytes(usize),
    Never,
}

type Log = Arc<Mutex<Vec<(Uri, HeaderMap, Bytes)>>>;

/// A service beside the asking one: its HTTP server and its sidecar.
struct Asked {
    port: u16,
    says: Says,
    log: Log,
    server: Option<JoinHandle<()>>,
    local: SocketAddr,
    admin: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    sidecar: Option<JoinHandle<()>>,
}

impl Asked {
    async fn start(world: &World, service: &str, says: Says) -> Self {
        let mut asked = Self {
            port: free_port().unwrap(),
            says,
            log: Log::default(),
            server: None,
            local: ([127, 0, 0, 1], 1).into(),
            admin: ([127, 0, 0, 1], 1).into(),
            stop: None,
            sidecar: None,
        };
        asked.listen().await;
        asked.run(world, service).await;
        asked.until_takes(world, service).await;
        asked
    }

    /// Starts the service.
    async fn listen(&mut self) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, self.port)).await.unwrap();
        let router = Router::new().fallback(answer).with_state((self.says.clone(), self.log.clone()));
        self.server = Some(tokio::spawn(async move { axum::serve(listener, router).await.unwrap() }));
    }

    /// Stops the service: its port refuses connections.
    async fn mute(&mut self) {
        let server = self.server.take().unwrap();
        server.abort();
        let _ = server.await;
    }

    /// Starts its sidecar.
    async fn run(&mut self, world: &World, service: &str) {
        let mut settings = world.settings();
        settings.config.service = service.parse().unwrap();
        settings.config.asks.clear();
        settings.config.answers =
            serde_json::from_value(json!([{"query": "Q", "port": self.port, "path": "/queries/q?x=1"}]))
                .unwrap();
        let bind = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
        let listeners = Listeners { local: vec![bind().await.unwrap()], admin: bind().await.unwrap() };
        self.local = listeners.local[0].local_addr().unwrap();
        self.admin = listeners.admin.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        self.stop = Some(stop);
        self.sidecar = Some(tokio::spawn(async move {
            let stopped = async {
                let _ = stopped.await;
            };
            murmur_sidecar::run(settings, async { Ok(listeners) }, Level::default(), stopped).await.unwrap();
        }));
    }

    /// Waits until its sidecar takes queries: one of another type of nobody's shows it.
    async fn until_takes(&self, world: &World, service: &str) {
        let subject = murmur_mesh::subject::query(&service.parse().unwrap(), &"Q".parse().unwrap());
        let before = self.count();
        eventually("queries are taken", async || {
            let headers = query_headers();
            let reply = "answers.nobody.1".to_owned();
            let client = world.js.client();
            client
                .publish_with_reply_and_headers(subject.clone(), reply, headers, "{}".into())
                .await
                .unwrap();
            tokio::time::sleep(Duration::from_millis(20)).await;
            self.count() > before
        })
        .await;
        self.log.lock().unwrap().clear();
    }

    fn count(&self) -> usize {
        self.log.lock().unwrap().len()
    }

    async fn metric(&self, name: &str) -> u64 {
        let text = String::from_utf8(get(self.admin, "/metrics").await.body.to_vec()).unwrap();
        let line = text.lines().find(|line| line.starts_with(name));
        line.map_or(0, |line| line.rsplit(' ').next().unwrap().parse().unwrap())
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        self.server.iter().for_each(JoinHandle::abort);
        self.sidecar.iter().for_each(JoinHandle::abort);
    }
}

fn query_headers() -> async_nats::HeaderMap {
    let mut headers = async_nats::HeaderMap::new();
    for (name, value) in [
        ("murmur-format", "1"),
        ("ce-specversion", "1.0"),
        ("ce-id", "1"),
        ("ce-source", "/x"),
        ("ce-type", "Q"),
        ("murmur-timeout", "1s"),
    ] {
        headers.insert(name, value);
    }
    headers
}

async fn answer(
    State((says, log)): State<(Says, Log)>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    log.lock().unwrap().push((uri, headers, body));
    let response = Response::builder();
    match says {
        Says::Json(text) => response.header("content-type", "application/json").body(Body::from(text)),
        Says::Status(status) => {
            response.status(status).header("content-type", "application/json").body(Body::from("{}"))
        }
        Says::Text(text) => response.header("content-type", "text/plain").body(Body::from(text)),
        Says::Bytes(number) => response.body(Body::from(vec![b'x'; number])),
        Says::Never => std::future::pending().await,
    }
    .unwrap()
}

/// The asking service is `users`.
async fn world(services: &[&str]) -> World {
    let config = json!({"asks": [{"query": "Q", "services": services}, {"query": "Nobody", "services": []}]});
    let broker = "max_payload: 2MB".to_owned();
    World::start(Setup { config, broker, ..Setup::default() }).await
}

async fn ask(world: &World, headers: &[(&str, &str)]) -> Answer {
    let mut all = vec![("content-type", "application/json")];
    all.extend(headers);
    let asked = post(world.local, "/v1/queries/Q", &all, r#"{"user": 1}"#);
    // No query of these tests has to wait for its time.
    tokio::time::timeout(Duration::from_secs(25), asked).await.unwrap()
}

fn outcomes(answer: &Answer) -> Vec<(String, String)> {
    assert_eq!(answer.status, 200, "{answer:?}");
    let json = answer.json();
    let results = json["results"].as_array().unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    results.iter().map(|result| (text(&result["service"]), text(&result["outcome"]))).collect()
}

fn expected(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(service, outcome)| ((*service).to_owned(), (*outcome).to_owned())).collect()
}

#[tokio::test]
async fn every_service_that_answers_is_asked_once_and_the_answers_come_together() {
    let world = world(&["orders", "products"]).await;
    let orders = Asked::start(&world, "orders", Says::Json(r#"[{"product": 5.0}]"#)).await;
    let products = Asked::start(&world, "products", Says::Text("hi")).await;
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let answer = ask(&world, &[("murmur-timeout", "20s"), ("ce-id", "7"), ("traceparent", trace)]).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.headers["content-type"], "application/json");
    assert_eq!(
        answer.json(),
        json!({"complete": true, "results": [
            {"service": "orders", "outcome": "answered", "status": 200,
                "contentType": "application/json", "data": [{"product": 5.0}]},
            {"service": "products", "outcome": "answered", "status": 200,
                "contentType": "text/plain", "dataBase64": "aGk="},
        ]})
    );
    for asked in [&orders, &products] {
        let log = asked.log.lock().unwrap();
        let [(uri, headers, body)] = log.as_slice() else { panic!("{log:?}") };
        assert_eq!(uri.to_string(), "/queries/q?x=1");
        assert_eq!(&body[..], br#"{"user": 1}"#);
        for (name, value) in [
            ("ce-type", "Q"),
            ("ce-id", "7"),
            ("ce-source", "/shop/users"),
            ("content-type", "application/json"),
            ("authorization", "Bearer a-token"),
        ] {
            assert_eq!(headers[name], value, "{name}");
        }
        assert!(headers["murmur-timeout"].to_str().unwrap().starts_with("1"), "{headers:?}");
    }
}

#[tokio::test]
async fn a_part_that_is_missing_is_named_and_keeps_nobody_waiting_that_is_not_there() {
    let world = world(&["absent", "broken", "mute", "orders"]).await;
    let _orders = Asked::start(&world, "orders", Says::Json("1")).await;
    let _broken = Asked::start(&world, "broken", Says::Status(404)).await;
    let mut mute = Asked::start(&world, "mute", Says::Json("1")).await;
    mute.mute().await;
    let answer = ask(&world, &[("murmur-timeout", "1m")]).await;
    let all = [("absent", "absent"), ("broken", "failed"), ("mute", "absent"), ("orders", "answered")];
    assert_eq!(outcomes(&answer), expected(&all));
    assert_eq!(answer.json()["complete"], false);
    assert_eq!(answer.json()["results"][1]["status"], 404);
    // It comes back by itself.
    mute.listen().await;
    eventually("it answers again", async || outcomes(&ask(&world, &[]).await)[2].1 == "answered").await;
}

#[tokio::test]
async fn a_service_that_takes_too_long_times_out_alone_and_a_quorum_does_not_wait_for_it() {
    let world = world(&["orders", "products", "slow"]).await;
    let _orders = Asked::start(&world, "orders", Says::Json("1")).await;
    let _products = Asked::start(&world, "products", Says::Json("2")).await;
    let _slow = Asked::start(&world, "slow", Says::Never).await;
    let answer = ask(&world, &[("murmur-timeout", "3s")]).await;
    let all = [("orders", "answered"), ("products", "answered"), ("slow", "timedOut")];
    assert_eq!(outcomes(&answer), expected(&all));
    let answer = ask(&world, &[("murmur-timeout", "5m"), ("murmur-quorum", "2")]).await;
    let all = [("orders", "answered"), ("products", "answered"), ("slow", "notAwaited")];
    assert_eq!(outcomes(&answer), expected(&all));
}

#[tokio::test]
async fn a_query_without_a_result_is_answered_with_the_cause() {
    let mut world = world(&["absent", "silent"]).await;
    let _silent = Asked::start(&world, "silent", Says::Never).await;
    let large = "x".repeat(2_100_000);
    for (path, headers, body, status, code) in [
        ("/v1/queries/Q", [("murmur-timeout", "500ms")].as_slice(), "", 504, "noAnswer"),
        ("/v1/queries/Nobody", &[], "", 504, "noAnswer"),
        ("/v1/queries/Other", &[], "", 403, "queryNotAllowed"),
        ("/v1/queries/a..b", &[], "", 400, "malformed"),
        ("/v1/queries/Q", &[("ce-type", "Other")], "", 400, "malformed"),
        ("/v1/queries/Q", &[("murmur-quorum", "3")], "", 400, "badQuorum"),
        ("/v1/queries/Q", &[("murmur-quorum", "0")], "", 400, "badQuorum"),
        ("/v1/queries/Q", &[("murmur-timeout", "6m")], "", 400, "badTimeout"),
        ("/v1/queries/Q", &[], &large, 413, "tooLarge"),
    ] {
        let answer = post(world.local, path, headers, body.to_owned()).await;
        assert_eq!((answer.status.as_u16(), answer.code().as_str()), (status, code), "{path} {headers:?}");
        assert_eq!(answer.headers["murmur-error"], code);
    }
    let answer = ask(&world, &[("murmur-timeout", "500ms")]).await;
    let detail = answer.json()["detail"].as_str().unwrap().to_owned();
    assert!(detail.contains("absent absent, silent timedOut"), "{detail}");
    assert_eq!(get(world.local, "/v1/queries/Q").await.status, 405);
    world.broker.kill().await.unwrap();
    eventually("the bus is away", async || {
        let answer = ask(&world, &[("murmur-timeout", "500ms")]).await;
        answer.status == 503 && answer.code() == "busAway"
    })
    .await;
    world.broker.resume().await.unwrap();
    eventually("the bus is there", async || ask(&world, &[("murmur-timeout", "500ms")]).await.status == 504)
        .await;
}

#[tokio::test]
async fn replicas_share_the_queries_and_one_whose_service_is_gone_costs_none() {
    let world = world(&["orders"]).await;
    let first = Asked::start(&world, "orders", Says::Json("1")).await;
    let mut second = Asked::start(&world, "orders", Says::Json("2")).await;
    for number in 0..100 {
        if number == 50 {
            assert!(first.count() > 5 && second.count() > 5, "{} and {}", first.count(), second.count());
            second.mute().await;
        }
        assert_eq!(outcomes(&ask(&world, &[]).await), expected(&[("orders", "answered")]), "{number}");
    }
}

#[tokio::test]
async fn a_pod_that_ends_leaves_its_queries_to_others() {
    let world = world(&["orders"]).await;
    let orders = Asked::start(&world, "orders", Says::Json("1")).await;
    assert_eq!(post(orders.local, "/v1/drain", &[], "").await.status, 200);
    eventually("nobody takes them", async || {
        let answer = ask(&world, &[]).await;
        answer.status == 504 && answer.json()["detail"].as_str().unwrap().contains("orders absent")
    })
    .await;
}

#[tokio::test]
async fn an_answer_that_is_too_large_fails_and_the_others_come() {
    let world = world(&["large", "orders"]).await;
    let large = Asked::start(&world, "large", Says::Bytes((1 << 20) + 1)).await;
    let _orders = Asked::start(&world, "orders", Says::Bytes(1 << 20)).await;
    let answer = ask(&world, &[]).await;
    assert_eq!(outcomes(&answer), expected(&[("large", "failed"), ("orders", "answered")]));
    assert!(answer.json()["results"][0]["detail"].as_str().unwrap().contains("1048576"), "{answer:?}");
    assert!(large.metric(r#"murmur_sidecar_answers_total{query="Q",outcome="broken"}"#).await >= 1);
}

#[tokio::test]
async fn a_query_that_wants_its_answer_among_the_events_is_not_answered() {
    let world = world(&["orders"]).await;
    let orders = Asked::start(&world, "orders", Says::Json("1")).await;
    let before = world.stored(murmur_mesh::stream::EVENTS).await;
    let client = world.js.client();
    let reply = "events.orders.1.T".to_owned();
    client
        .publish_with_reply_and_headers("query.orders.Q", reply, query_headers(), "{}".into())
        .await
        .unwrap();
    eventually("it is refused", async || {
        orders.metric(r#"murmur_sidecar_answers_total{query="Q",outcome="refused"}"#).await == 1
    })
    .await;
    assert_eq!((orders.count(), world.stored(murmur_mesh::stream::EVENTS).await), (0, before));
}

#[tokio::test]
async fn what_is_asked_and_answered_follows_the_configuration() {
    let mut world = world(&[]).await;
    let answers = free_port().unwrap();
    let router = Router::new().fallback(answer).with_state((Says::Json("1"), Log::default()));
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, answers)).await.unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    assert_eq!(ask(&world, &[]).await.code(), "noAnswer");
    // A service may ask itself.
    world
        .configure(|config| {
            config["asks"] = json!([{"query": "Q", "services": ["users"]}]);
            config["answers"] = json!([{"query": "Q", "port": answers, "path": "/"}]);
        })
        .await;
    eventually("it answers", async || ask(&world, &[]).await.status == 200).await;
    world.configure(|config| config["answers"] = json!([])).await;
    eventually("it answers no more", async || ask(&world, &[]).await.status == 504).await;
    world.configure(|config| config["asks"] = json!([])).await;
    eventually("it may not ask", async || ask(&world, &[]).await.status == 403).await;
    let text = String::from_utf8(get(world.admin, "/metrics").await.body.to_vec()).unwrap();
    for line in ["murmur_sidecar_queries_in_flight 0", "murmur_sidecar_answers_in_flight 0"] {
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }
    assert!(text.contains("murmur_sidecar_queries_total{query=\"Q\",outcome=\"complete\"}"), "{text}");
    assert!(text.contains("murmur_sidecar_queries_total{query=\"\",outcome=\"refused\"}"), "{text}");
}
