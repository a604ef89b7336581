//! One request to one server, and what may be done when it fails.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::{Body, Incoming};
use hyper::client::conn::http1::SendRequest;
use tokio::time::timeout;

use super::Connections;

/// The longest that a connection is waited for: servers are near, and one
/// whose node is gone answers nothing at all.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// Why there is no answer.
pub(crate) enum Failure<B> {
    /// There is no connection: the request is still here, unread.
    Refused(Box<Request<B>>, String),
    /// The connection ended before an answer; the target may have seen the request.
    Lost {
        /// It had been used before: it may just have been closed for being idle.
        reused: bool,
        cause: String,
    },
    /// The answer is not HTTP.
    NotHttp(String),
}

/// Sends the request and waits for the head of its answer, which comes with the
/// connection that brings the rest.
pub(crate) async fn exchange<B>(
    connections: &Connections<B>,
    address: SocketAddr,
    mut request: Request<B>,
) -> Result<(Response<Incoming>, SendRequest<B>), Failure<B>>
where
    B: Body<Data = Bytes> + Unpin + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    if let Some(mut kept) = connections.take(address) {
        match send(&mut kept, request, true).await {
            Ok(response) => return Ok((response, kept)),
            Err(Failure::Refused(unread, _)) => request = *unread,
            Err(failure) => return Err(failure),
        }
    }
    let connecting = timeout(CONNECT_TIMEOUT, connections.connect(address)).await;
    let mut fresh = match connecting {
        Ok(Ok(fresh)) => fresh,
        Ok(Err(error)) => {
            return Err(Failure::Refused(Box::new(request), format!("cannot connect to {address}: {error}")));
        }
        Err(_) => {
            let cause = format!("no connection to {address} within {CONNECT_TIMEOUT:?}");
            return Err(Failure::Refused(Box::new(request), cause));
        }
    };
    let response = send(&mut fresh, request, false).await?;
    Ok((response, fresh))
}

async fn send<B: Body + 'static>(
    connection: &mut SendRequest<B>,
    request: Request<B>,
    reused: bool,
) -> Result<Response<Incoming>, Failure<B>> {
    let mut failed = match connection.try_send_request(request).await {
        Ok(response) => return Ok(response),
        Err(failed) => failed,
    };
    // It comes back only if nothing of it was written.
    if let Some(unread) = failed.take_message() {
        return Err(Failure::Refused(Box::new(unread), failed.into_error().to_string()));
    }
    let error = failed.into_error();
    let cause = error.to_string();
    let not_http = error.is_parse() || error.is_parse_too_large() || error.is_parse_status();
    Err(if not_http { Failure::NotHttp(cause) } else { Failure::Lost { reused, cause } })
}
