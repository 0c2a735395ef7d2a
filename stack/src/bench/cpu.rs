//! The processor time of another process (proc(5), `/proc/PID/stat`).

use std::path::Path;
use std::time::Duration;

use super::{BenchError, io};

/// Processor time that a process has used so far, in user mode and in the kernel, all its threads together. The kernel
/// counts in ticks of `sysconf(_SC_CLK_TCK)`, in hundredths of a second.
pub(crate) fn used(pid: u32) -> Result<Duration, BenchError> {
    of(format!("/proc/{pid}/stat").as_ref())
}

fn of(stat: &Path) -> Result<Duration, BenchError> {
    let stat = std::fs::read_to_string(stat)
        .map_err(io("the processor time of a process cannot be read"))?;
    let unreadable = || BenchError::Unexpected("/proc/PID/stat has another form".to_owned());
    // The name in parentheses may hold anything.
    let (_, fields) = stat.rsplit_once(") ").ok_or_else(unreadable)?;
    let ticks = fields.split(' ').skip(11).take(2).map(|field| field.parse::<u64>().ok());
    let ticks: u64 = ticks.sum::<Option<u64>>().ok_or_else(unreadable)?;
    let per_second = rustix::param::clock_ticks_per_second().max(1);
    Ok(Duration::from_secs(ticks) / u32::try_from(per_second).unwrap_or(100))
}

/// Processor time that the threads of a process have used which bear this name and live still.
pub(crate) fn used_by_threads(pid: u32, name: &str) -> Result<Duration, BenchError> {
    let folder = format!("/proc/{pid}/task");
    let threads =
        std::fs::read_dir(folder).map_err(io("the threads of a process cannot be read"))?;
    let mut all = Duration::ZERO;
    for thread in threads.flatten() {
        let comm = std::fs::read_to_string(thread.path().join("comm")).unwrap_or_default();
        if comm.trim_end() == name {
            all += of(&thread.path().join("stat"))?;
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    #[test]
    fn a_process_that_works_uses_time() {
        let before = super::used(std::process::id()).unwrap();
        let begin = Instant::now();
        let mut digest = [0; 32];
        while super::used(std::process::id()).unwrap() < before + Duration::from_millis(50) {
            digest = attestation::crypto::sha256(&digest);
            assert!(begin.elapsed() < Duration::from_secs(60), "it does not count");
        }
        assert_ne!(digest, [0; 32]);
    }

    #[test]
    fn a_thread_that_works_is_told_apart_by_its_name() {
        let (done, wait) = std::sync::mpsc::channel::<()>();
        let worker = std::thread::Builder::new().name("works-much".to_owned());
        let worker = worker.spawn(move || {
            let mut digest = [0; 32];
            while wait.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty) {
                digest = attestation::crypto::sha256(&digest);
            }
            digest
        });
        let (pid, begin) = (std::process::id(), Instant::now());
        while super::used_by_threads(pid, "works-much").unwrap() < Duration::from_millis(50) {
            assert!(begin.elapsed() < Duration::from_secs(60), "it does not count");
        }
        assert_eq!(super::used_by_threads(pid, "works-not").unwrap(), Duration::ZERO);
        drop(done);
        worker.unwrap().join().unwrap();
    }
}
