//! A disk that is really full: a small file system, in a namespace of the test's own, so that nothing is mounted for
//! anybody else and all of it goes away with the test.

use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::setup;
use crate::support::{Bench, K1, get};

/// How long anything may take to be seen.
const PATIENCE: Duration = Duration::from_secs(30);

/// A file system of eight mebibytes, for as long as its process lives.
struct SmallDisk {
    holder: Child,
    folder: PathBuf,
}

impl SmallDisk {
    /// Mounted at that folder; `None`: this system lets nobody do so.
    fn mount(folder: &Path) -> Option<Self> {
        let script = "mount -t tmpfs -o size=8m,mode=700 tmpfs \"$0\" && echo mounted && exec cat";
        let mut holder = Command::new("unshare")
            .args(["--user", "--map-root-user", "--mount", "sh", "-c", script])
            .arg(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        let mut said = [0; 8];
        let is_there = holder.stdout.as_mut()?.read_exact(&mut said).is_ok();
        let disk = Self { holder, folder: folder.to_owned() };
        (is_there && said == *b"mounted\n").then_some(disk)
    }

    /// What starts a program that sees it.
    fn within(&self) -> Vec<String> {
        let target = self.holder.id().to_string();
        let words = ["nsenter", "--target", &target, "--user", "--mount", "--preserve-credentials"];
        words.map(ToOwned::to_owned).into()
    }

    /// Where others see what is on it.
    fn filler(&self) -> PathBuf {
        let inside = self.folder.strip_prefix("/").unwrap();
        Path::new("/proc")
            .join(self.holder.id().to_string())
            .join("root")
            .join(inside)
            .join("filler")
    }

    fn fill(&self) {
        let mut file = std::fs::File::create(self.filler()).unwrap();
        let full = loop {
            if let Err(error) = file.write_all(&[0; 4096]) {
                break error;
            }
        };
        assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
    }

    fn free(&self) {
        std::fs::remove_file(self.filler()).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

/// Waits until `/health` says of the usage what it should.
fn until(bench: &Bench, what: &str, is: impl Fn(&Value) -> bool) {
    let begin = Instant::now();
    loop {
        let health = bench.send(get("/health", "")).json();
        assert_eq!(health["status"], "healthy");
        if is(&health["usage"]["behind_seconds"]) {
            return;
        }
        assert!(begin.elapsed() < PATIENCE, "{what}: {health}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Calls go on and are counted; what cannot be kept is refused and nothing of it is in force; and when there is room again,
/// everything that was counted meanwhile is written.
#[test]
fn a_full_disk_stops_no_call_and_loses_no_usage() {
    let setup = setup().unset("API_KEYS_FILE").no_file("api_keys.json").set("API_KEYS", K1);
    let folder = PathBuf::from(setup.path("disk"));
    std::fs::create_dir(&folder).unwrap();
    let Some(disk) = SmallDisk::mount(&folder) else {
        println!("skipped: no file system can be mounted here, not even in a namespace of its own");
        return;
    };
    let database = folder.join("proxy.db").display().to_string();
    let mut bench = setup.within(disk.within()).set("PROXY_STATE", &database).start();
    assert!(!folder.join("proxy.db").exists(), "it is on the small one");
    assert_eq!(bench.chat(K1).status, 200);
    until(&bench, "the first call is not written", Value::is_null);

    disk.fill();
    for _ in 0..3 {
        assert_eq!(bench.chat(K1).status, 200);
    }
    until(&bench, "nobody says that the disk is full", Value::is_number);
    let (code, _, err) = bench.process.command(&["keys", "generate", "-d", "too many"]);
    assert!(code == 1 && err.contains("the disk is full"), "{err}");
    assert_eq!(bench.chat(K1).status, 200);

    disk.free();
    until(&bench, "it is not written when there is room", Value::is_null);
    let (code, _, err) = bench.process.command(&["keys", "generate", "-d", "one"]);
    assert_eq!(code, 0, "{err}");
    assert_eq!(bench.process.stop(), 0);
    bench.restart();
    let (_, out, _) = bench.process.command(&["usage", "export"]);
    let usage: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(usage["records"].as_array().unwrap().len(), 5);
    let (_, out, _) = bench.process.command(&["keys", "list"]);
    assert!(out.contains("one") && !out.contains("too many"), "{out}");
}
