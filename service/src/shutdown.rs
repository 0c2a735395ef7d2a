//! One signal to stop, many who wait for it.

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Says when to stop. Clones share the signal; it fires once and stays fired.
#[derive(Clone, Debug, Default)]
pub struct Shutdown(CancellationToken);

impl Shutdown {
    /// Fires on SIGTERM or SIGINT.
    ///
    /// # Errors
    ///
    /// The handlers could not be installed.
    pub(crate) fn on_signal() -> std::io::Result<Self> {
        let shutdown = Self::default();
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let trigger = shutdown.clone();
        tokio::spawn(async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            trigger.fire();
        });
        Ok(shutdown)
    }

    /// Fires as well when standard input ends: when whoever holds its other end closes it, or is gone. What comes in before
    /// is thrown away.
    ///
    /// # Errors
    ///
    /// There is no thread to wait for it.
    pub(crate) fn fire_when_input_ends(&self) -> std::io::Result<()> {
        let shutdown = self.clone();
        let wait = move || {
            // An error is an end, too: nobody can hold the other end of what cannot be read.
            let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
            shutdown.fire();
        };
        std::thread::Builder::new().name("parent".to_owned()).spawn(wait).map(|_| ())
    }

    /// Tells everybody to stop.
    pub fn fire(&self) {
        self.0.cancel();
    }

    /// Resolves when it is time to stop.
    pub fn fired(&self) -> impl Future<Output = ()> + Send + 'static {
        self.0.clone().cancelled_owned()
    }
}
