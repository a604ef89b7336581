//! Calls to other services: real HTTP servers on addresses of loopback, found
//! by a real DNS server.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::HeaderMap;
use axum::response::Response;
use bytes::Bytes;
use futures::StreamExt;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::support::{Dns, Http, Setup, World, eventually, free_port, get, post};

fn ip(last: u8) -> IpAddr {
    [127, 0, 0, last].into()
}

/// What a replica has seen of a request.
#[derive(Debug, Clone)]
struct Seen {
    replica: IpAddr,
    method: String,
    uri: String,
    headers: HeaderMap,
    body: Bytes,
}

type Log = Arc<Mutex<Vec<Seen>>>;

/// Replicas of the service `products`, on one port of several addresses.
struct Products {
    port: u16,
    log: Log,
    servers: BTreeMap<IpAddr, JoinHandle<()>>,
}

impl Products {
    async fn start(replicas: &[IpAddr]) -> Self {
        let mut products = Self { port: free_port().unwrap(), log: Log::default(), servers: BTreeMap::new() };
        for address in replicas {
            products.add(*address).await;
        }
        products
    }

    async fn add(&mut self, address: IpAddr) {
        let listener = TcpListener::bind((address, self.port)).await.unwrap();
        let router = Router::new().fallback(answer).with_state((address, self.log.clone()));
        let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        self.servers.insert(address, server);
    }

    /// Takes a replica away: its port refuses connections.
    async fn remove(&mut self, address: IpAddr) {
        let server = self.servers.remove(&address).unwrap();
        server.abort();
        let _ = server.await;
        eventually("the port is closed", async || TcpStream::connect((address, self.port)).await.is_err())
            .await;
    }

    fn seen(&self) -> Vec<Seen> {
        self.log.lock().unwrap().clone()
    }

    fn counts(&self) -> BTreeMap<IpAddr, usize> {
        let mut counts = BTreeMap::new();
        for seen in self.seen() {
            *counts.entry(seen.replica).or_default() += 1;
        }
        counts
    }
}

impl Drop for Products {
    fn drop(&mut self) {
        self.servers.values().for_each(JoinHandle::abort);
    }
}

