//! The body of any answer: one of the sidecar's own, or one that it passes on.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::{Body, Frame, SizeHint};

use crate::call::Download;

/// The body of an answer.
#[derive(Debug)]
pub(crate) enum Answer {
    /// The sidecar's own.
    Own(Full<Bytes>),
    /// What a called service sends.
    Passed(Download),
}

impl From<Full<Bytes>> for Answer {
    fn from(whole: Full<Bytes>) -> Self {
        Self::Own(whole)
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        match self.get_mut() {
            Self::Own(whole) => Pin::new(whole).poll_frame(context).map_err(|never| match never {}),
            Self::Passed(download) => Pin::new(download).poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Own(whole) => whole.is_end_stream(),
            Self::Passed(download) => download.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Own(whole) => whole.size_hint(),
            Self::Passed(download) => download.size_hint(),
        }
    }
}
