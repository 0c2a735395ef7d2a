//! An answer of the upstream on its way to the client: when its first bytes passed, and its last.
//!
//! Must not know what passes.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt as _;
use service::BoxError;

use crate::body::Body;

use super::Metrics;
use super::names::Operation;

/// The same body, watched.
pub(super) fn body(body: Body, metrics: Arc<Metrics>, labels: Operation, begin: Instant) -> Body {
    metrics.series.streams.inc();
    Watched { body, metrics, labels, begin, has_begun: false }.boxed_unsync()
}

struct Watched {
    body: Body,
    metrics: Arc<Metrics>,
    labels: Operation,
    begin: Instant,
    has_begun: bool,
}

impl http_body::Body for Watched {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if !self.has_begun && matches!(polled, Poll::Ready(Some(Ok(_)))) {
            self.has_begun = true;
            let seconds = self.begin.elapsed().as_secs_f64();
            self.metrics.series.first_token.get_or_create(&self.labels).observe(seconds);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        let seconds = self.begin.elapsed().as_secs_f64();
        self.metrics.series.duration.get_or_create(&self.labels).observe(seconds);
        self.metrics.series.streams.dec();
    }
}
