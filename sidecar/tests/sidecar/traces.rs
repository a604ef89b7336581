//! W3C Trace Context through the sidecar, and the spans that a collector gets.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use murmur_sidecar::trace::TraceArguments;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::support::{Dns, Service, Setup, World, eventually, free_port, get, post, subscription};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// An OpenTelemetry collector, as far as its HTTP goes.
struct Collector {
    port: u16,
    bodies: Arc<Mutex<Vec<(HeaderMap, Value)>>>,
}

impl Collector {
    async fn start(status: StatusCode) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let bodies = Arc::<Mutex<Vec<(HeaderMap, Value)>>>::default();
        let take = async move |State(bodies): State<Arc<Mutex<Vec<_>>>>, headers: HeaderMap, body: String| {
            bodies.lock().unwrap().push((headers, serde_json::from_str::<Value>(&body).unwrap()));
            status
        };
        let router = Router::new().route("/v1/traces", axum::routing::post(take)).with_state(bodies.clone());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { port, bodies }
    }

    fn arguments(&self) -> TraceArguments {
        TraceArguments {
            otlp_endpoint: Some(format!("http://localhost:{}", self.port)),
            otlp_headers: Some("api-key=secret".to_owned()),
            ..TraceArguments::default()
        }
    }

    fn spans(&self) -> Vec<Value> {
        let bodies = self.bodies.lock().unwrap();
        let scopes =
            bodies.iter().map(|(_, body)| body["resourceSpans"][0]["scopeSpans"][0]["spans"].clone());
        scopes.flat_map(|spans| spans.as_array().unwrap().clone()).collect()
    }

    /// The span of this name, once it is there.
    async fn span(&self, name: &str) -> Value {
        eventually(name, async || self.spans().iter().any(|span| span["name"] == name)).await;
        self.spans().into_iter().find(|span| span["name"] == name).unwrap()
    }
}

/// `traceparent` of a span.
fn context(span: &Value) -> String {
    format!("00-{}-{}-01", span["traceId"].as_str().unwrap(), span["spanId"].as_str().unwrap())
}

#[tokio::test]
async fn a_trace_goes_from_the_publisher_over_the_bus_to_the_subscriber_and_its_spans_to_the_collector() {
    let (collector, service) = (Collector::start(StatusCode::OK).await, Service::ok().await);
    let subscriptions = vec![subscription("all", service.port, json!({"policy": "none"}))];
    let world =
        World::start(Setup { subscriptions, traces: collector.arguments(), ..Setup::default() }).await;
    let headers = [("ce-id", "1"), ("traceparent", PARENT), ("tracestate", "a=1")];
    assert_eq!(post(world.local, "/v1/events/T", &headers, "x").await.status, 200);
    let (published, delivered) = (collector.span("publish T").await, collector.span("deliver T").await);
    assert_eq!(
        (&published["traceId"], &published["parentSpanId"]),
        (&json!(TRACE), &json!("b7ad6b7169203331"))
    );
    assert_eq!((&delivered["traceId"], &delivered["parentSpanId"]), (&json!(TRACE), &published["spanId"]));
    assert_eq!((&published["kind"], &delivered["kind"]), (&json!(4), &json!(5)));
    assert!(published.get("status").is_none() && delivered.get("status").is_none());
    let received = &service.received()[0];
    assert_eq!(received.header("traceparent"), context(&delivered));
    assert_eq!(received.header("tracestate"), "a=1");
    let (headers, body) = collector.bodies.lock().unwrap()[0].clone();
    assert_eq!(headers["content-type"], "application/json");
    assert_eq!(headers["api-key"], "secret");
    let resource = body["resourceSpans"][0]["resource"]["attributes"].to_string();
    for value in ["users", "shop", "users-1"] {
        assert!(resource.contains(&format!("{{\"stringValue\":\"{value}\"}}")), "{resource}");
    }
    let text = String::from_utf8(get(world.admin, "/metrics").await.body.to_vec()).unwrap();
    assert!(text.contains("murmur_sidecar_spans_dropped_total 0"), "{text}");
}

