//! Posts to the service on loopback, over connections that are kept for a moment.
//!
//! A client of its own, as small as the task: one request at a time on a
//! connection, written at once, driven by the one who waits for the answer. A general
//! client's own tasks and queues cost more than all the rest of a delivery.

mod response;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use self::response::{Body, Head, Read};
use super::verdict::Answer;
use crate::connections::{Idle, LARGEST_HEAD, Reusable};

/// What is read of an answer's body; a connection with more to read is closed.
const LONGEST_BODY: usize = 256 << 10;
/// A body up to this size is copied behind the head and written with it.
const SMALL: usize = 8 << 10;
/// What is read at once.
const READ: usize = 2 << 10;

/// A request: the head with its empty line, and the body.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) head: Vec<u8>,
    pub(super) body: Bytes,
    /// How long the answer's body may take to end once its head is there.
    pub(super) body_time: Duration,
}

/// The service, and the idle connections to it.
#[derive(Debug)]
pub(super) struct Client {
    address: SocketAddr,
    idle: Mutex<Idle<TcpStream>>,
}

impl Reusable for TcpStream {
    /// Anything to read is the end, or what nobody asked for.
    fn is_good(&self) -> bool {
        matches!(self.try_read(&mut [0]), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }
}

/// Why there is no answer.
enum Failure {
    /// The connection ended before the first byte of one.
    Closed,
    /// It ended in the middle of the head.
    BrokeOff,
    /// What came is none.
    NotHttp(String),
}

impl Client {
    /// The service on this port.
    pub(super) fn new(port: u16) -> Self {
        // As many as post at once, which the caller bounds.
        let idle = Mutex::new(Idle::new(usize::MAX));
        Self { address: (Ipv4Addr::LOCALHOST, port).into(), idle }
    }

    /// Its address.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Posts, and waits for the answer no longer than that.
    pub(super) async fn post(&self, request: Request, longest: Duration) -> Answer {
        match timeout(longest, self.exchange(request)).await {
            Ok(answer) => answer,
            Err(_) => Answer::TimedOut(longest),
        }
    }

    /// A connection that was idle may have been closed by the service just now:
    /// then, and only then, the request is repeated at once on a new one.
    async fn exchange(&self, mut request: Request) -> Answer {
        if request.body.len() <= SMALL {
            request.head.extend_from_slice(&request.body);
            request.body = Bytes::new();
        }
        let kept = self.idle().take(Instant::now());
        if let Some(kept) = kept {
            match self.send(kept, &request).await {
                Ok(answer) => return answer,
                Err(Failure::Closed) => {}
                Err(failure) => return self.failed(failure),
            }
        }
        let fresh = TcpStream::connect(self.address).await.and_then(|stream| {
            stream.set_nodelay(true)?;
            Ok(stream)
        });
        let fresh = match fresh {
            Ok(fresh) => fresh,
            Err(error) => return Answer::Refused(format!("cannot connect to {}: {error}", self.address)),
        };
        match self.send(fresh, &request).await {
            Ok(answer) => answer,
            Err(failure) => self.failed(failure),
        }
    }

    fn failed(&self, failure: Failure) -> Answer {
        let address = self.address;
        match failure {
            Failure::Closed => Answer::Reset(format!("{address} closed the connection without an answer")),
            Failure::BrokeOff => {
                Answer::Reset(format!("{address} closed the connection within the head of its answer"))
            }
            Failure::NotHttp(cause) => Answer::Broken(format!("the service's answer is not HTTP: {cause}")),
        }
    }

    async fn send(&self, stream: TcpStream, request: &Request) -> Result<Answer, Failure> {
        // An answer may come before the whole request is read, and the rest is never taken.
        let sent = write(&stream, &request.head).await && write(&stream, &request.body).await;
        let mut bytes = Vec::with_capacity(READ);
        let head = head(&stream, &mut bytes).await?;
        let (body, whole) = match timeout(request.body_time, body(&stream, &head, &mut bytes)).await {
            Ok(read) => read?,
            Err(_) => (beginning(&head, &bytes), false),
        };
        if sent && whole && head.keep && bytes.is_empty() {
            self.idle().keep(stream, Instant::now());
        }
        Ok(Answer::Status { status: head.status, retry_after: head.retry_after, body, whole })
    }

    /// Closes what has been idle too long; says when to look again.
    pub(super) fn prune(&self, now: Instant) -> Option<Instant> {
        self.idle().prune(now)
    }

    fn idle(&self) -> MutexGuard<'_, Idle<TcpStream>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes all, unless the other side answers or closes before. Returns whether all was written.
async fn write(stream: &TcpStream, mut bytes: &[u8]) -> bool {
    while !bytes.is_empty() {
        match stream.try_write(bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                match stream.ready(Interest::READABLE | Interest::WRITABLE).await {
                    Ok(ready) if ready.is_writable() && !ready.is_readable() => {}
                    Ok(ready) if ready.is_readable() => return false,
                    Ok(_) => {}
                    Err(_) => return false,
                }
            }
            Err(_) => return false,
        }
    }
    true
}

/// Reads more. `false`: the other side has ended.
async fn more(stream: &TcpStream, bytes: &mut Vec<u8>) -> io::Result<bool> {
    loop {
        bytes.reserve(READ);
        match stream.try_read_buf(bytes) {
            Ok(read) => return Ok(read > 0),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => stream.readable().await?,
            Err(error) => return Err(error),
        }
    }
}

/// Reads the head of the answer and takes it off the bytes.
async fn head(stream: &TcpStream, bytes: &mut Vec<u8>) -> Result<Head, Failure> {
    loop {
        if let Some(head) = response::head(bytes).map_err(Failure::NotHttp)? {
            bytes.drain(..head.length);
            if !head.status.is_informational() {
                return Ok(head);
            }
            continue;
        }
        if bytes.len() > LARGEST_HEAD {
            return Err(Failure::NotHttp(format!("its head is longer than {LARGEST_HEAD} bytes")));
        }
        if !matches!(more(stream, bytes).await, Ok(true)) {
            return Err(if bytes.is_empty() { Failure::Closed } else { Failure::BrokeOff });
        }
    }
}

/// Reads the body, or its beginning, and takes it off the bytes. Says whether it is whole.
async fn body(stream: &TcpStream, head: &Head, bytes: &mut Vec<u8>) -> Result<(Vec<u8>, bool), Failure> {
    if head.body == Body::Exactly(0) {
        return Ok((Vec::new(), true));
    }
    let mut ended = false;
    loop {
        match response::body(head.body, bytes, ended).map_err(Failure::NotHttp)? {
            Read::Whole(body, length) => {
                bytes.drain(..length);
                return Ok((body, true));
            }
            Read::Part(body) if ended || bytes.len() > LONGEST_BODY => return Ok((body, false)),
            Read::Part(part) => match more(stream, bytes).await {
                Ok(more) => ended = !more,
                Err(_) => return Ok((part, false)),
            },
        }
    }
}

/// What has come of a body that does not end.
fn beginning(head: &Head, bytes: &[u8]) -> Vec<u8> {
    match response::body(head.body, bytes, true) {
        Ok(Read::Whole(body, _) | Read::Part(body)) => body,
        Err(_) => Vec::new(),
    }
}
