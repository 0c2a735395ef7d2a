//! The `attest-sidecar` that this role starts for itself where there is no container for it: another process with an
//! environment that is composed here, on a socket that no other container sees. Still a role of its own: this one knows no
//! more of it than its command line and its variables.
//!
//! It lives as long as this process holds its standard input open. It is started again when it ends, after a pause that
//! grows; what cannot be started at all ends this role.

use std::convert::Infallible;
use std::path::PathBuf;
use std::pin::pin;
use std::process::{ExitStatus, Stdio};
use std::str::FromStr;
use std::time::Duration;

use service::BoxError;
use service::env::Reader;
use service::listen::{Address, Local};
use tokio::process::{Child as Process, ChildStdin, Command};
use tokio::time::Instant;

/// Before the second start; doubled up to the longest with each one after it.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// Whoever ran as long as this begins with the first pause again.
const STEADY: Duration = Duration::from_secs(60);

/// How long it may take to finish its work. Whoever waits for it has gone before.
const STOP: Duration = Duration::from_secs(5);

/// `EX_USAGE` of sysexits.h: it cannot use its environment, and starting it again will not help.
const EXIT_USAGE: i32 = 64;

/// Its variables that are set for this role, and handed on by their own names.
const PASSED: [&str; 16] = [
    "ATTEST_DEVICE",
    "ATTEST_CERTIFICATE_SOURCES",
    "ATTEST_THIM_URL",
    "ATTEST_AZURE_CACHE_URL",
    "ATTEST_AZURE_CACHE_TEE_TYPE",
    "ATTEST_AZURE_CACHE_API_VERSION",
    "ATTEST_AZURE_CACHE_CLIENT_ID",
    "ATTEST_KDS_URL",
    "ATTEST_MAA_HOSTS",
    "ATTEST_MAA_USER_AGENT",
    "MAA_ENDPOINT",
    "SSL_CERT_FILE",
    "UVM_SECURITY_CONTEXT_DIR",
    "UVM_HOST_AMD_CERTIFICATE",
    "UVM_SECURITY_POLICY",
    "UVM_REFERENCE_INFO",
];

/// How to start it.
#[derive(Clone, Debug)]
pub(crate) struct Child {
    program: PathBuf,
    environment: Vec<(&'static str, String)>,
}

/// A started one. It stops when its standard input is closed.
struct Running {
    process: Process,
    input: Option<ChildStdin>,
}

/// Why it does not run.
#[derive(Debug, thiserror::Error)]
enum ChildError {
    #[error("attest-sidecar cannot be started from {program}")]
    Start { program: PathBuf, source: std::io::Error },
    #[error("attest-sidecar cannot be waited for")]
    Wait(#[source] std::io::Error),
    #[error("attest-sidecar cannot use its variables; it has said why")]
    Environment,
}

/// The path of a program, from the root.
struct Program(PathBuf);

#[derive(Debug, thiserror::Error)]
#[error("must be an absolute path")]
struct NotAProgram;

impl FromStr for Program {
    type Err = NotAProgram;

    fn from_str(text: &str) -> Result<Self, NotAProgram> {
        if text.starts_with('/') { Ok(Self(text.into())) } else { Err(NotAProgram) }
    }
}

impl Child {
    /// What the variables say about it. `None`: it is not started here, or they are refused.
    pub(crate) fn read(env: &mut Reader<'_>) -> Option<Self> {
        let program = env.optional::<Program>("SKR_ATTEST_PROGRAM");
        let listen = env.optional::<Local>("ATTEST_SIDECAR");
        let level = env.optional::<String>("LOG_LEVEL");
        let set = PASSED.map(|name| (name, env.optional::<String>(name)));
        let mut environment: Vec<_> =
            set.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
        let Some(Program(program)) = program else {
            for (name, _) in environment.iter().filter(|(name, _)| name.starts_with("ATTEST_")) {
                env.refuse(name, &"is for an attest-sidecar that this role starts, and it starts none: set it there, or do not set ATTEST_SIDECAR");
            }
            return None;
        };
        let listen = listen?;
        if !matches!(listen.address(), Address::Unix(_)) {
            let why = "must be a unix: path, for the attest-sidecar that this role starts";
            env.refuse("ATTEST_SIDECAR", &why);
        }
        environment.push(("ATTEST_LISTEN", listen.to_string()));
        environment.push(("LOG_SEALER", "off".to_owned()));
        environment.extend(level.map(|level| ("LOG_LEVEL", level)));
        Some(Self { program, environment })
    }

