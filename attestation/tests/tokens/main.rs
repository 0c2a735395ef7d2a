//! Tokens of Azure Attestation: made here with a key of this test, where one row after the other is made to
//! fail alone, and recorded ones.

#![expect(clippy::panic, clippy::unwrap_used, reason = "tests")]

mod authenticity;
mod claims;
mod mint;
mod real;
#[path = "../recorded/mod.rs"]
mod recorded;
