//! HTTP/1.1 as strictly as the proxy before this one took it, around a library that is more lenient (`proxy.md` cases 69, 70
//! and 89).
//!
//! [`Framed`] sits between the library and a connection. What comes in is only watched, never changed: a request with two
//! framings, lines without CR, or lines that are too long is marked, and refused where requests are answered. What goes out
//! is passed on, but for the library's own short answers to what it could not read, which lack our headers: another stands
//! in their place. Nothing of a request is kept longer than its line, or said again.
//!
//! Must not know what requests ask for.

mod follower;

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::Request;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use follower::Follower;

/// Among the extensions of a request: it is not framed as it should be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Misframed;

/// What is known of a connection's framing, by those who read it and those who answer.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    /// Something was wrong. Whatever comes later on this connection is not believed either.
    is_misframed: AtomicBool,
    /// Heads that began to arrive.
    heads: AtomicU64,
    /// Requests that were read from them.
    requests: AtomicU64,
    /// Requests whose answer is not over.
    answering: AtomicU64,
}

/// A request that is being answered, until the last byte of its answer was handed over.
pub(crate) struct Answering(Arc<Watch>);

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.answering.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Watch {
    /// A request was read. Marks it, and says so, if it is not framed as it should be.
    pub(crate) fn begin<B>(self: &Arc<Self>, request: &mut Request<B>) -> (bool, Answering) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.answering.fetch_add(1, Ordering::Relaxed);
        let is_misframed = self.is_misframed.load(Ordering::Relaxed);
        if is_misframed {
            request.extensions_mut().insert(Misframed);
        }
        (is_misframed, Answering(self.clone()))
    }

    /// Whether there is a head of which no request was made, and no other answer is on its way.
    fn is_owed_an_answer(&self) -> bool {
        self.answering.load(Ordering::Relaxed) == 0
            && self.heads.load(Ordering::Relaxed) > self.requests.load(Ordering::Relaxed)
    }
}

/// A connection whose framing is watched.
pub(crate) struct Framed<S, F> {
    stream: S,
    watch: Arc<Watch>,
    follower: Follower,
    /// Makes the answer to what cannot be read.
    unreadable: F,
    /// What is left of such an answer.
    instead: Vec<u8>,
    /// Since when nothing could be written.
    stalled: Option<Pin<Box<Sleep>>>,
}

/// How long nothing of an answer may get through. Who reads at all is not in a hurry; who does not holds a place that others
/// need.
const STALL: Duration = Duration::from_secs(60);

impl<S, F: Fn() -> Vec<u8>> Framed<S, F> {
    pub(crate) fn new(stream: S, watch: Arc<Watch>, unreadable: F) -> Self {
        Self {
            stream,
            watch,
            follower: Follower::default(),
            unreadable,
            instead: Vec::new(),
            stalled: None,
        }
    }

    /// Whether these bytes are the library's own answer to something that it could not read: exactly one head, without a
    /// body, and none of ours, which have more headers.
    fn is_the_librarys(&self, bytes: &[u8]) -> bool {
        bytes.starts_with(b"HTTP/1.1 4")
            && bytes.len() < 200
            && bytes.ends_with(b"\r\n\r\n")
            && self.watch.is_owed_an_answer()
            && !bytes.windows(15).any(|window| window == b"x-frame-options")
    }
}

impl<S, F> Framed<S, F> {
    /// What came of writing, or that nothing did for too long.
    fn bounded<T>(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep(STALL)));
        ready!(stalled.as_mut().poll(context));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncWrite + Unpin, F> Framed<S, F> {
    /// Writes what stands in the place of such an answer.
    fn poll_instead(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.instead.is_empty() {
            let written = ready!(Pin::new(&mut self.stream).poll_write(context, &self.instead))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.instead.drain(..written);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + Unpin, F: Unpin> AsyncRead for Framed<S, F> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buffer.filled().len();
        ready!(Pin::new(&mut this.stream).poll_read(context, buffer))?;
        let read = buffer.filled().get(before..).unwrap_or_default();
        this.follower.follow(read);
        this.watch.heads.store(this.follower.heads(), Ordering::Relaxed);
        if this.follower.is_misframed() {
            this.watch.is_misframed.store(true, Ordering::Relaxed);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin, F: Fn() -> Vec<u8> + Unpin> AsyncWrite for Framed<S, F> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        ready!(this.poll_instead(context))?;
        if this.is_the_librarys(bytes) {
            this.instead = (this.unreadable)();
            return Poll::Ready(Ok(bytes.len()));
        }
        let written = Pin::new(&mut this.stream).poll_write(context, bytes);
        this.bounded(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        all: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        ready!(this.poll_instead(context))?;
        let mut parts = all.iter().filter(|part| !part.is_empty());
        if let (Some(first), None) = (parts.next(), parts.next())
            && this.is_the_librarys(first)
        {
            this.instead = (this.unreadable)();
            return Poll::Ready(Ok(first.len()));
        }
        let written = Pin::new(&mut this.stream).poll_write_vectored(context, all);
        this.bounded(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        ready!(this.poll_instead(context))?;
        let flushed = Pin::new(&mut this.stream).poll_flush(context);
        this.bounded(context, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_instead(context))?;
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    fn framed<S>(stream: S) -> Framed<S, impl Fn() -> Vec<u8>> {
        Framed::new(stream, Arc::default(), Vec::new)
    }

    #[tokio::test(start_paused = true)]
    async fn who_reads_nothing_of_an_answer_loses_the_connection() {
        let (mut client, server) = tokio::io::duplex(16);
        let mut server = framed(server);
        let begin = tokio::time::Instant::now();
        let written = server.write_all(&[b'x'; 64]).await;
        assert_eq!(written.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert!(begin.elapsed() >= STALL);
        let mut read = [0; 16];
        client.read_exact(&mut read).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn who_reads_slowly_keeps_it() {
        let (mut client, server) = tokio::io::duplex(1);
        let mut server = framed(server);
        let reader = tokio::spawn(async move {
            for _ in 0..8 {
                tokio::time::sleep(STALL / 2).await;
                client.read_u8().await.unwrap();
            }
        });
        server.write_all(&[b'x'; 8]).await.unwrap();
        reader.await.unwrap();
    }

    #[test]
    fn an_answer_that_is_on_its_way_is_never_replaced() {
        let watch = Arc::new(Watch::default());
        watch.heads.store(2, Ordering::Relaxed);
        let stream = tokio::io::empty();
        let framed = Framed::new(stream, watch.clone(), Vec::new);
        let bad = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n";
        let (_, answering) = watch.begin(&mut Request::new(()));
        assert!(!framed.is_the_librarys(bad), "a part of its body");
        drop(answering);
        assert!(framed.is_the_librarys(bad));
    }
}
