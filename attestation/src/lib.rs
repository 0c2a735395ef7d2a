//! Formats, verification and appraisal of the evidence of AMD SEV-SNP guests, for everybody who has to decide
//! whether to trust one.
//!
//! Bytes are [`verify`]-ed against [`Anchors`]: *is it authentic?* What is [`Verified`] is [`appraise`]-d
//! against a [`Policy`]: *is it acceptable to me?* Both fail closed, and both report every check, with what was
//! expected and what was found.
//!
//! This crate is pure: no I/O, no clock, no environment, no threads. Time is an argument. It must not know who
//! calls it, over which network, or why.

pub mod anchors;
pub mod appraise;
pub mod binding;
pub mod bundle;
mod cbor;
pub mod certificate;
pub mod check;
pub mod checks;
pub mod client_proof;
pub mod connection;
pub mod cose;
pub mod crl;
pub mod crypto;
mod cursor;
pub mod demand;
pub mod did_x509;
pub mod encoding;
pub mod endorser;
pub mod evidence;
pub mod hcl;
pub mod json;
pub mod jws;
pub mod log_record;
mod lp;
pub mod maa;
pub mod merkle;
mod name_constraints;
pub mod owner;
pub mod path;
pub mod policy;
pub mod policy_file;
pub mod product;
pub mod report;
pub mod rsa_key;
pub mod runtime_data;
pub mod secrets;
mod signed;
pub mod tcb;
#[cfg(test)]
mod testing;
pub mod tpm;
pub mod uvm;
pub mod vek;
pub mod verify;
pub mod vtpm;
pub mod wire;

pub use anchors::{Anchors, Trust, danger};
pub use appraise::{Appraised, appraise};
pub use binding::{Binding, ReportData};
pub use check::{Check, Finding, Outcome, Rejected};
pub use demand::Demand;
pub use endorser::Endorser;
pub use evidence::Evidence;
pub use policy::{Expect, Policy};
pub use verify::{Guest, Verified, verify};
