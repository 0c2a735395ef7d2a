//! Keeps this process's memory to itself: no crash writes it down, and no other process of the same user reads or traces it.
//!
//! Keys and prompts are in memory that the processor encrypts, and a core dump would put all of it into a file, or into a pipe
//! of whoever set `core_pattern`. A pipe heeds no limit of its length, so the limit alone is not enough (core(5)). What follows
//! (PR_SET_DUMPABLE(2const)): the process's files in /proc belong to root, and ptrace and `/proc/PID/mem` are for
//! CAP_SYS_PTRACE only. Nothing of ours reads them but benchmarks and tests. It holds for this process, and not for a program
//! that it becomes or starts; the limit is inherited.

use rustix::io::Errno;
use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

/// The system does not let this process keep its memory to itself.
#[derive(Debug, thiserror::Error)]
#[error(
    "core dumps of this process cannot be turned off: let the container's seccomp profile pass prctl and setrlimit"
)]
pub struct NotForbidden(#[from] Errno);

/// Turns them off, for good. Belongs before the environment is read, which may hold secrets.
///
/// # Errors
///
/// [`NotForbidden`]: then nothing secret may be read.
pub fn forbid() -> Result<(), NotForbidden> {
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use rustix::process::{dumpable_behavior, getrlimit};

    use super::*;

    #[test]
    fn a_process_can_be_dumped_until_it_says_otherwise() {
        assert_eq!(dumpable_behavior(), Ok(DumpableBehavior::Dumpable));
        forbid().unwrap();
        forbid().unwrap();
        assert_eq!(dumpable_behavior(), Ok(DumpableBehavior::NotDumpable));
        let limit = Rlimit { current: Some(0), maximum: Some(0) };
        assert_eq!(getrlimit(Resource::Core), limit);
    }
}
