//! An HTTP/1.1 answer as far as it has come. Pure.

use std::time::Duration;

use http::StatusCode;

/// Headers of an answer; more are no answer of a service in its senses.
const MOST_HEADERS: usize = 96;

/// The head of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) status: StatusCode,
    /// How long the service asks to be left alone.
    pub(super) retry_after: Option<Duration>,
    pub(super) body: Body,
    /// Whether the connection may be used again.
    pub(super) keep: bool,
    /// How many bytes it has.
    pub(super) length: usize,
}

/// How the end of the body is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Body {
    /// By its length.
    Exactly(usize),
    /// By an empty chunk.
    Chunked,
    /// By the end of the connection.
    UntilEnd,
}

/// A body, or what has come of it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Read {
    /// All of it, and how many bytes it took on the wire.
    Whole(Vec<u8>, usize),
    /// The beginning.
    Part(Vec<u8>),
}

/// Reads the head; `None` while it is not all there. Interim answers (1xx) are to be skipped.
pub(super) fn head(bytes: &[u8]) -> Result<Option<Head>, String> {
    let mut headers = [httparse::EMPTY_HEADER; MOST_HEADERS];
    let mut response = httparse::Response::new(&mut headers);
    let length = match response.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(error) => return Err(error.to_string()),
    };
    let status =
        StatusCode::from_u16(response.code.unwrap_or_default()).map_err(|error| error.to_string())?;
    let (mut exactly, mut chunked, mut retry_after) = (None, false, None);
    let mut keep = response.version == Some(1);
    for header in &*response.headers {
        let is = |name: &str| header.name.eq_ignore_ascii_case(name);
        let has =
            |token: &[u8]| header.value.windows(token.len()).any(|part| part.eq_ignore_ascii_case(token));
        if is("content-length") {
            let text = std::str::from_utf8(header.value).unwrap_or_default();
            let length =
                text.trim().parse::<usize>().map_err(|_| format!("the content-length is {text:?}"))?;
            if exactly.is_some_and(|other| other != length) {
                return Err("it has two content-lengths".to_owned());
            }
            exactly = Some(length);
        } else if is("transfer-encoding") {
            chunked = has(b"chunked");
        } else if is("connection") {
            keep = if has(b"close") { false } else { keep || has(b"keep-alive") };
        } else if is("retry-after") {
            retry_after = std::str::from_utf8(header.value).ok().and_then(self::retry_after);
        }
    }
    let bodyless = status.is_informational() || matches!(status.as_u16(), 204 | 304);
    let body = match exactly {
        _ if bodyless => Body::Exactly(0),
        _ if chunked => Body::Chunked,
        Some(length) => Body::Exactly(length),
        None => Body::UntilEnd,
    };
    Ok(Some(Head { status, retry_after, body, keep, length }))
}

/// Reads a body; `ended`: no more will come.
pub(super) fn body(kind: Body, bytes: &[u8], ended: bool) -> Result<Read, String> {
    Ok(match kind {
        Body::Exactly(length) if bytes.len() >= length => Read::Whole(bytes[..length].to_vec(), length),
        Body::UntilEnd if ended => Read::Whole(bytes.to_vec(), bytes.len()),
        Body::Exactly(_) | Body::UntilEnd => Read::Part(bytes.to_vec()),
        Body::Chunked => chunks(bytes)?,
    })
}

fn chunks(bytes: &[u8]) -> Result<Read, String> {
    let mut data = Vec::new();
    let mut rest = bytes;
    loop {
        let (start, size) = match httparse::parse_chunk_size(rest) {
            Ok(httparse::Status::Complete(found)) => found,
            Ok(httparse::Status::Partial) => return Ok(Read::Part(data)),
            Err(_) => return Err("a chunk has no size".to_owned()),
        };
        rest = &rest[start..];
        if size == 0 {
            return Ok(match trailers(rest) {
                Some(length) => Read::Whole(data, bytes.len() - rest.len() + length),
                None => Read::Part(data),
            });
        }
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        let Some((chunk, after)) = rest.split_at_checked(size) else {
            data.extend_from_slice(rest);
            return Ok(Read::Part(data));
        };
        data.extend_from_slice(chunk);
        rest = match after {
            [b'\r', b'\n', more @ ..] => more,
            [] | [b'\r'] => return Ok(Read::Part(data)),
            _ => return Err("a chunk is longer than it says".to_owned()),
        };
    }
}

