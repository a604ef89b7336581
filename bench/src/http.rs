//! An HTTP client that is part of what is measured, as lean as hyper makes it.

use anyhow::{Result, ensure};
use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::SendRequest;
use murmur_test_support::http::connect;

/// A connection that is kept.
pub type Connection = SendRequest<Full<Bytes>>;

/// So many connections to a port of this machine.
///
/// # Errors
/// When nobody listens.
pub async fn connections(port: u16, count: usize) -> Result<Vec<Connection>> {
    let mut connections = Vec::with_capacity(count);
    for _ in 0..count {
        connections.push(connect(port).await?);
    }
    Ok(connections)
}

/// Sends a request and reads its answer.
///
/// # Errors
/// When the answer is not the expected one.
pub async fn send(
    connection: &mut Connection,
    request: Request<Full<Bytes>>,
    expected: StatusCode,
) -> Result<()> {
    connection.ready().await?;
    let response = connection.send_request(request).await?;
    let status = response.status();
    let answer = response.into_body().collect().await?.to_bytes();
    ensure!(status == expected, "a POST was answered {status} {}", String::from_utf8_lossy(&answer));
    Ok(())
}
