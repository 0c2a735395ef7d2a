//! The proxy's process: started with the variables that a test names and no other, and ended by its own id.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A running proxy. It is killed when this is dropped.
pub(crate) struct Process {
    child: Child,
    variables: Vec<(String, String)>,
    within: Vec<String>,
    socket: PathBuf,
    output: PathBuf,
    /// Where clients reach it.
    pub(crate) port: u16,
}

/// How long it may take to start or to stop.
const PATIENCE: Duration = Duration::from_secs(30);

/// The binary, started by what `within` says: a program that starts another one, and its arguments.
fn command(within: &[String], variables: &[(String, String)]) -> Command {
    let mut words = within.iter().map(String::as_str).chain([env!("CARGO_BIN_EXE_proxy")]);
    let mut command = Command::new(words.next().unwrap());
    command.args(words);
    command.env_clear().envs(variables.iter().cloned()).stdin(Stdio::null());
    command
}

impl Process {
    pub(crate) fn start(
        variables: Vec<(String, String)>,
        within: Vec<String>,
        socket: &Path,
    ) -> Self {
        let output = socket.with_file_name("output.log");
        let (child, port) = spawn(&within, &variables, &output);
        Self { child, variables, within, socket: socket.to_owned(), output, port }
    }

    /// Starts another one with the same variables, but for its socket, in that folder; returns when it serves.
    pub(crate) fn successor(&self, folder: &Path) -> impl FnOnce() -> Self + Send + use<> {
        let socket = folder.join("grpc.sock");
        let (mut variables, within) = (self.variables.clone(), self.within.clone());
        variables.retain(|(name, _)| name != "PROXY_GRPC_LISTEN");
        variables.push(("PROXY_GRPC_LISTEN".to_owned(), format!("unix:{}", socket.display())));
        move || Self::start(variables, within, &socket)
    }

    /// Exit code and everything that was written.
    pub(crate) fn refused(variables: Vec<(String, String)>) -> (i32, String) {
        let output = command(&[], &variables).output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.code().unwrap(), String::from_utf8_lossy(&text).into_owned())
    }

    /// The binary's own commands, beside the process that runs: exit code, stdout, stderr.
    pub(crate) fn command(&self, arguments: &[&str]) -> (i32, String, String) {
        let output = command(&self.within, &self.variables).args(arguments).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
    }

    /// What it wrote to stdout and stderr up to now: what the cloud's operator can read.
    pub(crate) fn written(&self) -> String {
        std::fs::read_to_string(&self.output).unwrap()
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// SIGTERM, and waits for its end: its exit code.
    pub(crate) fn stop(&mut self) -> i32 {
        let id = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(id, rustix::process::Signal::TERM).unwrap();
        let begin = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code().unwrap_or(-1);
            }
            assert!(begin.elapsed() < PATIENCE, "it does not stop");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// SIGKILL, without warning.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Stops it if it runs, and starts it again with the same variables.
    pub(crate) fn restart(&mut self) {
        if self.child.try_wait().unwrap().is_none() {
            self.stop();
        }
        let _ = std::fs::remove_file(&self.socket);
        (self.child, self.port) = spawn(&self.within, &self.variables, &self.output);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

fn spawn(within: &[String], variables: &[(String, String)], output: &Path) -> (Child, u16) {
    let file = std::fs::File::create(output).unwrap();
    let mut command = command(within, variables);
    let child = command.stdout(file.try_clone().unwrap()).stderr(file).spawn().unwrap();
    let port = listening_port(child.id(), output);
    (child, port)
}

/// The port is the kernel's choice: it is read where the kernel tells it, among the sockets of that process.
fn listening_port(id: u32, output: &Path) -> u16 {
    let begin = Instant::now();
    loop {
        let written = std::fs::read_to_string(output).unwrap();
        if written.contains("ready")
            && let Some(port) = port_of(id)
        {
            return port;
        }
        assert!(begin.elapsed() < PATIENCE, "it does not start: {written}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn port_of(id: u32) -> Option<u16> {
    let sockets: Vec<String> = std::fs::read_dir(format!("/proc/{id}/fd"))
        .ok()?
        .filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok())
        .filter_map(|link| {
            let name = link.display().to_string();
            Some(name.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned())
        })
        .collect();
    let table = std::fs::read_to_string(format!("/proc/{id}/net/tcp")).ok()?;
    table.lines().skip(1).find_map(|line| {
        let columns: Vec<&str> = line.split_whitespace().collect();
        let (local, state, inode) = (columns.get(1)?, columns.get(3)?, columns.get(9)?);
        let mine = *state == "0A" && sockets.iter().any(|socket| socket == inode);
        mine.then(|| u16::from_str_radix(local.split(':').nth(1)?, 16).ok()).flatten()
    })
}
