//! A socket that gathers what is written in one turn of the runtime, and sends it in one call.
//!
//! An HTTP/2 connection writes the head of a request when it has that, and the body when it comes, a moment later. Each of
//! them is a system call here, and another one with a wake-up at the other end. So a short write waits, once, until whatever else is ready has run. What is long goes out as it comes.
//!
//! It must not know what it carries.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The most that is gathered, in bytes. The pieces of a long body are longer, and are not copied.
const MOST: usize = 8 * 1024;

/// The socket.
pub(crate) struct Gathered<S> {
    socket: S,
    held: BytesMut,
    /// What is held had its turn to wait.
    waited: bool,
}

impl<S: AsyncWrite + Unpin> Gathered<S> {
    pub(crate) fn new(socket: S) -> Self {
        Self { socket, held: BytesMut::new(), waited: false }
    }

    /// Sends what is held.
    fn poll_send(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.held.has_remaining() {
            let sent = ready!(Pin::new(&mut self.socket).poll_write(context, &self.held))?;
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.held.advance(sent);
        }
        self.held.clear();
        self.waited = false;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Gathered<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(context, into)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Gathered<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(context, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let length: usize = parts.iter().map(|part| part.len()).sum();
        if self.held.len() + length <= MOST {
            for part in parts {
                self.held.extend_from_slice(part);
            }
            return Poll::Ready(Ok(length));
        }
        // It is long: it goes now, together with what is held.
        let Self { socket, held, waited } = &mut *self;
        loop {
            let held_first =
                std::iter::once(IoSlice::new(held.as_ref())).filter(|one| !one.is_empty());
            let all: Vec<IoSlice<'_>> = held_first.chain(parts.iter().copied()).collect();
            let sent = ready!(Pin::new(&mut *socket).poll_write_vectored(context, &all))?;
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            let of_held = sent.min(held.len());
            held.advance(of_held);
            if sent > of_held {
                *waited = false;
                return Poll::Ready(Ok(sent - of_held));
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.held.has_remaining() && !std::mem::replace(&mut self.waited, true) {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        ready!(self.poll_send(context))?;
        Pin::new(&mut self.socket).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_send(context))?;
        Pin::new(&mut self.socket).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    /// A socket that keeps each call's bytes, and takes so many of them at most.
    struct Calls {
        calls: Vec<Vec<u8>>,
        most: usize,
    }

    impl AsyncWrite for Calls {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            let taken = bytes.len().min(self.most);
            self.calls.push(bytes[..taken].to_vec());
            Poll::Ready(Ok(taken))
        }

        fn poll_write_vectored(
            self: Pin<&mut Self>,
            context: &mut Context<'_>,
            parts: &[IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            let parts: Vec<&[u8]> = parts.iter().map(|part| &**part).collect();
            self.poll_write(context, &parts.concat())
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    fn gathered(most: usize) -> Gathered<Calls> {
        Gathered::new(Calls { calls: Vec::new(), most })
    }

    async fn flush_once(into: &mut Gathered<Calls>) -> Poll<io::Result<()>> {
        poll_fn(|context| Poll::Ready(Pin::new(&mut *into).poll_flush(context))).await
    }

    #[tokio::test]
    async fn what_is_written_in_one_turn_is_one_call() {
        let mut into = gathered(usize::MAX);
        into.write_all(b"head").await.unwrap();
        assert!(flush_once(&mut into).await.is_pending(), "it waits once");
        into.write_all(b"body").await.unwrap();
        assert!(flush_once(&mut into).await.is_ready(), "and not again");
        assert_eq!(into.socket.calls, [b"headbody"]);
        // The next one waits for itself, and comes without anybody asking again.
        into.write_all(b"next").await.unwrap();
        into.flush().await.unwrap();
        assert_eq!(into.socket.calls.len(), 2);
        assert!(flush_once(&mut into).await.is_ready(), "there is nothing to wait for");
    }

    #[tokio::test]
    async fn long_writes_go_at_once_together_with_what_is_held() {
        for most in [usize::MAX, 3, MOST - 1] {
            let mut into = gathered(most);
            let long = vec![7; MOST];
            into.write_all(b"head").await.unwrap();
            into.write_all(&long).await.unwrap();
            // What a call left over may be short enough to wait.
            into.flush().await.unwrap();
            assert_eq!(into.socket.calls.len() == 1, most == usize::MAX);
            assert!(into.socket.calls.concat() == [b"head".as_slice(), &long].concat());
        }
    }

    #[tokio::test]
    async fn nothing_is_lost_in_parts_or_at_the_end() {
        let mut into = gathered(3);
        into.write_all(b"in parts").await.unwrap();
        into.flush().await.unwrap();
        assert_eq!(into.socket.calls.concat(), b"in parts");
        into.write_all(b", and the end").await.unwrap();
        into.shutdown().await.unwrap();
        assert_eq!(into.socket.calls.concat(), b"in parts, and the end");
        let mut closed = gathered(0);
        closed.write_all(b"lost").await.unwrap();
        assert_eq!(closed.flush().await.unwrap_err().kind(), io::ErrorKind::WriteZero);
    }

    #[tokio::test]
    async fn what_comes_is_read_as_it_comes() {
        let (near, mut far) = tokio::io::duplex(64);
        let mut near = Gathered::new(near);
        far.write_all(b"answer").await.unwrap();
        let mut read = [0; 6];
        near.read_exact(&mut read).await.unwrap();
        assert_eq!(&read, b"answer");
    }
}
