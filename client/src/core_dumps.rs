//! Keeps `pmc`'s memory to itself, as the roles keep theirs: it holds keys of readers and signers, and API keys and prompts that
//! are forwarded. A crash writes nothing of it down, and no other process of the same user reads or traces it.
//!
//! For the program, not for the library: a program that uses that decides for itself.

use rustix::io::Errno;
use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

/// The system does not let this process keep its memory to itself.
#[derive(Debug, thiserror::Error)]
#[error(
    "core dumps of this process cannot be turned off: let it call prctl and setrlimit, which a sandbox may forbid"
)]
pub(crate) struct NotForbidden(#[from] Errno);

/// Turns core dumps off, for good: those into files by their longest length, those into pipes by the mark that none may be made
/// (core(5)).
pub(crate) fn forbid() -> Result<(), NotForbidden> {
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    Ok(())
}
