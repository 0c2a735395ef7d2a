//! A Python interpreter with what the tests need, made once: the official `openai` package, what builds ours, and ours.
//!
//! Needs `python3` with `venv`, and the package indexes the first time. Where these are missing a test says so and passes,
//! unless `PYTHON_REQUIRED=1`.

use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

use tempfile::TempDir;
use tokio::process::Command;

use super::text;

/// The folder of our package.
pub(crate) const PACKAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../python");

/// How long a build of the package may take: the first one compiles what no other crate needs in this form.
const PATIENCE: Duration = Duration::from_secs(1800);

/// An interpreter, and where our package was installed for it.
pub(crate) struct Python {
    interpreter: PathBuf,
    package: Option<TempDir>,
}

impl Python {
    /// With the official package.
    pub(crate) async fn with_openai() -> Option<Self> {
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("python");
        let requirements = format!("{PACKAGE}/tests/requirements.txt");
        let wanted = std::fs::read_to_string(&requirements).unwrap();
        let installed = folder.join("installed");
        let interpreter = folder.join("bin/python");
        // Tests run side by side; the environment is made once.
        let lock = std::fs::File::create(folder.with_extension("lock")).unwrap();
        let _locked =
            tokio::task::spawn_blocking(move || lock.lock().map(|()| lock)).await.unwrap();
        if std::fs::read_to_string(&installed).is_ok_and(|there| there == wanted) {
            return Some(Self { interpreter, package: None });
        }
        let mut venv = Command::new("python3");
        let made = run(venv.args(["-m", "venv", "--clear"]).arg(&folder)).await;
        let made = match made {
            Ok(_) => {
                let mut pip = Command::new(&interpreter);
                run(pip.args(["-m", "pip", "install", "--quiet", "--requirement", &requirements]))
                    .await
            }
            error => error,
        };
        if let Err(why) = made {
            skip(&why);
            return None;
        }
        std::fs::write(installed, wanted).unwrap();
        Some(Self { interpreter, package: None })
    }

    /// With the official package and ours, built from this working tree as `pip install ./python` does, but for the
    /// profile: what the tests' own build compiled is used again.
    pub(crate) async fn with_package() -> Option<Self> {
        let mut python = Self::with_openai().await?;
        // maturin reads the manifests of all platforms' crates; cargo brought this platform's only.
        let mut fetch = Command::new(env!("CARGO"));
        fetch.args(["fetch", "--quiet", "--locked"]).current_dir(PACKAGE);
        if let Err(why) = run(&mut fetch).await {
            skip(&why);
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let mut pip = Command::new(&python.interpreter);
        pip.args(["-m", "pip", "install", "--quiet", "--no-deps", "--no-index"])
            .args(["--no-build-isolation", "--target"])
            .args([folder.path(), Path::new(PACKAGE)])
            .env("MATURIN_PEP517_ARGS", "--profile dev --frozen")
            .env("PATH", python.path());
        if let Err(why) = run(&mut pip).await {
            panic!("the package is not built: {why}");
        }
        python.package = Some(folder);
        Some(python)
    }

    /// Search path of programs, the environment's own first.
    fn path(&self) -> String {
        let own = self.interpreter.parent().unwrap().display();
        #[expect(clippy::disallowed_methods, reason = "where cargo is found is no configuration")]
        let rest = std::env::var("PATH").unwrap();
        format!("{own}:{rest}")
    }

    /// The interpreter, with our package where there is one.
    pub(crate) fn interpreter(&self) -> Command {
        let mut command = Command::new(&self.interpreter);
        command.kill_on_drop(true);
        if let Some(package) = &self.package {
            command.env("PYTHONPATH", package.path());
        }
        command
    }

    /// A program of `python/tests`.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = self.interpreter();
        command.arg(format!("{PACKAGE}/tests/{program}"));
        command
    }
}

async fn run(command: &mut Command) -> Result<Output, String> {
    let output = command.kill_on_drop(true).output();
    let output = tokio::time::timeout(PATIENCE, output).await.map_err(|_| "takes too long")?;
    let output = output.map_err(|error| error.to_string())?;
    if output.status.success() { Ok(output) } else { Err(text(&output)) }
}

fn skip(why: &str) {
    #[expect(clippy::disallowed_methods, reason = "a switch of this test, no configuration")]
    let required = std::env::var("PYTHON_REQUIRED").as_deref() == Ok("1");
    assert!(!required, "Python with its packages is required: {why}");
    println!("skipped: no Python with its packages: {why}");
}
