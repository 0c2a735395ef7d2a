//! Opening connections to the upstream, more than once if it refuses them: nothing has been sent then.
//!
//! A model server that restarts, or a container of the group that starts after this one, refuses for a moment.
//!
//! Must not know what a connection is for.

use std::error::Error;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use backon::{ExponentialBuilder, Retryable as _};
use http::Uri;
use tower_service::Service;

/// A connector that tries again.
#[derive(Clone)]
pub(crate) struct Dial<C>(C);

impl<C> Dial<C> {
    pub(crate) fn new(connector: C) -> Self {
        Self(connector)
    }
}

/// Twice more, after about 50 and 100 ms, each with some chance.
fn pauses() -> ExponentialBuilder {
    ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(50))
        .with_max_delay(Duration::from_millis(200))
        .with_max_times(2)
        .with_jitter()
}

/// Whether somebody is there and takes no connection: who does not answer at all was waited for long enough.
fn is_refused(error: &(dyn Error + 'static)) -> bool {
    let kind = error.downcast_ref::<io::Error>().map(io::Error::kind);
    matches!(kind, Some(io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset))
        || error.source().is_some_and(is_refused)
}

impl<C> Service<Uri> for Dial<C>
where
    C: Service<Uri> + Clone + Send + 'static,
    C::Response: Send,
    C::Error: Error + Send + 'static,
    C::Future: Send,
{
    type Response = C::Response;
    type Error = C::Error;
    type Future = Pin<Box<dyn Future<Output = Result<C::Response, C::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), C::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connector = self.0.clone();
        let attempt = move || {
            // A connector of hyper's is always ready.
            let mut connector = connector.clone();
            let uri = uri.clone();
            async move { connector.call(uri).await }
        };
        Box::pin(async move { attempt.retry(pauses()).when(|error| is_refused(error)).await })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[tokio::test]
    async fn a_refusal_is_known_as_one() {
        let place = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let uri: Uri = format!("http://{}", place.local_addr().unwrap()).parse().unwrap();
        drop(place);
        let mut tcp = hyper_util::client::legacy::connect::HttpConnector::new();
        assert!(is_refused(&tcp.call(uri).await.unwrap_err()));
        let nowhere = tcp.call(Uri::from_static("ftp://h")).await.unwrap_err();
        assert!(!is_refused(&nowhere));
    }

    #[derive(Clone)]
    struct Refusing(Arc<AtomicU32>);

    impl Service<Uri> for Refusing {
        type Response = u32;
        type Error = io::Error;
        type Future = std::future::Ready<io::Result<u32>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, _: Uri) -> Self::Future {
            let attempt = self.0.fetch_add(1, Ordering::Relaxed);
            std::future::ready(match attempt {
                2 => Ok(attempt),
                ..20 => Err(io::ErrorKind::ConnectionRefused.into()),
                _ => Err(io::Error::other(io::Error::from(io::ErrorKind::TimedOut))),
            })
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_refused_connection_is_tried_three_times_in_all() {
        let attempts = Arc::new(AtomicU32::new(0));
        let mut dial = Dial::new(Refusing(attempts.clone()));
        assert_eq!(dial.call(Uri::from_static("http://h")).await.unwrap(), 2);
        for (before, after) in [(4, 7), (20, 21)] {
            attempts.store(before, Ordering::Relaxed);
            assert!(dial.call(Uri::from_static("http://h")).await.is_err());
            assert_eq!(attempts.load(Ordering::Relaxed), after);
        }
    }
}
