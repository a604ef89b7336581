//! Takes in a body: bounded in size, in time, and in what all bodies may use together.

use std::future::Future;
use std::task::Poll;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};

use crate::publish::Admitted;

/// Why a body was not taken in.
#[derive(Debug)]
pub(crate) enum BodyError {
    /// Larger than allowed.
    TooLarge,
    /// There is no room for it now.
    NoRoom,
    /// It did not come in time.
    TimedOut,
    /// The client broke off.
    Broken(String),
}

/// The length that the client announced; 0 when it announced none.
pub(crate) fn announced(body: &Incoming) -> usize {
    body.size_hint().exact().and_then(|length| usize::try_from(length).ok()).unwrap_or(0)
}

/// Takes the whole body in. One that arrives in one piece is not copied.
pub(crate) async fn collect(
    body: Incoming,
    largest: usize,
    room: &mut Admitted,
    timeout: Duration,
) -> Result<Bytes, BodyError> {
    let mut collecting = std::pin::pin!(pieces(body, largest, room));
    // Most bodies are there already: those need no timer.
    let first = std::future::poll_fn(|context| Poll::Ready(collecting.as_mut().poll(context))).await;
    match first {
        Poll::Ready(result) => result,
        Poll::Pending => match tokio::time::timeout(timeout, collecting).await {
            Ok(result) => result,
            Err(_) => Err(BodyError::TimedOut),
        },
    }
}

async fn pieces(mut body: Incoming, largest: usize, room: &mut Admitted) -> Result<Bytes, BodyError> {
    let expected = announced(&body);
    if expected > largest {
        return Err(BodyError::TooLarge);
    }
    let mut whole = Bytes::new();
    let mut joined = BytesMut::new();
    let mut length = 0_usize;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| BodyError::Broken(error.to_string()))?;
        let Ok(data) = frame.into_data() else { continue };
        length += data.len();
        if length > largest {
            return Err(BodyError::TooLarge);
        }
        // What was announced has its room already.
        if expected == 0 && !room.grow(data.len()) {
            return Err(BodyError::NoRoom);
        }
        if whole.is_empty() && joined.is_empty() {
            whole = data;
            continue;
        }
        if joined.is_empty() {
            joined.reserve(expected.max(whole.len() + data.len()));
            joined.extend_from_slice(&whole);
        }
        joined.extend_from_slice(&data);
    }
    Ok(if joined.is_empty() { whole } else { joined.freeze() })
}
