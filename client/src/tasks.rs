//! The tasks of one HTTP/2 connection, which can be ended together.
//!
//! hyper drives a connection with several tasks, and ending the one that takes requests lets answers go on. A
//! connection whose proof is refused must end at once: with the tasks that drive it goes the socket, and with the socket
//! every request's own.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::task::AbortHandle;

/// Tasks that drive a connection, hyper's and ours. They are made with it, before any request's.
const DRIVERS: usize = 2;

/// Spawns tasks, and keeps hold of those that drive the connection.
#[derive(Clone, Default)]
pub(crate) struct Tasks(Arc<Mutex<Vec<AbortHandle>>>);

impl Tasks {
    /// Ends the connection, and drops what it holds: the socket, too.
    pub(crate) fn cut(&self) {
        for driver in self.0.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            driver.abort();
        }
    }
}

impl<F> hyper::rt::Executor<F> for Tasks
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    fn execute(&self, task: F) {
        let task = tokio::spawn(async move { drop(task.await) });
        let mut drivers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if drivers.len() < DRIVERS {
            drivers.push(task.abort_handle());
        }
    }
}
