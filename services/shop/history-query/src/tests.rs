//! The service by HTTP, with an answer of the sidecar that each test chooses.

use axum::Router;
use axum::body::Body;
use axum::routing::post;
use http::Request;
use http_body_util::BodyExt;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::*;

async fn listen(router: Router) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    url
}

fn part(service: &str, data: &Value) -> Value {
    json!({"service": service, "outcome": "answered", "status": 200, "contentType": "application/json", "data": data})
}

fn absent(service: &str) -> Value {
    json!({"service": service, "outcome": "absent"})
}

fn users() -> Value {
    part("users", &json!({"id": 1, "name": "Ada"}))
}

fn orders() -> Value {
    let orders = [20, 5, 20].map(|product| json!({"id": "x", "user": 1, "product": product}));
    part("orders", &json!(orders))
}

fn products() -> Value {
    part("products", &json!([pants(), shoes()]))
}

fn pants() -> Value {
    json!({"id": 5, "title": "pants", "image": "pants.jpeg"})
}

fn shoes() -> Value {
    json!({"id": 20, "title": "shoes", "image": "shoes.png"})
}

/// What the service answers when the sidecar answers with this: status, what is missing, body.
async fn answer(status: u16, body: Value) -> (u16, String, Value) {
    let reply = move |asked: String| async move {
        assert_eq!(asked, r#"{"user":1}"#);
        (StatusCode::from_u16(status).unwrap(), body.to_string())
    };
    let sidecar = listen(Router::new().route("/v1/queries/UserProductQuery", post(reply))).await;
    get(&listen(routes(&sidecar)).await, "/users/1/history").await
}

async fn get(url: &str, path: &str) -> (u16, String, Value) {
    let client = Client::builder(TokioExecutor::new()).build_http();
    let request = Request::get(format!("{url}{path}")).body(Body::empty()).unwrap();
    let response = client.request(request).await.unwrap();
    let status = response.status().as_u16();
    let missing = response.headers().get("missing").map(|value| value.to_str().unwrap().to_owned());
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, missing.unwrap_or_default(), serde_json::from_slice(&body).unwrap_or_default())
}

async fn joined(results: [Value; 3]) -> (u16, String, Value) {
    let complete = results.iter().all(|result| result["outcome"] == "answered");
    answer(200, json!({"complete": complete, "results": results})).await
}

#[tokio::test]
async fn the_parts_of_all_three_make_the_history_in_the_order_of_purchase() {
    let (status, missing, body) = joined([orders(), products(), users()]).await;
    assert_eq!((status, missing.as_str(), body), (200, "", json!([shoes(), pants()])));
}

#[tokio::test]
async fn without_products_the_ids_are_there_and_it_says_what_is_missing() {
    let (status, missing, body) = joined([orders(), absent("products"), users()]).await;
    assert_eq!((status, missing.as_str(), body), (200, "products", json!([{"id": 20}, {"id": 5}])));
}

#[tokio::test]
async fn without_orders_the_products_are_there_and_without_users_all_is() {
    let (status, missing, body) = joined([absent("orders"), products(), users()]).await;
    assert_eq!((status, missing.as_str(), body), (200, "orders", json!([pants(), shoes()])));
    let (status, missing, body) = joined([orders(), products(), absent("users")]).await;
    assert_eq!((status, missing.as_str(), body), (200, "users", json!([shoes(), pants()])));
}

#[tokio::test]
async fn an_answer_that_is_an_error_or_garbage_is_missing_too() {
    let failed =
        json!({"service": "products", "outcome": "failed", "status": 500, "data": {"error": "disk"}});
    let refused = json!({"service": "products", "outcome": "answered", "status": 400, "data": []});
    for broken in [failed, refused, part("products", &json!("oops")), part("other", &json!([]))] {
        let (status, missing, _) = joined([orders(), broken, users()]).await;
        assert_eq!((status, missing.as_str()), (200, "products"));
    }
}

#[tokio::test]
async fn a_user_who_is_not_there_is_404() {
    for outcome in ["answered", "failed"] {
        let nobody = json!({"service": "users", "outcome": outcome, "status": 404, "data": {"error": "there is no user 1"}});
        let (status, _, body) =
            joined([part("orders", &json!([])), part("products", &json!([])), nobody]).await;
        assert_eq!((status, body), (404, json!({"error": "there is no user 1"})));
    }
}

#[tokio::test]
async fn when_nothing_was_told_the_answer_is_503() {
    assert_eq!(joined([absent("orders"), absent("products"), users()]).await.0, 503);
    assert_eq!(answer(504, json!({"code": "noAnswer"})).await.0, 503);
    assert_eq!(answer(200, json!("garbage")).await.0, 503);
    let nobody = listen(routes("http://127.0.0.1:1")).await;
    assert_eq!(get(&nobody, "/users/1/history").await.0, 503);
}

#[tokio::test]
async fn an_unknown_path_is_refused() {
    let service = listen(routes("http://127.0.0.1:1")).await;
    assert_eq!(get(&service, "/users/x/history").await.0, 400);
    assert_eq!(get(&service, "/users").await.0, 404);
    assert_eq!(get(&service, "/readyz").await.0, 200);
}
