//! `pmc logs` as readers run it: a log that grows or is taken away while it is followed, saved proofs, and containers of a
//! simulated storage account.

#![expect(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "helpers of tests"
)]

mod account;
mod desk;
mod following;
mod proofs;
mod storage;
#[expect(dead_code, reason = "the library's own tests use the rest")]
#[path = "../../src/logs/testing.rs"]
mod testing;

// what `testing` takes from the library that it stands in
use client::logs::{Document, Identities, OpenError, Reader, Report, Source, open, sign_readers};
use client::secrets;
