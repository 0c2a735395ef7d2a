//! The body of a client's request, read to its end or not.
//!
//! Who is answered before all of it was read may still be sending. A connection that is closed with bytes unread is reset, and
//! the answer may be lost with it (RFC 9112, 9.6); on HTTP/2 the stream is reset behind the answer, which is allowed (RFC 9113,
//! 8.1) and which some clients take for a failure. So what is left is read and thrown away for a moment, in which the client
//! learns of its answer.
//!
//! Must not know what is in it.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http::header::EXPECT;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::runtime::Handle;

/// How long what is left is read.
const MOMENT: Duration = Duration::from_secs(5);

/// How much of it, in bytes.
const MOST: usize = 16 * 1024 * 1024;

/// See above.
pub(crate) struct Upload {
    /// `None`: there is nothing left to be read.
    left: Option<Incoming>,
    /// Whether its client may be sending without having been asked to.
    is_sent: bool,
}

impl Upload {
    /// Of a request as the library has it.
    pub(crate) fn of(request: Request<Incoming>) -> Request<Self> {
        // Who waits for 100 Continue gets the answer instead, and reading would ask for the body.
        let is_sent = !request.headers().contains_key(EXPECT);
        request.map(|body| Self { left: Some(body), is_sent })
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Some(left) = &mut self.left else { return Poll::Ready(None) };
        let frame = Pin::new(left).poll_frame(context);
        // Who waited for 100 Continue has it by now.
        self.is_sent = true;
        if let Poll::Ready(None | Some(Err(_))) = frame {
            self.left = None;
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.left.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.left.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        let left = self.left.take().filter(|left| self.is_sent && !left.is_end_stream());
        // Where the thread ends, its connections do.
        if let (Some(left), Ok(thread)) = (left, Handle::try_current()) {
            thread.spawn(throw_away(left));
        }
    }
}

async fn throw_away(mut left: Incoming) {
    let reading = async {
        let mut read = 0;
        while let Some(Ok(frame)) = left.frame().await {
            read += frame.data_ref().map_or(0, Bytes::len);
            if read > MOST {
                return;
            }
        }
    };
    let _ = tokio::time::timeout(MOMENT, reading).await;
}
