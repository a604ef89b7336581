//! history-query is service D of the shop, by scatter and gather: what did this
//! user ever order?
//!
//! It keeps nothing. For each request it sends one query, `UserProductQuery`, by
//! the Murmur sidecar beside it. `users`, `orders` and `products` each answer
//! their part, at the same time; it joins the parts. When one is away it answers
//! what it has, and says what is missing.

mod ask;
mod join;

use std::process::ExitCode;
use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use http::StatusCode;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use crate::ask::Mesh;
use crate::join::Joined;

#[tokio::main]
async fn main() -> ExitCode {
    let Ok(murmur) = std::env::var("MURMUR_URL") else {
        eprintln!(
            "MURMUR_URL is not set: run history-query as a Microservice, or set it to the URL of a Murmur sidecar"
        );
        return ExitCode::from(64);
    };
    match serve(&murmur).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cannot serve on port 8080: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn serve(murmur: &str) -> std::io::Result<()> {
    let mut stop = signal(SignalKind::terminate())?;
    let listener = TcpListener::bind(("0.0.0.0", 8080)).await?;
    let stopped = async move {
        stop.recv().await;
    };
    axum::serve(listener, routes(murmur)).with_graceful_shutdown(stopped).await
}

fn routes(murmur: &str) -> Router {
    Router::new()
        .route("/users/{id}/history", get(history))
        .route("/readyz", get(|| async { "ready" }))
        .with_state(Arc::new(Mesh::new(murmur)))
}

/// The products that a user ordered. What is missing is named in the header
/// `missing`, so that the body has the same form whether all answered or not.
async fn history(State(mesh): State<Arc<Mesh>>, Path(user): Path<u64>) -> Response {
    let joined = match mesh.ask("UserProductQuery", &json!({"user": user})).await {
        Ok(results) => join::join(user, &results),
        Err(error) => Joined::Unavailable(error.to_string()),
    };
    match joined {
        Joined::History { products, missing } if missing.is_empty() => Json(products).into_response(),
        Joined::History { products, missing } => {
            ([("missing", missing.join(", "))], Json(products)).into_response()
        }
        Joined::NoSuchUser => {
            let problem = json!({"error": format!("there is no user {user}")});
            (StatusCode::NOT_FOUND, Json(problem)).into_response()
        }
        Joined::Unavailable(cause) => {
            eprintln!("GET /users/{user}/history: {cause}");
            let problem = json!({"error": cause});
            (StatusCode::SERVICE_UNAVAILABLE, [("retry-after", "1")], Json(problem)).into_response()
        }
    }
}

#[cfg(test)]
mod tests;