async fn answer(State((replica, log)): State<(IpAddr, Log)>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path().to_owned();
    let body = body.collect().await.unwrap().to_bytes();
    let (method, uri) = (parts.method.to_string(), parts.uri.to_string());
    log.lock().unwrap().push(Seen { replica, method, uri, headers: parts.headers, body: body.clone() });
    let answer = Response::builder().header("x-replica", replica.to_string());
    match path.as_str() {
        "/slow" => {
            tokio::time::sleep(Duration::from_secs(60)).await;
            answer.body(Body::empty())
        }
        "/missing" => answer
            .status(404)
            .header("content-type", "application/problem+json")
            .header("murmur-error", "noReplicas")
            .header("connection", "x-secret")
            .header("x-secret", "1")
            .body(Body::from(r#"{"code":"mine"}"#)),
        "/fails" => answer.status(500).body(Body::empty()),
        _ => answer.body(Body::from(body)),
    }
    .unwrap()
}

async fn world(dns: &Dns, port: u16) -> World {
    let config = json!({"calls": [
        {"service": "products", "port": port, "timeout": 20_000},
        {"service": "absent", "timeout": 1000},
    ]});
    World::start(Setup { config, dns: Some(dns.address), ..Setup::default() }).await
}

#[tokio::test]
async fn a_call_reaches_its_target_as_it_is_and_so_does_the_answer() {
    let (dns, products) = (Dns::start().await, Products::start(&[ip(1)]).await);
    dns.pods("products", &[ip(1)]);
    let world = world(&dns, products.port).await;
    let mut client = Http::connect(world.local).await;
    let headers = [("x-mine", "1"), ("connection", "x-hop"), ("x-hop", "1"), ("murmur-timeout", "10s")];
    for (method, path) in [
        ("GET", "/a%2Fb//c?q=%20+x&y"),
        ("PATCH", "/"),
        ("DELETE", "/products/5"),
        ("PROPFIND", "/?z"),
        ("POST", "/x"),
    ] {
        let answer = client.send(method, &format!("/v1/services/products{path}"), &headers, "body").await;
        assert_eq!((answer.status.as_u16(), &answer.body[..]), (200, &b"body"[..]), "{method}");
        assert_eq!(answer.headers["x-replica"], "127.0.0.1");
        let seen = products.seen().pop().unwrap();
        assert_eq!((seen.method.as_str(), seen.uri.as_str()), (method, path));
        assert_eq!(&seen.body[..], b"body");
        assert_eq!(seen.headers["host"], "products");
        assert_eq!(seen.headers["x-mine"], "1");
        for gone in ["x-hop", "murmur-timeout", "connection"] {
            assert!(!seen.headers.contains_key(gone), "{gone}");
        }
    }
    let head = client.send("HEAD", "/v1/services/products/x", &[], "").await;
    assert_eq!((head.status.as_u16(), head.body.len()), (200, 0));
    assert_eq!(products.seen().pop().unwrap().method, "HEAD");
}

#[tokio::test]
async fn an_error_of_the_target_is_passed_on_and_cannot_pretend_to_be_the_sidecars() {
    let (dns, products) = (Dns::start().await, Products::start(&[ip(1)]).await);
    dns.pods("products", &[ip(1)]);
    let world = world(&dns, products.port).await;
    let answer = get(world.local, "/v1/services/products/missing").await;
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (404, "mine"));
    for gone in ["murmur-error", "x-secret"] {
        assert!(!answer.headers.contains_key(gone), "{gone}");
    }
}

#[tokio::test]
async fn what_cannot_be_called_is_answered_with_the_cause() {
    let (dns, products) = (Dns::start().await, Products::start(&[]).await);
    let world = world(&dns, products.port).await;
    let upgrade = [("connection", "upgrade"), ("upgrade", "websocket")];
    for (path, headers, status, code) in [
        ("/v1/services/orders/x", [].as_slice(), 403, "callNotAllowed"),
        ("/v1/services/", &[], 403, "callNotAllowed"),
        ("/v1/services/absent/x", &[], 503, "noReplicas"),
        ("/v1/services/products/x", &[], 503, "noReplicas"),
        ("/v1/services/products/x", &[("murmur-timeout", "soon")], 400, "badTimeout"),
        ("/v1/services/products/x", &[("murmur-timeout", "2h")], 400, "badTimeout"),
        ("/v1/services/products/x", &upgrade, 501, "upgradeNotSupported"),
    ] {
        let answer = post(world.local, path, headers, "").await;
        assert_eq!((answer.status.as_u16(), answer.code().as_str()), (status, code), "{path} {headers:?}");
        assert_eq!(answer.headers["murmur-error"], code);
    }
    // There is a pod, but nothing listens in it.
    dns.pods("products", &[ip(1)]);
    eventually("the pod is found", async || {
        let answer = post(world.local, "/v1/services/products/x", &[], "").await;
        assert_eq!(answer.status, 503);
        assert_eq!(answer.headers["retry-after"], "1");
        answer.code() == "unreachable"
    })
    .await;
}

#[tokio::test]
async fn a_target_that_takes_too_long_is_a_504_and_calls_past_the_bound_are_a_429() {
    let (dns, products) = (Dns::start().await, Products::start(&[ip(1)]).await);
    dns.pods("products", &[ip(1)]);
    let config = json!({"calls": [{"service": "products", "port": products.port, "timeout": 300}]});
    let mut setup = Setup { config, dns: Some(dns.address), ..Setup::default() };
    setup.limits.calls = 1;
    let world = World::start(setup).await;
    let answer = get(world.local, "/v1/services/products/slow").await;
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (504, "callTimeout"));
    // The client's own time goes first.
    let local = world.local;
    let waiting = tokio::spawn(async move {
        post(local, "/v1/services/products/slow", &[("murmur-timeout", "30s")], "").await
    });
    eventually("a call is under way", async || products.seen().len() == 2).await;
    let answer = get(world.local, "/v1/services/products/x").await;
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (429, "tooMuchInFlight"));
    // A client that goes away makes room.
    waiting.abort();
    eventually("there is room again", async || {
        get(world.local, "/v1/services/products/x").await.status == 200
    })
    .await;
}

#[tokio::test]
async fn calls_are_spread_over_the_replicas_and_follow_them() {
    let (dns, mut products) = (Dns::start().await, Products::start(&[ip(1), ip(2), ip(3)]).await);
    dns.pods("products", &[ip(1), ip(2), ip(3)]);
    let world = world(&dns, products.port).await;
    let mut client = Http::connect(world.local).await;
    for _ in 0..300 {
        assert_eq!(client.send("GET", "/v1/services/products/x", &[], "").await.status, 200);
    }
    let counts = products.counts();
    assert!(counts.len() == 3 && counts.values().all(|count| *count >= 80), "{counts:?}");
    // One goes, another comes: found within seconds, and no call fails meanwhile.
    products.remove(ip(2)).await;
    products.add(ip(4)).await;
    dns.pods("products", &[ip(1), ip(3), ip(4)]);
    eventually("the new replica is called", async || {
        let answer = post(world.local, "/v1/services/products/x", &[], "body").await;
        assert_eq!(answer.status, 200);
        answer.headers["x-replica"] == "127.0.0.4"
    })
    .await;
}

