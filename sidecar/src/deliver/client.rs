//! Posts to the service on loopback, over connections that are kept for a moment.
//!
//! A client of its own, as small as the task: one request at a time on a
//! connection, written at once, driven by the one who waits for the answer. A general
//! client's own tasks and queues cost more than all the rest of a delivery.

mod response;

use std::collections::VecDeque;
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

/// How long an idle connection is kept: less than any server's own idle time.
const IDLE: Duration = Duration::from_secs(3);
/// What is read of an answer's body; a connection with more to read is closed.
const LONGEST_BODY: usize = 256 << 10;
/// The largest head of an answer.
const LARGEST_HEAD: usize = 64 << 10;
/// How long a body may take to end once the status is known, which decides alone.
const BODY_TIME: Duration = Duration::from_secs(1);
/// A body up to this size is copied behind the head and written with it.
const SMALL: usize = 8 << 10;
/// What is read at once.
const READ: usize = 2 << 10;

/// A request: the head with its empty line, and the body.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) head: Vec<u8>,
    pub(super) body: Bytes,
}

/// The service, and the idle connections to it.
#[derive(Debug)]
pub(super) struct Client {
    address: SocketAddr,
    idle: Mutex<VecDeque<(TcpStream, Instant)>>,
}

/// Why there is no answer.
enum Failure {
    /// The connection ended before the first byte of one.
    Closed,
    /// What came is none.
    NotHttp(String),
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
        if let Some(kept) = self.take() {
            match self.send(kept, &request).await {
                Ok(answer) => return answer,
                Err(Failure::Closed) => {}
                Err(Failure::NotHttp(cause)) => return not_http(&cause),
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
            Err(Failure::Closed) => {
                Answer::Reset(format!("{} closed the connection without an answer", self.address))
            }
            Err(Failure::NotHttp(cause)) => not_http(&cause),
        }
    }

    async fn send(&self, stream: TcpStream, request: &Request) -> Result<Answer, Failure> {
        // An answer may come before the whole request is read, and the rest is never taken.
        let sent = write(&stream, &request.head).await && write(&stream, &request.body).await;
        let mut bytes = Vec::with_capacity(READ);
        let head = head(&stream, &mut bytes).await?;
        let (body, whole) = match timeout(BODY_TIME, body(&stream, &head, &mut bytes)).await {
            Ok(read) => read?,
            Err(_) => (beginning(&head, &bytes), false),
        };
        if sent && whole && head.keep && bytes.is_empty() {
            self.idle().push_back((stream, Instant::now()));
        }
        Ok(Answer::Status { status: head.status, retry_after: head.retry_after, body })
    }

    fn take(&self) -> Option<TcpStream> {
        let mut idle = self.idle();
        while let Some((stream, since)) = idle.pop_back() {
            // Anything to read is the end, or what nobody asked for.
            let quiet =
                matches!(stream.try_read(&mut [0]), Err(error) if error.kind() == io::ErrorKind::WouldBlock);
            if quiet && since.elapsed() < IDLE {
                return Some(stream);
            }
        }
        None
    }

    /// Closes what has been idle too long; says when to look again.
    pub(super) fn prune(&self, now: Instant) -> Option<Instant> {
        let mut idle = self.idle();
        while idle.front().is_some_and(|(_, since)| *since + IDLE <= now) {
            idle.pop_front();
        }
        idle.front().map(|(_, since)| *since + IDLE)
    }

    fn idle(&self) -> MutexGuard<'_, VecDeque<(TcpStream, Instant)>> {
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

/// Reads more. `false`: there is no more.
async fn more(stream: &TcpStream, bytes: &mut Vec<u8>) -> bool {
    loop {
        bytes.reserve(READ);
        match stream.try_read_buf(bytes) {
            Ok(read) => return read > 0,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if stream.readable().await.is_err() {
                    return false;
                }
            }
            Err(_) => return false,
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
        if !more(stream, bytes).await {
            return Err(match bytes.as_slice() {
                [] => Failure::Closed,
                _ => Failure::NotHttp("it breaks off in its head".to_owned()),
            });
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
            Read::Part(_) => ended = !more(stream, bytes).await,
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

fn not_http(cause: &str) -> Answer {
    Answer::Broken(format!("the service's answer is not HTTP: {cause}"))
}
