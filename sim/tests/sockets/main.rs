//! Every simulator over its real socket: what it answers, and what it refuses.

#![expect(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "helpers of tests fail as tests do"
)]

mod binaries;
mod blob;
mod device;
mod entra;
mod imds;
mod kds;
mod maa;
mod model;
mod support;
mod vault;
mod world;
