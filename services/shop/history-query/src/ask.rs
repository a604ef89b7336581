//! All there is to know about Murmur for a service that asks: one POST to the
//! sidecar beside it.

use std::fmt;
use std::time::Duration;

use axum::body::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use serde::Deserialize;
use serde_json::Value;

/// How long the services may take to answer, as the sidecar reads it.
const PATIENCE: &str = "2s";
/// How long the sidecar may take, which answers when the services' time is up.
const LONGEST: Duration = Duration::from_secs(5);
/// Bytes of all answers together; the sidecar allows no more either.
const LARGEST: usize = 16 << 20;

/// The way to the other services.
pub struct Mesh {
    client: Client<HttpConnector, Full<Bytes>>,
    murmur: String,
}

/// What one service made of a query.
#[derive(Deserialize)]
pub struct Part {
    /// The service.
    pub service: String,
    /// `answered`, or why there is no answer.
    pub outcome: String,
    /// The HTTP status that it answered with, if it answered.
    pub status: Option<u16>,
    /// Its answer.
    #[serde(default)]
    pub data: Value,
}

/// Why a query has no parts at all.
#[derive(Debug)]
pub struct Unanswered(String);

impl fmt::Display for Unanswered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[derive(Deserialize)]
struct Answer {
    results: Vec<Part>,
}

impl Mesh {
    /// By the sidecar at this URL.
    pub fn new(murmur: &str) -> Self {
        let client = Client::builder(TokioExecutor::new()).pool_timer(TokioTimer::new()).build_http();
        Self { client, murmur: murmur.to_owned() }
    }

    /// Asks all services that answer this type of query; a part for each of them.
    ///
    /// # Errors
    /// When none has answered.
    pub async fn ask(&self, query: &str, data: &Value) -> Result<Vec<Part>, Unanswered> {
        let exchange = tokio::time::timeout(LONGEST, self.exchange(query, data)).await;
        let (status, body) = match exchange {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => return Err(Unanswered(format!("cannot ask {query}: {error}"))),
            Err(_) => return Err(Unanswered(format!("{query}: no answer within {LONGEST:?}"))),
        };
        if status != StatusCode::OK {
            return Err(Unanswered(format!("{query}: {status} {}", String::from_utf8_lossy(&body))));
        }
        let answer: Answer = serde_json::from_slice(&body)
            .map_err(|error| Unanswered(format!("{query}: the answer is not understood: {error}")))?;
        Ok(answer.results)
    }

    async fn exchange(
        &self,
        query: &str,
        data: &Value,
    ) -> Result<(StatusCode, Bytes), Box<dyn std::error::Error + Send + Sync>> {
        let request = Request::post(format!("{}/v1/queries/{query}", self.murmur))
            .header("content-type", "application/json")
            .header("murmur-timeout", PATIENCE)
            .body(Full::new(data.to_string().into()))?;
        let response = self.client.request(request).await?;
        let status = response.status();
        Ok((status, Limited::new(response.into_body(), LARGEST).collect().await?.to_bytes()))
    }
}
