//! How every binary of the group starts, listens, logs, calls out and stops.
//!
//! A role implements [`Role`] and its `main` is one line; what happens then reads from top to bottom in
//! [`main`]: no core dumps → environment → config (all problems at once) → logs → runtime → serve → stop.
//!
//! This crate must not know what any role does: it knows neither `attestation` nor `proto`.

pub mod body;
pub mod clock;
mod connections;
pub mod core_dumps;
pub mod env;
pub mod grpc;
pub mod health;
pub mod http;
pub mod listen;
mod log_file;
mod logs;
pub mod outbound;
pub mod plain_file;
mod process;
pub mod roots;
mod shutdown;

pub use process::{
    BoxError, Failure, Identity, Process, Role, Until, chain, healthcheck, main, main_with, run,
};
pub use shutdown::Shutdown;

#[doc(hidden)]
pub use tracing as __tracing;
