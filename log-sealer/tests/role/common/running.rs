//! The binary in a process of its own, which can be ended in every way there is.

use std::io::{BufRead as _, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::JoinHandle;

use super::Place;
use super::sidecar::Sidecar;

/// The binary, running; ended when dropped.
pub(crate) struct Running {
    child: Child,
    pub(crate) sidecar: Sidecar,
    /// Read all the time: a full pipe would hold the sink up.
    stdout: JoinHandle<Vec<String>>,
    stderr: JoinHandle<Vec<String>>,
}

/// How it ended.
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: Vec<String>,
    pub(crate) stderr: Vec<String>,
}

impl Running {
    /// Starts it with its own logs going to itself.
    pub(crate) async fn start(place: &Place, changes: &[(&str, &str)]) -> Self {
        let sidecar = Sidecar::start(&place.socket("attest.sock")).await;
        let program = Command::new(env!("CARGO_BIN_EXE_log-sealer"));
        Self::start_by(program, place, changes, sidecar)
    }

    /// The same by another program that becomes it, with a sidecar that runs already.
    pub(crate) fn start_by(
        mut program: Command,
        place: &Place,
        changes: &[(&str, &str)],
        sidecar: Sidecar,
    ) -> Self {
        let own = place.socket("log.sock");
        let changes = [&[("LOG_SEALER", own.as_str()), ("LOG_LEVEL", "debug")], changes].concat();
        let mut child = program
            .env_clear()
            .envs(place.environment(&changes))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = lines(child.stdout.take().unwrap());
        let stderr = lines(child.stderr.take().unwrap());
        Self { child, sidecar, stdout, stderr }
    }

    /// Sends SIGTERM and waits.
    pub(crate) fn terminate(mut self) -> Ended {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        let status = self.child.wait().unwrap();
        let take = |lines: &mut JoinHandle<_>| {
            std::mem::replace(lines, std::thread::spawn(Vec::new)).join().unwrap()
        };
        Ended { status, stdout: take(&mut self.stdout), stderr: take(&mut self.stderr) }
    }

    /// Sends SIGKILL, and waits.
    pub(crate) fn kill(mut self) -> Sidecar {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.sidecar.clone()
    }

    /// Its number among the processes.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// The most memory that it had at once so far, in KiB.
    pub(crate) fn peak(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }
}

fn lines(pipe: impl Read + Send + 'static) -> JoinHandle<Vec<String>> {
    std::thread::spawn(|| BufReader::new(pipe).lines().map(Result::unwrap).collect())
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