    /// Keeps it running while `work` runs, and ends it after that.
    ///
    /// # Errors
    ///
    /// Those of `work`; or it cannot be started.
    pub(crate) async fn beside<T>(
        &self,
        work: impl Future<Output = Result<T, BoxError>>,
    ) -> Result<T, BoxError> {
        let mut work = pin!(work);
        let mut running = None;
        let done = tokio::select! {
            // The work goes first: what cannot even begin, because its port is taken say, starts nobody.
            biased;
            done = &mut work => done,
            never = self.keep_running(&mut running) => match never? {},
        };
        if let Some(running) = running {
            stop(running).await;
        }
        done
    }

    async fn keep_running(&self, running: &mut Option<Running>) -> Result<Infallible, ChildError> {
        let mut pause = FIRST_PAUSE;
        loop {
            let started = Instant::now();
            let process = &mut running.insert(self.start()?).process;
            let status = process.wait().await.map_err(ChildError::Wait)?;
            *running = None;
            if status.code() == Some(EXIT_USAGE) {
                return Err(ChildError::Environment);
            }
            tell(status);
            if started.elapsed() >= STEADY {
                pause = FIRST_PAUSE;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    fn start(&self) -> Result<Running, ChildError> {
        let started = Command::new(&self.program)
            .arg("child")
            .env_clear()
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::piped())
            .kill_on_drop(true)
            .spawn();
        let failed = |source| ChildError::Start { program: self.program.clone(), source };
        let mut process = started.map_err(failed)?;
        // Kept apart, because waiting for a process closes what is left of its input.
        let input = process.stdin.take();
        Ok(Running { process, input })
    }
}

fn tell(status: ExitStatus) {
    service::lifecycle!("attest-sidecar ended and is started again", code = status.code());
}

async fn stop(Running { mut process, input }: Running) {
    drop(input);
    if tokio::time::timeout(STOP, process.wait()).await.is_err() {
        // It did not listen; there is nobody left to tell.
        let _ = process.kill().await;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::Path;

    use service::Role as _;
    use service::env::Environment;

    use super::*;
    use crate::reference::{self, DropIn};

    #[test]
    fn what_is_passed_has_a_row() {
        let rows = |vars: &[service::env::Var]| -> BTreeSet<&str> {
            vars.iter().map(|var| var.name).collect()
        };
        let passed = BTreeSet::from(PASSED);
        assert!(passed.is_subset(&rows(DropIn::VARS)));
        let meant: BTreeSet<_> = rows(reference::VARS)
            .into_iter()
            .filter(|name| name.starts_with("ATTEST_") || name.starts_with("UVM_"))
            .collect();
        assert!(meant.is_subset(&passed), "{meant:?}");
    }

    fn read(pairs: &[(&str, &str)]) -> Result<Option<Child>, String> {
        let env: Environment = pairs.iter().copied().collect();
        let mut reader = Reader::new(&env, DropIn::VARS);
        let child = Child::read(&mut reader);
        reader.finish(Some(child)).map(|(child, _)| child).map_err(|problems| problems.to_string())
    }

    #[test]
    fn its_environment_is_composed_and_nothing_else_is_in_it() {
        let child = read(&[
            ("SKR_ATTEST_PROGRAM", "/attest-sidecar"),
            ("ATTEST_SIDECAR", "unix:/s"),
            ("ATTEST_DEVICE", "socket:/snp"),
            ("UVM_REFERENCE_INFO", "AAEC"),
            ("LOG_LEVEL", "warn"),
            ("LD_PRELOAD", "/evil.so"),
            ("KEY_VAULT_URL", "https://v.vault.azure.net"),
        ]);
        let child = child.unwrap().unwrap();
        let environment: BTreeSet<_> =
            child.environment.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let expected = [
            ("ATTEST_DEVICE", "socket:/snp"),
            ("ATTEST_LISTEN", "unix:/s"),
            ("LOG_LEVEL", "warn"),
            ("LOG_SEALER", "off"),
            ("UVM_REFERENCE_INFO", "AAEC"),
        ];
        assert_eq!(environment, BTreeSet::from(expected));
    }

    #[test]
    fn what_would_have_no_effect_is_refused() {
        assert!(read(&[("UVM_REFERENCE_INFO", "AAEC")]).unwrap().is_none());
        let nobody = read(&[("ATTEST_DEVICE", "/dev/sev")]).unwrap_err();
        assert!(nobody.contains("ATTEST_DEVICE: is for an attest-sidecar"), "{nobody}");
        let open = read(&[("SKR_ATTEST_PROGRAM", "/a"), ("ATTEST_SIDECAR", "127.0.0.1:1")]);
        assert!(open.unwrap_err().contains("ATTEST_SIDECAR: must be a unix: path"));
        let relative = read(&[("SKR_ATTEST_PROGRAM", "attest-sidecar")]).unwrap_err();
        assert!(relative.contains("SKR_ATTEST_PROGRAM: must be an absolute path"), "{relative}");
    }

    /// A program of a few lines, which the shell runs.
    fn program(folder: &Path, lines: &str) -> Child {
        let program = folder.join("program");
        std::fs::write(&program, format!("#!/bin/sh\n{lines}\n")).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        Child { program, environment: vec![("FOLDER", folder.display().to_string())] }
    }

    /// The lines that the program has written, once there are this many.
    async fn written(folder: &Path, count: usize) -> Vec<String> {
        let lines = async {
            loop {
                let text = std::fs::read_to_string(folder.join("log")).unwrap_or_default();
                let lines: Vec<String> = text.lines().map(ToOwned::to_owned).collect();
                if lines.len() >= count && text.ends_with('\n') {
                    return lines;
                }
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), lines).await.unwrap()
    }

    #[tokio::test]
    async fn it_is_started_again_and_ends_with_its_input() {
        let folder = tempfile::tempdir().unwrap();
        let child = program(
            folder.path(),
            "echo \"$1\" >> $FOLDER/log; test -e $FOLDER/again || { : > $FOLDER/again; exit 1; }; \
             read -r nothing; echo ended >> $FOLDER/log",
        );
        let work = async {
            assert_eq!(written(folder.path(), 2).await, ["child", "child"], "it is started again");
            Ok(())
        };
        child.beside(work).await.unwrap();
        assert_eq!(written(folder.path(), 3).await[2], "ended", "it had the time to end in order");
    }

    #[tokio::test]
    async fn what_cannot_be_started_or_configured_ends_the_role() {
        let folder = tempfile::tempdir().unwrap();
        let forever = std::future::pending::<Result<(), BoxError>>;
        let child = program(folder.path(), "exit 64");
        let error = child.beside(forever()).await.unwrap_err().to_string();
        assert!(error.contains("cannot use its variables"), "{error}");
        let missing = Child { program: folder.path().join("nobody"), ..child };
        let error = missing.beside(forever()).await.unwrap_err().to_string();
        assert!(error.contains("cannot be started"), "{error}");
    }

    #[tokio::test]
    async fn it_is_gone_when_the_work_is_given_up() {
        let folder = tempfile::tempdir().unwrap();
        let child = program(folder.path(), "echo $$ >> $FOLDER/log; exec sleep 600");
        let work = std::future::pending::<Result<(), BoxError>>();
        let id = {
            let running = child.beside(work);
            tokio::select! {
                _ = running => panic!("it must not end"),
                lines = written(folder.path(), 1) => lines[0].clone(),
            }
        };
        let process = PathBuf::from("/proc").join(id).join("stat");
        // Gone, or dead and only not waited for yet.
        let alive = || std::fs::read_to_string(&process).is_ok_and(|stat| !stat.contains(") Z "));
        let gone = async {
            while alive() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), gone).await.unwrap();
    }
}
