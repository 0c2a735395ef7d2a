//! Threads of this process whose processor time can be told from everybody else's.

use std::time::Duration;

use tokio::runtime::{Builder, Runtime};

use crate::bench::{BenchError, cpu, io};

/// One thread with a runtime of its own.
pub(crate) struct Threads {
    name: &'static str,
    /// Taken when this is dropped, and not before.
    runtime: Option<Runtime>,
}

impl Threads {
    /// Linux keeps 15 bytes of the name.
    pub(crate) fn start(name: &'static str) -> Result<Self, BenchError> {
        let mut builder = Builder::new_multi_thread();
        let runtime = builder.worker_threads(1).thread_name(name).enable_all().build();
        let runtime = runtime.map_err(io("a thread of the benchmark cannot be started"))?;
        Ok(Self { name, runtime: Some(runtime) })
    }

    /// Does this work there.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, BenchError>> + Send + 'static,
    ) -> Result<T, BenchError> {
        let ended = || BenchError::Unexpected(format!("{} has ended", self.name));
        let work = self.runtime.as_ref().ok_or_else(ended)?.spawn(work);
        work.await.map_err(|_| ended())?
    }

    /// Processor time that they have used.
    pub(crate) fn used(&self) -> Result<Duration, BenchError> {
        cpu::used_by_threads(std::process::id(), self.name)
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        // A runtime that is dropped in another one waits, which panics there.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