/// How many bytes the trailers take, with the empty line after them.
fn trailers(bytes: &[u8]) -> Option<usize> {
    if bytes.starts_with(b"\r\n") {
        return Some(2);
    }
    bytes.windows(4).position(|window| window == b"\r\n\r\n").map(|at| at + 4)
}

/// Seconds or a date, as RFC 9110 allows.
fn retry_after(text: &str) -> Option<Duration> {
    let text = text.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = jiff::fmt::rfc2822::parse(text).ok()?.timestamp();
    Duration::try_from(date.duration_since(jiff::Timestamp::now())).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Head {
        head(text.as_bytes()).unwrap().unwrap()
    }

    #[test]
    fn the_head_says_how_the_body_ends_and_whether_the_connection_may_be_kept() {
        for (text, status, body, keep) in [
            ("HTTP/1.1 204 No Content\r\n\r\n", 204, Body::Exactly(0), true),
            ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", 200, Body::Exactly(5), true),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", 200, Body::Chunked, true),
            ("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n", 200, Body::UntilEnd, false),
            ("HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", 200, Body::Exactly(0), false),
            (
                "HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 0\r\n\r\n",
                200,
                Body::Exactly(0),
                true,
            ),
        ] {
            let head = read(text);
            assert_eq!((head.status.as_u16(), head.body, head.keep), (status, body, keep), "{text}");
            assert_eq!(head.length, text.len());
        }
        assert_eq!(head(b"HTTP/1.1 200 OK\r\nContent-"), Ok(None));
    }

    #[test]
    fn what_is_no_http_is_said_to_be_none() {
        for text in [
            "SSH-2.0-OpenSSH\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
            "HTTP/1.1 999999 X\r\n\r\n",
        ] {
            assert!(head(text.as_bytes()).is_err(), "{text}");
        }
        let bomb = format!("HTTP/1.1 200 OK\r\n{}\r\n", "a: b\r\n".repeat(200));
        assert!(head(bomb.as_bytes()).is_err());
    }

    #[test]
    fn a_body_is_read_to_its_end_and_no_further() {
        let whole = |text: &str, length| Ok(Read::Whole(text.as_bytes().to_vec(), length));
        let part = |text: &str| Ok(Read::Part(text.as_bytes().to_vec()));
        assert_eq!(body(Body::Exactly(2), b"abc", false), whole("ab", 2));
        assert_eq!(body(Body::Exactly(4), b"abc", false), part("abc"));
        assert_eq!(body(Body::UntilEnd, b"abc", false), part("abc"));
        assert_eq!(body(Body::UntilEnd, b"abc", true), whole("abc", 3));
        assert_eq!(body(Body::Chunked, b"3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n", false), whole("abcde", 24));
        assert_eq!(body(Body::Chunked, b"1\r\na\r\n0\r\nt: 1\r\n\r\n", false), whole("a", 17));
        assert_eq!(body(Body::Chunked, b"3\r\nabc\r\n2\r\nd", false), part("abcd"));
        assert!(body(Body::Chunked, b"nonsense\r\n", false).is_err());
        assert!(body(Body::Chunked, b"1\r\nabc", false).is_err());
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        assert_eq!(retry_after("7"), Some(Duration::from_secs(7)));
        assert_eq!(retry_after("soon"), None);
        assert_eq!(retry_after("Sun, 06 Nov 1994 08:49:37 GMT"), None, "a date in the past asks for nothing");
        let date = jiff::Timestamp::now() + Duration::from_secs(100);
        let text = jiff::fmt::rfc2822::to_string(&date.to_zoned(jiff::tz::TimeZone::UTC)).unwrap();
        assert!(retry_after(&text).unwrap() > Duration::from_secs(90));
    }

    proptest! {
        #[test]
        fn no_answer_however_broken_is_too_much(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = head(&bytes);
            let _ = body(Body::Chunked, &bytes, false);
        }
    }
}
