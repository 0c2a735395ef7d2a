//! A reader's desk: keys, anchors and a policy, and `pmc` as a process.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use age::secrecy::ExposeSecret as _;
use age::x25519;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStderr, ChildStdout, Command};

use crate::testing::{Author, Group, NOW};

/// The longest that anything is waited for.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

pub(crate) struct Desk {
    pub(crate) folder: TempDir,
    pub(crate) group: Group,
    pub(crate) reader: x25519::Identity,
}

/// How `pmc` ended, and all that it said.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) status: i32,
    pub(crate) text: String,
}

impl Outcome {
    /// Ended like this, with this in its words.
    #[track_caller]
    pub(crate) fn is(&self, status: i32, words: &str) {
        assert!(self.status == status && self.text.contains(words), "{words:?}: {self:?}");
    }
}

impl Desk {
    pub(crate) fn new() -> Self {
        let (group, reader) = (Group::new("package policy"), x25519::Identity::generate());
        let desk = Self { folder: tempfile::tempdir().unwrap(), group, reader };
        let put = |name: &str, text: &str| std::fs::write(desk.path(name), text).unwrap();
        put("reader.txt", desk.reader.to_string().expose_secret());
        put("anchors.pem", &desk.group.chain_pem());
        put("policy.json", &serde_json::to_string(&desk.group.policy()).unwrap());
        desk
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    /// A boot that stopped in order: six records in three segments.
    pub(crate) fn boot(&self, boot: u8) -> Author {
        Author::whole(boot, &self.reader, &self.group)
    }

    fn command(&self, command: &str, log: &str, more: &[impl AsRef<std::ffi::OsStr>]) -> Command {
        let mut pmc = Command::new(env!("CARGO_BIN_EXE_pmc"));
        pmc.args(["logs", command, log, "--at", &NOW.to_string()])
            .arg("--danger-anchors")
            .arg(self.path("anchors.pem"))
            .arg("--policy")
            .arg(self.path("policy.json"))
            .args(more)
            .stdin(Stdio::null())
            .kill_on_drop(true);
        if matches!(command, "open" | "follow") {
            pmc.arg("--identity").arg(self.path("reader.txt"));
        }
        pmc
    }

    /// Runs a command on a log to its end.
    pub(crate) async fn pmc(
        &self,
        command: &str,
        log: &str,
        more: &[impl AsRef<std::ffi::OsStr>],
    ) -> Outcome {
        let output = self.command(command, log, more).output();
        let output = tokio::time::timeout(PATIENCE, output).await.unwrap().unwrap();
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8(text).unwrap();
        Outcome { status: output.status.code().unwrap(), text }
    }

    /// Follows a log.
    pub(crate) fn follow(&self, log: &str, more: &[impl AsRef<std::ffi::OsStr>]) -> Following {
        let mut command = self.command("follow", log, more);
        let mut pmc = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let shown = BufReader::new(pmc.stdout.take().unwrap()).lines();
        let said = BufReader::new(pmc.stderr.take().unwrap()).lines();
        Following { pmc, shown, said }
    }
}

/// `pmc logs follow` that runs.
pub(crate) struct Following {
    pmc: Child,
    shown: Lines<BufReader<ChildStdout>>,
    said: Lines<BufReader<ChildStderr>>,
}

impl Following {
    /// Waits until a record is shown that ends with these words.
    pub(crate) async fn until_shown(&mut self, words: &str) {
        let waiting = async {
            while let Some(line) = self.shown.next_line().await.unwrap() {
                if line.ends_with(words) {
                    return;
                }
            }
            panic!("it ended before it showed {words:?}");
        };
        tokio::time::timeout(PATIENCE, waiting).await.unwrap();
    }

    /// Waits until it says something with these words.
    pub(crate) async fn until_said(&mut self, words: &str) {
        let waiting = async {
            while let Some(line) = self.said.next_line().await.unwrap() {
                if line.contains(words) {
                    return;
                }
            }
            panic!("it ended before it said {words:?}");
        };
        tokio::time::timeout(PATIENCE, waiting).await.unwrap();
    }

    /// Ctrl-C.
    pub(crate) fn interrupt(&self) {
        let id = rustix::process::Pid::from_raw(self.pmc.id().unwrap().cast_signed()).unwrap();
        rustix::process::kill_process(id, rustix::process::Signal::INT).unwrap();
    }

    /// Waits for its end; the text is what it said and showed since it was waited for last.
    pub(crate) async fn end(mut self) -> Outcome {
        let waiting = async {
            let mut text = Vec::new();
            while let Some(line) = self.said.next_line().await.unwrap() {
                text.push(line);
            }
            while let Some(line) = self.shown.next_line().await.unwrap() {
                text.push(line);
            }
            let status = self.pmc.wait().await.unwrap().code().unwrap();
            Outcome { status, text: text.join("\n") }
        };
        tokio::time::timeout(PATIENCE, waiting).await.unwrap()
    }
}
