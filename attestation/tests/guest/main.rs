//! Every check of a guest on synthetic evidence, with a certification authority of its own.

#![expect(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "helpers of tests"
)]

mod case;
mod client;
mod connection;
mod endorser;
mod pki;
mod revocation;
mod rows;