#[tokio::test]
async fn a_replica_that_refuses_connections_costs_no_call_whatever_its_method() {
    let (dns, mut products) = (Dns::start().await, Products::start(&[ip(1), ip(2)]).await);
    dns.pods("products", &[ip(1), ip(2), ip(9)]);
    let world = world(&dns, products.port).await;
    let mut client = Http::connect(world.local).await;
    for number in 0..200 {
        if number == 100 {
            products.remove(ip(2)).await;
        }
        let body = format!("body {number}");
        let answer = client.send("POST", "/v1/services/products/x", &[], body.clone()).await;
        assert_eq!((answer.status.as_u16(), answer.body), (200, Bytes::from(body)), "{number}");
    }
    assert_eq!(products.seen().len(), 200, "each was taken once");
}

#[tokio::test]
async fn a_service_with_many_replicas_is_found_over_tcp_and_over_ipv6() {
    let (dns, products) = (Dns::start().await, Products::start(&[ip(1)]).await);
    // Far more than fit into a datagram; nobody listens on any but the last.
    let mut many: Vec<IpAddr> = (2..=200).map(|last| [127, 0, 1, last].into()).collect();
    many.push(ip(1));
    dns.pods("products", &many);
    let world = world(&dns, products.port).await;
    eventually("the one that listens is found", async || {
        get(world.local, "/v1/services/products/x").await.status == 200
    })
    .await;
    assert!(dns.questions().1 > 0, "over TCP");
    let six = IpAddr::V6(Ipv6Addr::LOCALHOST);
    let Ok(listener) = TcpListener::bind((six, 0)).await else { return };
    drop(listener);
    let mut sixth = Products::start(&[]).await;
    sixth.add(six).await;
    dns.pods("products", &[six]);
    let world = self::world(&dns, sixth.port).await;
    assert_eq!(get(world.local, "/v1/services/products/x").await.headers["x-replica"], "::1");
}

#[tokio::test]
async fn while_dns_is_away_the_replicas_that_were_found_are_called_on() {
    let (dns, products) = (Dns::start().await, Products::start(&[ip(1)]).await);
    dns.pods("products", &[ip(1)]);
    let world = world(&dns, products.port).await;
    assert_eq!(get(world.local, "/v1/services/products/x").await.status, 200);
    dns.fail(true);
    let before = dns.questions().0;
    eventually("it was asked again", async || {
        assert_eq!(get(world.local, "/v1/services/products/x").await.status, 200);
        dns.questions().0 >= before + 4
    })
    .await;
}

#[tokio::test]
async fn calls_need_no_bus() {
    let (dns, products) = (Dns::start().await, Products::start(&[ip(1)]).await);
    dns.pods("products", &[ip(1)]);
    let mut world = world(&dns, products.port).await;
    world.broker.kill().await.unwrap();
    assert_eq!(get(world.local, "/v1/services/products/x").await.status, 200);
    world.stop().await;
    world.run_unconnected().await;
    assert_eq!(get(world.local, "/v1/services/products/x").await.status, 200);
}

/// A server that does with each connection what the test says.
async fn raw<F: Future<Output = ()> + Send + 'static>(
    serve: fn(TcpStream, usize) -> F,
) -> (u16, Arc<AtomicUsize>) {
    let listener = TcpListener::bind((ip(1), 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let accepted = Arc::new(AtomicUsize::new(0));
    let count = accepted.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, count.fetch_add(1, Ordering::Relaxed)));
        }
    });
    (port, accepted)
}

async fn read_head(stream: &mut TcpStream) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
}

#[tokio::test]
async fn only_what_may_be_repeated_is_sent_again_when_a_connection_breaks_before_the_answer() {
    // Every second connection, from the first on, is closed once the request was read.
    let (port, accepted) = raw(|mut stream, number| async move {
        read_head(&mut stream).await;
        if number % 2 == 1 {
            stream.write_all(b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n").await.unwrap();
        }
    })
    .await;
    let dns = Dns::start().await;
    dns.pods("products", &[ip(1)]);
    let world = world(&dns, port).await;
    let mut client = Http::connect(world.local).await;
    for (method, body, status, connections) in [
        ("GET", "", 204, 2),
        ("PUT", "", 204, 4),
        ("POST", "", 502, 5),
        ("GET", "", 204, 6),
        ("PUT", "x", 502, 7),
    ] {
        let answer = client.send(method, "/v1/services/products/x", &[], body).await;
        assert_eq!(answer.status, status, "{method} {body:?} {answer:?}");
        assert_eq!(accepted.load(Ordering::Relaxed), connections, "{method} {body:?}");
    }
}

#[tokio::test]
async fn a_call_that_may_have_been_read_is_never_said_not_to_have_been_sent() {
    let listener = TcpListener::bind((ip(1), 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    // The pod takes the request and dies.
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        drop(listener);
        read_head(&mut stream).await;
    });
    let dns = Dns::start().await;
    dns.pods("products", &[ip(1)]);
    let world = world(&dns, port).await;
    let answer = Http::connect(world.local).await.send("DELETE", "/v1/services/products/x", &[], "").await;
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (502, "broken"), "{answer:?}");
}