/// What a span is linked to: the spans' ids.
fn links(span: &Value) -> Vec<&str> {
    span["links"].as_array().into_iter().flatten().map(|link| link["spanId"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_batch_has_one_span_linked_to_those_of_its_events() {
    const OWN: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let (collector, service) = (Collector::start(StatusCode::OK).await, Service::ok().await);
    let mut all = subscription("all", service.port, json!({"policy": "none"}));
    all["deliver"]["batch"] = json!({"maxEvents": 3, "maxWait": 30_000});
    let setup = Setup { subscriptions: vec![all], traces: collector.arguments(), ..Setup::default() };
    let world = World::start(setup).await;
    let event = |id: &str| json!({"specversion": "1.0", "type": "T", "id": id, "source": "/s"});
    let mut own = event("2");
    own["traceparent"] = OWN.into();
    own["tracestate"] = "own=1".into();
    let headers = [
        ("content-type", "application/cloudevents-batch+json"),
        ("traceparent", PARENT),
        ("tracestate", "a=1"),
    ];
    let body = json!([event("1"), own, event("3")]).to_string();
    assert_eq!(post(world.local, "/v1/events", &headers, body).await.status, 200);
    let (published, delivered) = (collector.span("publish T").await, collector.span("deliver T").await);
    assert_eq!((&published["traceId"], &published["kind"]), (&json!(TRACE), &json!(4)));
    assert_eq!(links(&published), ["00f067aa0ba902b7"]);
    // In a trace of its own: each of its events may be in another.
    assert_eq!((delivered.get("parentSpanId"), &delivered["kind"]), (None, &json!(5)));
    assert_ne!(delivered["traceId"], TRACE);
    assert_eq!(links(&delivered), [published["spanId"].as_str().unwrap(), "00f067aa0ba902b7"]);
    for (span, operation) in [(&published, "send"), (&delivered, "process")] {
        let attributes = span["attributes"].to_string();
        for (key, value) in [
            ("messaging.batch.message_count", json!({"intValue": "3"})),
            ("messaging.operation.type", json!({"stringValue": operation})),
        ] {
            let expected = json!({"key": key, "value": value}).to_string();
            assert!(attributes.contains(&expected), "{attributes}");
        }
    }
    assert_eq!(collector.spans().len(), 2, "one span for each batch");
    // The service sees whose trace the request and each of the events belong to.
    let received = &service.received()[0];
    assert_eq!(received.header("traceparent"), context(&delivered));
    let events: Value = serde_json::from_slice(&received.body).unwrap();
    let trace = |index: usize| (&events[index]["traceparent"], &events[index]["tracestate"]);
    assert_eq!(trace(0), (&json!(context(&published)), &json!("a=1")));
    assert_eq!(trace(1), (&json!(OWN), &json!("own=1")));
    assert_eq!(trace(2), trace(0));
}

#[tokio::test]
async fn a_trace_begins_where_there_is_none_and_goes_with_calls_and_queries() {
    let (collector, dns, service) =
        (Collector::start(StatusCode::OK).await, Dns::start().await, Service::ok().await);
    dns.pods("orders", &[IpAddr::V4(Ipv4Addr::LOCALHOST)]);
    let config = json!({
        "calls": [{"service": "orders", "port": service.port, "timeout": 5000}],
        "asks": [{"query": "Q", "services": ["users"]}],
        "answers": [{"query": "Q", "port": service.port, "path": "/q"}],
    });
    let setup = Setup { config, dns: Some(dns.address), ..Setup::default() };
    let mut world = World::start(Setup { traces: collector.arguments(), ..setup }).await;
    assert_eq!(get(world.local, "/v1/services/orders/x").await.status, 204);
    eventually("it answers", async || post(world.local, "/v1/queries/Q", &[], "x").await.status == 200).await;
    let called = collector.span("GET orders").await;
    assert!(called.get("parentSpanId").is_none(), "{called}");
    assert_eq!(service.received()[0].header("traceparent"), context(&called));
    let answered = collector.span("answer Q").await;
    let parent = answered["parentSpanId"].clone();
    eventually("the query's span", async || collector.spans().iter().any(|span| span["spanId"] == parent))
        .await;
    let asked = collector.spans().into_iter().find(|span| span["spanId"] == parent).unwrap();
    assert_eq!((&asked["name"], &asked["traceId"]), (&json!("query Q"), &answered["traceId"]));
    assert_eq!(service.received()[1].header("traceparent"), context(&answered));
    // What is left when the process ends is exported too.
    get(world.local, "/v1/services/orders/x?last").await;
    world.stop().await;
    assert_eq!(collector.spans().iter().filter(|span| span["name"] == "GET orders").count(), 2);
}

#[tokio::test]
async fn without_a_collector_traces_go_on_as_they_are() {
    let (dns, service) = (Dns::start().await, Service::ok().await);
    dns.pods("orders", &[IpAddr::V4(Ipv4Addr::LOCALHOST)]);
    let config = json!({"calls": [{"service": "orders", "port": service.port, "timeout": 5000}]});
    let subscriptions = vec![subscription("all", service.port, json!({"policy": "none"}))];
    let world =
        World::start(Setup { config, subscriptions, dns: Some(dns.address), ..Setup::default() }).await;
    post(world.local, "/v1/services/orders/x", &[("traceparent", PARENT)], "").await;
    assert_eq!(service.received()[0].header("traceparent"), PARENT);
    // One begins where there is none, or none that can be read.
    for (number, headers) in
        [[].as_slice(), &[("traceparent", "00-x"), ("tracestate", "a=1")]].into_iter().enumerate()
    {
        post(world.local, "/v1/events/T", headers, "").await;
        eventually("it arrives", async || service.count() == number + 2).await;
        let received = &service.received()[number + 1];
        assert!(received.header("traceparent").ends_with("-01"), "{received:?}");
        assert_eq!(received.header("tracestate"), "");
    }
}

#[tokio::test]
async fn a_collector_that_is_away_or_refuses_or_never_answers_holds_nothing_up() {
    let refusing = Collector::start(StatusCode::SERVICE_UNAVAILABLE).await;
    // Who connects waits for an accept that never comes.
    let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    for port in [refusing.port, free_port().unwrap(), silent.local_addr().unwrap().port()] {
        let traces = TraceArguments {
            otlp_endpoint: Some(format!("http://127.0.0.1:{port}")),
            ..TraceArguments::default()
        };
        let mut world = World::start(Setup { traces, ..Setup::default() }).await;
        // More than the queue holds.
        let mut client = crate::support::Http::connect(world.local).await;
        for _ in 0..2500 {
            assert_eq!(client.send("POST", "/v1/events/T", &[], "x").await.status, 200);
        }
        // The rest of them is given up with the process, within a moment.
        tokio::time::timeout(Duration::from_secs(8), world.stop()).await.unwrap();
    }
    assert!(!refusing.spans().is_empty());
}
