//! Posts to the service on loopback, over connections that are kept for a moment.

use std::collections::VecDeque;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::RETRY_AFTER;
use http::{HeaderMap, Request};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use super::verdict::Answer;

/// How long an idle connection is kept: less than any server's own idle time.
const IDLE: Duration = Duration::from_secs(3);
/// What is read of an answer's body; a connection with more to read is closed.
const LONGEST_BODY: usize = 64 << 10;
/// How much of it goes into the cause of a failure, in characters.
const LONGEST_TEXT: usize = 256;
/// The largest head of an answer.
const LARGEST_HEAD: usize = 64 << 10;

type Connection = SendRequest<Full<Bytes>>;

/// The service, and the idle connections to it.
#[derive(Debug)]
pub(super) struct Client {
    address: SocketAddr,
    idle: Mutex<VecDeque<(Connection, Instant)>>,
}

impl Client {
    /// The service on this port.
    pub(super) fn new(port: u16) -> Self {
        Self { address: (Ipv4Addr::LOCALHOST, port).into(), idle: Mutex::default() }
    }

    /// Its address.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Posts; `request` is asked for the request, and once more if it has to be repeated.
    pub(super) async fn post(&self, request: impl Fn() -> Request<Full<Bytes>>, longest: Duration) -> Answer {
        match timeout(longest, self.exchange(request)).await {
            Ok(answer) => answer,
            Err(_) => Answer::TimedOut(longest),
        }
    }

    /// A connection that was idle may have been closed by the service just now:
    /// then, and only then, the request is repeated at once on a new one.
    async fn exchange(&self, request: impl Fn() -> Request<Full<Bytes>>) -> Answer {
        if let Some(mut kept) = self.take() {
            match kept.send_request(request()).await {
                Ok(response) => return self.read(response, kept).await,
                Err(error) if broke(&error) => {}
                Err(error) => return Answer::Broken(not_http(&error)),
            }
        }
        let mut fresh = match self.connect().await {
            Ok(fresh) => fresh,
            Err(error) => return Answer::Refused(format!("cannot connect to {}: {error}", self.address)),
        };
        match fresh.send_request(request()).await {
            Ok(response) => self.read(response, fresh).await,
            Err(error) if broke(&error) => {
                Answer::Reset(format!("{} closed the connection without an answer", self.address))
            }
            Err(error) => Answer::Broken(not_http(&error)),
        }
    }

    async fn connect(&self) -> io::Result<Connection> {
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = http1::Builder::new()
            .max_buf_size(LARGEST_HEAD)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(io::Error::other)?;
        tokio::spawn(async move {
            // Its end shows where it is used.
            let _ = connection.await;
        });
        Ok(sender)
    }

    /// The status decides; the body is read so that the connection can be kept.
    async fn read(&self, response: http::Response<Incoming>, connection: Connection) -> Answer {
        let (parts, mut body) = response.into_parts();
        let mut text = Vec::new();
        let mut length = 0;
        let mut whole = true;
        while let Some(frame) = body.frame().await {
            let Ok(frame) = frame else {
                whole = false;
                break;
            };
            let Some(data) = frame.data_ref() else { continue };
            length += data.len();
            if length > LONGEST_BODY {
                whole = false;
                break;
            }
            if !parts.status.is_success() && text.len() < LONGEST_TEXT * 4 {
                text.extend_from_slice(&data[..data.len().min(LONGEST_TEXT * 4)]);
            }
        }
        if whole {
            self.keep(connection);
        }
        Answer::Status {
            status: parts.status,
            retry_after: retry_after(&parts.headers),
            text: readable(&text),
        }
    }

    fn take(&self) -> Option<Connection> {
        let mut idle = self.idle();
        while let Some((connection, since)) = idle.pop_back() {
            if since.elapsed() < IDLE && connection.is_ready() {
                return Some(connection);
            }
        }
        None
    }

    fn keep(&self, connection: Connection) {
        if !connection.is_closed() {
            self.idle().push_back((connection, Instant::now()));
        }
    }

    /// Closes what has been idle too long; says when to look again.
    pub(super) fn prune(&self, now: Instant) -> Option<Instant> {
        let mut idle = self.idle();
        while idle.front().is_some_and(|(_, since)| *since + IDLE <= now) {
            idle.pop_front();
        }
        idle.front().map(|(_, since)| *since + IDLE)
    }

    fn idle(&self) -> MutexGuard<'_, VecDeque<(Connection, Instant)>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether the connection ended before an answer.
fn broke(error: &hyper::Error) -> bool {
    error.is_incomplete_message() || error.is_canceled() || error.is_closed() || {
        let source = std::error::Error::source(error).and_then(|source| source.downcast_ref::<io::Error>());
        source.is_some_and(|error| {
            matches!(
                error.kind(),
                io::ErrorKind::ConnectionReset
                    | io::ErrorKind::BrokenPipe
                    | io::ErrorKind::ConnectionAborted
                    | io::ErrorKind::UnexpectedEof
                    | io::ErrorKind::NotConnected
            )
        })
    }
}

fn not_http(error: &hyper::Error) -> String {
    format!("the service's answer is not HTTP: {error}")
}

/// Seconds or a date, as RFC 9110 allows.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = jiff::fmt::rfc2822::parse(text).ok()?.timestamp();
    Duration::try_from(date.duration_since(jiff::Timestamp::now())).ok()
}

/// The beginning of a body, as one line of text.
fn readable(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    text.trim().chars().take(LONGEST_TEXT).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(value: &str) -> Option<Duration> {
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, value.parse().unwrap());
        retry_after(&headers)
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        assert_eq!(after("7"), Some(Duration::from_secs(7)));
        assert_eq!(after("soon"), None);
        assert_eq!(after("Sun, 06 Nov 1994 08:49:37 GMT"), None, "a date in the past asks for nothing");
        let date = jiff::Timestamp::now() + Duration::from_secs(100);
        let text = jiff::fmt::rfc2822::to_string(&date.to_zoned(jiff::tz::TimeZone::UTC)).unwrap();
        assert!(after(&text).unwrap() > Duration::from_secs(90));
    }

    #[test]
    fn a_cause_is_one_short_line() {
        assert_eq!(readable(b" no\nid \xff"), "no id \u{fffd}");
        assert_eq!(readable("€".repeat(1000).as_bytes()).chars().count(), LONGEST_TEXT);
    }
}
