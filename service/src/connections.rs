//! Connections of a listener as they come, so many at once: more wait to be accepted, and cost nothing but a place in the
//! kernel's queue. Must not know what is spoken on them.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::either::Either;
use tonic::transport::server::Connected;

use crate::listen::Listener;

/// Pause after an accept that failed for the whole process, for want of descriptors say.
const PAUSE: Duration = Duration::from_millis(100);

/// A listener, and how many connections it still accepts.
pub(crate) struct Connections {
    listener: Listener,
    slots: Arc<Semaphore>,
}

/// A connection. It has its place until it is dropped.
pub(crate) struct Connection {
    stream: Either<TcpStream, UnixStream>,
    _slot: OwnedSemaphorePermit,
}

impl Connections {
    /// At most `most` connections at once.
    pub(crate) fn new(listener: Listener, most: usize) -> Self {
        Self { listener, slots: Arc::new(Semaphore::new(most)) }
    }

    /// The next connection, when there is a place for it. Can be given up at any time.
    pub(crate) async fn next(&self) -> Connection {
        let slot = self.slots.clone().acquire_owned().await;
        let slot = slot.expect("the semaphore is never closed");
        loop {
            match self.accept().await {
                Ok(stream) => return Connection { stream, _slot: slot },
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        }
    }

    async fn accept(&self) -> io::Result<Either<TcpStream, UnixStream>> {
        match &self.listener {
            Listener::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                // Answers are written whole; waiting for more would only delay them.
                let _ = stream.set_nodelay(true);
                Ok(Either::Left(stream))
            }
            Listener::Unix(listener, _) => Ok(Either::Right(listener.accept().await?.0)),
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, into)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

/// Callers are inside the group and tell nothing by where they come from.
impl Connected for Connection {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

#[cfg(test)]
mod tests {
    use futures_util::poll;

    use super::*;
    use crate::listen::Address;

    /// Good: two are accepted. Bad: a third, which has connected, is not, until one of the two is gone.
    async fn at_most_two(address: &Address) {
        let listener = Listener::bind(address).await.unwrap();
        let address = listener.address();
        let connect = async || match &address {
            Address::Tcp(address) => Either::Left(TcpStream::connect(address).await.unwrap()),
            Address::Unix(path) => Either::Right(UnixStream::connect(path).await.unwrap()),
        };
        let connections = Connections::new(listener, 2);
        let _clients = [connect().await, connect().await, connect().await];
        let (first, second) = (connections.next().await, connections.next().await);
        let mut third = Box::pin(connections.next());
        assert!(poll!(&mut third).is_pending());
        drop(first);
        let _third = third.await;
        assert_eq!(connections.slots.available_permits(), 0);
        drop(second);
        assert_eq!(connections.slots.available_permits(), 1);
    }

    #[tokio::test]
    async fn what_is_beyond_the_bound_waits_for_a_place() {
        let folder = tempfile::tempdir().unwrap();
        at_most_two(&"127.0.0.1:0".parse().unwrap()).await;
        at_most_two(&Address::Unix(folder.path().join("s"))).await;
    }

    #[tokio::test]
    async fn who_gives_up_waiting_takes_no_place() {
        let listener = Listener::bind(&"127.0.0.1:0".parse().unwrap()).await.unwrap();
        let connections = Connections::new(listener, 1);
        let mut waiting = Box::pin(connections.next());
        assert!(poll!(&mut waiting).is_pending());
        drop(waiting);
        assert_eq!(connections.slots.available_permits(), 1);
    }
}
