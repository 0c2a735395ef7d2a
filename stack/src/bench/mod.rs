//! `stack bench`: what the product costs beside a peer that does without it, on this machine and in one run.
//!
//! Every figure is a ratio: machines differ and are noisy, but the two sides of a ratio are measured in turns. Nothing
//! here is a test, and no test looks at a clock.

pub(crate) mod cpu;
pub(crate) mod figures;
mod forwarder;
pub mod logs;
pub(crate) mod memory;
mod peers;
pub mod proxy;
mod requests;
pub mod skr;
pub mod tls;
mod upstream;

pub use tls::Effort;

/// Why a benchmark gave no figures.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// The group cannot be reached or verified.
    #[error("the group cannot be verified")]
    Unverified(#[from] client::ConnectError),
    /// The stack does not run.
    #[error("the stack does not run")]
    Stack(#[from] crate::StartError),
    /// A file, process or socket of the benchmark.
    #[error("{what}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        source: std::io::Error,
    },
    /// A request without a proof got no answer.
    #[error("a request of {0} got no answer")]
    Straight(&'static str, #[source] crate::straight::StraightError),
    /// A request on an attested connection got no answer.
    #[error("a request on an attested connection got no answer")]
    Attested(#[from] client::SendError),
    /// Not every connection was proved.
    #[error("not every connection was proved")]
    Proofs(#[from] crate::proofs::ProofsError),
    /// Something is not as it must be for the figures to mean anything.
    #[error("{0}")]
    Unexpected(String),
}

/// For `map_err` at a system call.
pub(crate) fn io(what: &'static str) -> impl Fn(std::io::Error) -> BenchError {
    move |source| BenchError::Io { what, source }
}