#[tokio::test]
async fn an_answer_that_is_not_http_is_a_502() {
    let (port, _) = raw(|mut stream, _| async move {
        read_head(&mut stream).await;
        let _ = stream.write_all(b"SSH-2.0-OpenSSH_9.9\r\n\r\n").await;
    })
    .await;
    let dns = Dns::start().await;
    dns.pods("products", &[ip(1)]);
    let world = world(&dns, port).await;
    let answer = get(world.local, "/v1/services/products/x").await;
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (502, "broken"));
}

/// A connection whose body is sent as the test says.
async fn streaming(
    address: SocketAddr,
    path: &str,
) -> (tokio::sync::mpsc::Sender<Bytes>, http::Response<hyper::body::Incoming>) {
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let (parts, received) = tokio::sync::mpsc::channel::<Bytes>(1);
    let body = futures::stream::unfold(received, async |mut received| {
        let bytes = received.recv().await?;
        Some((Ok::<_, std::io::Error>(Frame::data(bytes)), received))
    });
    let request = http::Request::post(path).header("host", "x").body(StreamBody::new(body.boxed())).unwrap();
    (parts, sender.send_request(request).await.unwrap())
}

#[tokio::test]
async fn bodies_stream_both_ways_piece_by_piece() {
    // Each piece of the request comes back before the next is sent.
    let echo = Router::new().fallback(async |request: Request| request.into_body());
    let listener = TcpListener::bind((ip(1), 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move { axum::serve(listener, echo).await.unwrap() });
    let dns = Dns::start().await;
    dns.pods("products", &[ip(1)]);
    let world = world(&dns, port).await;
    let (parts, response) = streaming(world.local, "/v1/services/products/echo").await;
    assert_eq!(response.status(), 200);
    let mut body = response.into_body();
    for number in 0..100_u8 {
        let piece = Bytes::from(vec![number; 100_000]);
        parts.send(piece.clone()).await.unwrap();
        let mut back = Vec::new();
        while back.len() < piece.len() {
            back.extend(body.frame().await.unwrap().unwrap().into_data().unwrap());
        }
        assert_eq!(back, piece);
    }
    drop(parts);
    assert!(body.frame().await.is_none());
}

#[tokio::test]
async fn an_answer_that_stops_in_the_middle_is_broken_off() {
    let (port, _) = raw(|mut stream, _| async move {
        read_head(&mut stream).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf").await.unwrap();
        tokio::time::sleep(Duration::from_secs(60)).await;
    })
    .await;
    let dns = Dns::start().await;
    dns.pods("products", &[ip(1)]);
    let config = json!({"calls": [{"service": "products", "port": port, "timeout": 500}]});
    let world = World::start(Setup { config, dns: Some(dns.address), ..Setup::default() }).await;
    let stream = TcpStream::connect(world.local).await.unwrap();
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let request = http::Request::get("/v1/services/products/x").header("host", "x");
    let response = sender.send_request(request.body(String::new()).unwrap()).await.unwrap();
    assert_eq!(response.status(), 200);
    assert!(response.into_body().collect().await.is_err());
}

#[tokio::test]
async fn calls_are_counted_by_target_and_outcome() {
    let (dns, products) = (Dns::start().await, Products::start(&[ip(1)]).await);
    dns.pods("products", &[ip(1)]);
    let world = world(&dns, products.port).await;
    for path in ["products/x", "products/x", "products/fails", "absent/x", "orders/x"] {
        get(world.local, &format!("/v1/services/{path}")).await;
    }
    let text = String::from_utf8(get(world.admin, "/metrics").await.body.to_vec()).unwrap();
    for line in [
        "murmur_sidecar_calls_total{target=\"products\",outcome=\"answered\"} 2",
        "murmur_sidecar_calls_total{target=\"products\",outcome=\"failed\"} 1",
        "murmur_sidecar_calls_total{target=\"absent\",outcome=\"no_replicas\"} 1",
        "murmur_sidecar_calls_total{target=\"\",outcome=\"refused\"} 1",
        "murmur_sidecar_call_duration_seconds_count{target=\"products\"} 3",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }
}
