//! The one body type of the proxy's answers.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use service::BoxError;
use tokio::time::{Instant, Sleep, sleep};

/// Bytes to a client.
pub(crate) type Body = UnsyncBoxBody<Bytes, BoxError>;

/// A body that is all there.
pub(crate) fn full(bytes: Bytes) -> Body {
    Full::new(bytes).map_err(|never| match never {}).boxed_unsync()
}

/// A body that is all there, in parts that are not copied together.
pub(crate) fn parts<const N: usize>(parts: [Bytes; N]) -> Body {
    let left = parts.iter().map(Bytes::len).sum();
    Parts { parts: parts.into_iter(), left }.boxed_unsync()
}

/// A body that keeps a value until it ends or is dropped.
pub(crate) fn holding(body: Body, value: impl Send + Unpin + 'static) -> Body {
    Holding { body, _value: value }.boxed_unsync()
}

struct Parts<const N: usize> {
    parts: std::array::IntoIter<Bytes, N>,
    /// Bytes in them.
    left: usize,
}

impl<const N: usize> http_body::Body for Parts<N> {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let next = self.parts.next();
        self.left = self.left.saturating_sub(next.as_ref().map_or(0, Bytes::len));
        Poll::Ready(next.map(|part| Ok(Frame::data(part))))
    }

    fn is_end_stream(&self) -> bool {
        self.parts.len() == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(u64::try_from(self.left).unwrap_or(u64::MAX))
    }
}

struct Holding<T> {
    body: Body,
    _value: T,
}

impl<T: Unpin> http_body::Body for Holding<T> {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// An upstream's body, passed on as it comes, which must not pause for longer than `patience`.
pub(crate) struct Streamed {
    upstream: Incoming,
    patience: Duration,
    /// Made when the upstream pauses for the first time.
    silence: Option<Pin<Box<Sleep>>>,
    pauses: bool,
}

impl Streamed {
    pub(crate) fn new(upstream: Incoming, patience: Duration) -> Self {
        Self { upstream, patience, silence: None, pauses: false }
    }
}

impl http_body::Body for Streamed {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let body = &mut *self;
        if let Poll::Ready(frame) = Pin::new(&mut body.upstream).poll_frame(context) {
            body.pauses = false;
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        let patience = body.patience;
        let silence = body.silence.get_or_insert_with(|| Box::pin(sleep(patience)));
        if !std::mem::replace(&mut body.pauses, true) {
            silence.as_mut().reset(Instant::now() + patience);
        }
        ready!(silence.as_mut().poll(context));
        Poll::Ready(Some(Err("the upstream paused for too long".into())))
    }

    fn is_end_stream(&self) -> bool {
        self.upstream.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.upstream.size_hint()
    }
}
