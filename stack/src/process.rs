//! One role as a child process, with exactly the environment that it is given.

use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};

use crate::group::RoleName;

/// How long a role may take to stop after SIGTERM.
const STOP: Duration = Duration::from_secs(30);

/// A role's command line: this program again, as that role.
fn command(program: &Path, role: RoleName, environment: &[(String, String)]) -> Command {
    let mut command = Command::new(program);
    command
        .args(["role", role.name()])
        .env_clear()
        .envs(environment.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .kill_on_drop(true);
    command
}

/// A running role.
#[derive(Debug)]
pub struct RoleProcess {
    role: RoleName,
    child: Child,
    output: PathBuf,
}

impl RoleProcess {
    /// Starts it. What it prints is appended to `output`.
    pub(crate) fn start(
        program: &Path,
        role: RoleName,
        environment: &[(String, String)],
        output: &Path,
    ) -> std::io::Result<Self> {
        let file = std::fs::OpenOptions::new().create(true).append(true).open(output)?;
        let mut command = command(program, role, environment);
        if let Some(folder) = output.parent() {
            // what a crash would leave behind lies there, too
            command.current_dir(folder);
        }
        let child = command.stdout(file.try_clone()?).stderr(file).spawn()?;
        Ok(Self { role, child, output: output.to_owned() })
    }

    /// Everything that it printed, as the operator of the cloud would see it.
    #[must_use]
    pub fn printed(&self) -> String {
        std::fs::read_to_string(&self.output).unwrap_or_default()
    }

    /// Whether it has ended by itself.
    pub(crate) fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// Asks it to stop, and waits until it has. Says whether it ended in order.
    pub(crate) async fn stop(&mut self) -> bool {
        if let Some(pid) = self.pid() {
            let _ = kill_process(pid, Signal::TERM);
        }
        match tokio::time::timeout(STOP, self.child.wait()).await {
            Ok(Ok(status)) => status.success(),
            _ => {
                let _ = self.child.kill().await;
                false
            }
        }
    }

    /// Ends it without asking, as a crash would.
    pub(crate) async fn kill(&mut self) {
        let _ = self.child.kill().await;
    }

    /// Ends it as a broken library would, and says how it ended; `None`: it does not end.
    pub(crate) async fn abort(&mut self) -> Option<ExitStatus> {
        kill_process(self.pid()?, Signal::ABORT).ok()?;
        tokio::time::timeout(STOP, self.child.wait()).await.ok()?.ok()
    }

    fn pid(&self) -> Option<Pid> {
        Pid::from_raw(i32::try_from(self.child.id()?).ok()?)
    }

    /// Its process; `None` once it has ended.
    pub(crate) fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// Which role it is.
    #[must_use]
    pub fn role(&self) -> RoleName {
        self.role
    }
}

/// Whether a role says that it is ready, asked as a container platform asks: by its own `healthcheck`.
pub(crate) async fn is_healthy(
    program: &Path,
    role: RoleName,
    environment: &[(String, String)],
) -> bool {
    let asked = command(program, role, environment)
        .arg("healthcheck")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    asked.await.is_ok_and(|status| status.success())
}
