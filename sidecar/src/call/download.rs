//! The body of a target's answer, on its way to the client.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::client::conn::http1::SendRequest;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, Sleep, sleep};

use super::Upload;
use super::target::Lease;
use crate::connections::Connections;

/// Where a body comes from.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) connections: Connections<Upload>,
    pub(super) address: SocketAddr,
    pub(super) connection: SendRequest<Upload>,
    /// The replica has a call under way until the end.
    pub(super) _lease: Lease,
    /// And so has the sidecar.
    pub(super) _room: OwnedSemaphorePermit,
}

/// A body that is passed on as it comes. Its connection is kept once it has
/// ended; a pause that is too long breaks it off.
#[derive(Debug)]
pub(crate) struct Download {
    body: Incoming,
    longest_pause: Duration,
    pause: Option<Pin<Box<Sleep>>>,
    /// Until the end.
    source: Option<Source>,
}

impl Download {
    /// A body that comes from there.
    pub(super) fn new(body: Incoming, longest_pause: Duration, source: Source) -> Self {
        let mut download = Self { body, longest_pause, pause: None, source: Some(source) };
        if download.body.is_end_stream() {
            download.end();
        }
        download
    }

    /// All of it has come.
    fn end(&mut self) {
        if let Some(source) = self.source.take() {
            source.connections.keep(source.address, source.connection);
        }
    }
}

impl Body for Download {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let this = &mut *self;
        if let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(context) {
            this.pause = None;
            if frame.is_none() || this.body.is_end_stream() {
                this.end();
            }
            return Poll::Ready(frame.map(|frame| frame.map_err(io::Error::other)));
        }
        let pause = this.pause.get_or_insert_with(|| Box::pin(sleep(this.longest_pause)));
        ready!(pause.as_mut().poll(context));
        pause.as_mut().reset(Instant::now() + this.longest_pause);
        let cause = format!("nothing came from the target for {:?}", this.longest_pause);
        Poll::Ready(Some(Err(io::Error::new(io::ErrorKind::TimedOut, cause))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
