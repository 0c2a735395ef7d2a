//! What a process holds (proc(5)).

use std::time::{Duration, Instant};

/// Resident memory of a process, in KiB.
pub(crate) fn resident(id: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().trim().parse().unwrap()
}

/// Waits until a number that only grows has stopped growing, and returns it.
pub(crate) fn settled(what: impl Fn() -> u64) -> u64 {
    let begin = Instant::now();
    let (mut last, mut since) = (what(), Instant::now());
    while since.elapsed() < Duration::from_millis(700) {
        assert!(begin.elapsed() < Duration::from_secs(60), "it grows and grows: {last}");
        std::thread::sleep(Duration::from_millis(20));
        let now = what();
        if now != last {
            (last, since) = (now, Instant::now());
        }
    }
    last
}
