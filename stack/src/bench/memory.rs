//! What another process holds (proc(5)): memory and open files.

use super::{BenchError, io};

/// Memory of a process, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Memory {
    /// Resident: with pages that it shares with others.
    pub(crate) rss: u64,
    /// Resident, with its share of what it shares.
    pub(crate) pss: u64,
}

/// Memory that a process holds now (`/proc/PID/smaps_rollup`).
pub(crate) fn held(pid: u32) -> Result<Memory, BenchError> {
    let rollup = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))
        .map_err(io("the memory of a process cannot be read; roles show it to root only"))?;
    let field = |name: &str| {
        let line = rollup.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim()
            .strip_suffix(" kB")?
            .trim()
            .parse::<u64>()
            .ok()
            .map(|kilobytes| kilobytes * 1024)
    };
    let memory = field("Rss:").zip(field("Pss:")).map(|(rss, pss)| Memory { rss, pss });
    memory.ok_or_else(|| BenchError::Unexpected("smaps_rollup has another form".to_owned()))
}

/// Files, sockets and pipes that a process has open now.
pub(crate) fn descriptors(pid: u32) -> Result<usize, BenchError> {
    let open = std::fs::read_dir(format!("/proc/{pid}/fd"));
    Ok(open
        .map_err(io("the open files of a process cannot be read; roles show them to root only"))?
        .count())
}

/// Bytes as people read them.
pub(crate) fn shown(bytes: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "one digit behind the point is shown")]
    let megabytes = bytes as f64 / 1e6;
    format!("{megabytes:.1} MB")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_this_process_holds_is_seen() {
        let pid = std::process::id();
        let Memory { rss, pss } = held(pid).unwrap();
        assert!(rss >= pss && pss > 1 << 20, "{rss} {pss}");
        assert!(descriptors(pid).unwrap() >= 3);
        assert_eq!(shown(15_250_000), "15.2 MB");
    }
}
