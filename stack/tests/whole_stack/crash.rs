//! A crash writes nothing of a process's memory down, and nobody else of the same user reads it while it runs.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, getuid, kill_process, setrlimit};
use stack::RoleName;

use crate::canary::{PROMPT, files, search};
use crate::support::{Forwarder, PROGRAM, Running, start};

/// From here on what this process starts may write core dumps as long as this machine lets it. Whether it does: by a process
/// that dies as the others will.
fn let_dumps_be_written(folder: &Path) {
    let limit = getrlimit(Resource::Core);
    setrlimit(Resource::Core, Rlimit { current: limit.maximum, ..limit }).unwrap();
    let shell = Command::new("sh").args(["-c", "kill -ABRT $$"]).current_dir(folder).status();
    let status = shell.unwrap();
    assert_eq!(status.signal(), Some(Signal::ABORT.as_raw()));
    if !status.core_dumped() {
        println!("this machine writes no core dumps: only that roles end is seen");
    }
}

fn is_clean(who: &str, status: ExitStatus) {
    assert_eq!(status.signal(), Some(Signal::ABORT.as_raw()), "{who} ended otherwise: {status}");
    assert!(!status.core_dumped(), "{who} left a core dump");
}

#[tokio::test]
async fn a_crash_leaves_no_dump_behind() {
    let elsewhere = tempfile::tempdir().unwrap();
    let_dumps_be_written(elsewhere.path());
    let running = start().await;
    let (url, key) = (running.stack.group.url().await.unwrap(), running.stack.api_key.clone());
    let forwarder = Forwarder::start(&url, &running.trusting()).await;
    let body = stack::check::chat_request(PROMPT, false).to_string();
    let (status, _) = forwarder.post("/v1/chat/completions", &key, &body).await;
    assert_eq!(status, 200);

    let pmc = Pid::from_raw(forwarder.pid().try_into().unwrap()).unwrap();
    kill_process(pmc, Signal::ABORT).unwrap();
    is_clean("pmc", forwarder.ended().await);
    let Running { mut stack, folder: _folder, .. } = running;
    for role in RoleName::ALL.into_iter().rev() {
        is_clean(role.name(), stack.group.abort(role).await.unwrap());
    }
    let secrets = [PROMPT.to_owned(), key, stack.upstream_key.clone()];
    let mut searched = 0;
    files(stack.folder(), &["state"], &mut |path, bytes| {
        let name = path.file_name().unwrap().to_str().unwrap();
        assert!(!name.starts_with("core"), "{}", path.display());
        search(&path.display().to_string(), bytes, &secrets);
        searched += 1;
    });
    assert!(searched > 8, "{searched} files were searched");
    stack.stop().await;
}

/// The user that somebody is who is not root.
const NOBODY: u32 = 65_534;

/// A program that runs as that user, or as this one where that is not root.
fn as_somebody(program: &str) -> Command {
    let mut command = Command::new(program);
    command.stdin(Stdio::null()).stderr(Stdio::null());
    if getuid().is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    command
}

/// Ends when dropped.
struct Started(Child);

impl Drop for Started {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Started {
    /// Whether the same user reads what the process was started with, which only who may trace it reads.
    fn is_readable(&self) -> bool {
        let environment = format!("/proc/{}/environ", self.0.id());
        as_somebody("cat").arg(environment).stdout(Stdio::null()).status().unwrap().success()
    }

    fn owner(&self) -> u32 {
        std::fs::metadata(format!("/proc/{}/environ", self.0.id())).unwrap().uid()
    }
}

#[test]
fn nobody_else_of_the_same_user_reads_its_memory() {
    let place = tempfile::tempdir().unwrap();
    std::fs::set_permissions(place.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
    let user = if getuid().is_root() { NOBODY } else { getuid().as_raw() };

    // as any program is
    let other = Started(as_somebody("sleep").arg("60").spawn().unwrap());
    until(|| other.owner() == user);
    assert!(other.is_readable());

    let socket = |name: &str| format!("unix:{}", place.path().join(name).display());
    let recipient = age::x25519::Identity::generate().to_public().to_string();
    let mut command = as_somebody(PROGRAM);
    command.args(["role", "log-sealer"]).env_clear().stdout(Stdio::null()).envs([
        ("LOG_LISTEN", socket("log")),
        ("LOG_HTTP_LISTEN", "127.0.0.1:0".to_owned()),
        ("LOG_SEALER", "off".to_owned()),
        ("LOG_RECIPIENTS", recipient),
        ("LOG_SINK", "stdout".to_owned()),
        ("ATTEST_SIDECAR", socket("attest")),
    ]);
    let role = match command.spawn() {
        Ok(role) => Started(role),
        Err(error) => {
            println!("skipped: another user cannot start {PROGRAM}: {error}");
            return;
        }
    };
    until(|| place.path().join("log").exists());
    assert_eq!(role.owner(), 0, "root owns what lies in /proc of it");
    assert!(!role.is_readable());
}

fn until(is: impl Fn() -> bool) {
    let begin = Instant::now();
    while !is() {
        assert!(begin.elapsed() < Duration::from_secs(60), "waited long enough");
        std::thread::sleep(Duration::from_millis(10));
    }
}
