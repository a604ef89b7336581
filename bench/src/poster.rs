//! Clients that publish over HTTP, as lean as can be: on two cores, what a load takes is missing from what it loads.

use std::io::Write;

use anyhow::{Context, Result, bail, ensure};
use bytes::{Buf, BytesMut};
use http::StatusCode;
use httparse::{EMPTY_HEADER, Response};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Headers of an answer, at most.
const HEADERS: usize = 16;

/// A connection that is kept.
pub struct Poster {
    stream: TcpStream,
    request: Vec<u8>,
    answer: BytesMut,
}

impl Poster {
    /// A connection to a port of this machine.
    ///
    /// # Errors
    /// When nobody listens.
    pub async fn connect(port: u16) -> Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port)).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, request: Vec::with_capacity(2048), answer: BytesMut::with_capacity(2048) })
    }

    /// So many connections to a port of this machine.
    ///
    /// # Errors
    /// When nobody listens.
    pub async fn connect_many(port: u16, count: usize) -> Result<Vec<Self>> {
        let mut posters = Vec::with_capacity(count);
        for _ in 0..count {
            posters.push(Self::connect(port).await?);
        }
        Ok(posters)
    }

    /// Posts `body` once as an event of type `Tick`, and reads the answer.
    ///
    /// # Errors
    /// When the answer is not the expected one.
    pub async fn publish(&mut self, body: &[u8], expected: StatusCode) -> Result<()> {
        self.request.clear();
        write!(
            self.request,
            "POST /v1/events/Tick HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
             content-length: {}\r\n\r\n",
            body.len()
        )?;
        self.request.extend_from_slice(body);
        self.stream.write_all(&self.request).await?;
        let (status, length) = loop {
            ensure!(self.stream.read_buf(&mut self.answer).await? > 0, "a POST was not answered");
            if let Some((status, head, length)) = head(&self.answer)? {
                self.answer.advance(head);
                break (status, length);
            }
        };
        while self.answer.len() < length {
            ensure!(self.stream.read_buf(&mut self.answer).await? > 0, "an answer to a POST was cut");
        }
        let answer = self.answer.split_to(length);
        ensure!(
            status == expected.as_u16(),
            "a POST was answered {status} {}",
            String::from_utf8_lossy(&answer)
        );
        Ok(())
    }
}

/// The status of an answer, the length of its head and that of its body; `None` while the head is not whole.
fn head(answer: &[u8]) -> Result<Option<(u16, usize, usize)>> {
    let mut headers = [EMPTY_HEADER; HEADERS];
    let mut response = Response::new(&mut headers);
    let httparse::Status::Complete(head) = response.parse(answer)? else { return Ok(None) };
    let status = response.code.context("an answer has no status")?;
    let header = |name: &str| response.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name));
    let length = match header("content-length") {
        Some(length) => std::str::from_utf8(length.value)?.parse()?,
        None if status == StatusCode::NO_CONTENT.as_u16() => 0,
        None => bail!("an answer of {status} does not say how long it is"),
    };
    Ok(Some((status, head, length)))
}
