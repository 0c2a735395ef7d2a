//! The commands below `pmc logs`, from the command line to the exit status.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::ExitCode;

use age::secrecy::ExposeSecret as _;
use age::x25519;
use attestation::log_record::Readers;
use tempfile::TempDir;

use super::testing::{Author, Group, NOW};
use super::{Identities, sign_readers};
use crate::cli::main_with;
use crate::secrets::OperatorKey;

const ACCEPTED: ExitCode = ExitCode::SUCCESS;

fn refused() -> ExitCode {
    ExitCode::from(1)
}

fn unusable() -> ExitCode {
    ExitCode::from(2)
}

/// A folder with a log of one boot, and what its reader needs.
struct Desk {
    folder: TempDir,
    author: Author,
}

impl Desk {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (group, reader) = (Group::new("package policy"), x25519::Identity::generate());
        let author = Author::whole(1, &reader, &group);
        fs::create_dir(folder.path().join("log")).unwrap();
        author.write_to(&folder.path().join("log"));
        let put = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        put("reader.txt", reader.to_string().expose_secret());
        put("anchors.pem", &group.chain_pem());
        put("policy.json", &serde_json::to_string(&group.policy()).unwrap());
        Self { folder, author }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    /// Runs a command on the log, with whom to believe and when.
    fn on_log(&self, command: &str, more: &[&str]) -> ExitCode {
        let (log, anchors, policy) =
            (self.text("log"), self.text("anchors.pem"), self.text("policy.json"));
        let at = NOW.to_string();
        let words = ["--danger-anchors", &anchors, "--policy", &policy, "--at", &at];
        pmc(&[&["logs", command, &log], &words[..], more].concat())
    }

    fn identity(&self) -> String {
        self.text("reader.txt")
    }
}

fn pmc(words: &[&str]) -> ExitCode {
    let words = std::iter::once("pmc").chain(words.iter().copied());
    main_with(words.map(str::to_owned).collect::<Vec<_>>().into_iter())
}

#[test]
fn a_sound_log_is_accepted_and_any_other_is_not() {
    let desk = Desk::new();
    let identity = desk.identity();
    for more in [&[][..], &["--json"], &["--identity", &identity], &["--boot", "0101"]] {
        assert_eq!(desk.on_log("verify", more), ACCEPTED, "{more:?}");
    }
    assert_eq!(desk.on_log("verify", &["--boot", "0102"]), unusable(), "nothing was verified");
    assert_eq!(desk.on_log("verify", &["--boot", "0101", "--boot", "0102"]), unusable());
    assert_eq!(desk.on_log("open", &["--identity", &identity, "--format", "json"]), ACCEPTED);
    assert_eq!(desk.on_log("open", &["--identity", &identity, "--level", "error"]), ACCEPTED);
    assert_eq!(desk.on_log("open", &["--identity", &identity, "--level", "loud"]), unusable());
    assert_eq!(desk.on_log("open", &[]), unusable(), "nobody can read without a key");

    fs::remove_file(desk.path("log").join(format!("{}-00000002.jws", desk.author.boot))).unwrap();
    for (command, more) in [
        ("verify", &["--json"][..]),
        ("open", &["--identity", &identity]),
        ("export", &["--identity", &identity, "--out", &desk.text("exported")]),
    ] {
        assert_eq!(desk.on_log(command, more), refused(), "{command}");
    }
    fs::remove_dir_all(desk.path("log")).unwrap();
    assert_eq!(desk.on_log("verify", &[]), unusable());
    assert_eq!(desk.on_log("follow", &["--identity", &identity]), unusable());
}

#[test]
fn records_are_exported_to_a_new_file_of_their_reader() {
    let desk = Desk::new();
    let (identity, out) = (desk.identity(), desk.text("exported"));
    let words = ["--identity", &identity, "--out", &out];
    assert_eq!(desk.on_log("export", &words), ACCEPTED);
    let text = fs::read_to_string(&out).unwrap();
    assert_eq!(text.lines().count(), 4, "a line a document");
    assert!(text.lines().all(|line| line.starts_with("{\"resourceLogs\":[")));
    assert_eq!(fs::metadata(&out).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(desk.on_log("export", &words), unusable(), "it is not replaced");
    let away = ["--identity", &identity, "--to", "http://collector.example"];
    assert_eq!(desk.on_log("export", &away), unusable(), "nothing goes out in the clear");
    assert_eq!(desk.on_log("export", &["--identity", &identity]), unusable(), "to nowhere");
}

#[test]
fn keys_are_made_and_lists_are_signed() {
    let desk = Desk::new();
    let out = desk.text("new-reader.txt");
    assert_eq!(pmc(&["logs", "keygen", "--out", &out]), ACCEPTED);
    assert_eq!(pmc(&["logs", "keygen", "--out", &out]), unusable(), "it is not replaced");
    let text = fs::read_to_string(&out).unwrap();
    assert!(Identities::from_text(&text).is_ok());
    assert_eq!(fs::metadata(&out).unwrap().permissions().mode() & 0o777, 0o600);
    let recipient = text.lines().find_map(|line| line.strip_prefix("# public key: ")).unwrap();

    let (operator, pem) = OperatorKey::generate().ok().unwrap();
    let (key, signed) = (desk.text("signer.pem"), desk.text("readers.jws"));
    fs::write(&key, pem.as_bytes()).unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    let sign = |recipient: &str| {
        let words = ["--signer", &key, "--group", "group", "--version", "2", "--out", &signed];
        pmc(&[&["logs", "recipients", recipient][..], &words].concat())
    };
    assert_eq!(sign("age1qqqq"), unusable());
    assert_eq!(sign(recipient), ACCEPTED);
    let list = fs::read_to_string(&signed).unwrap();
    let readers = Readers::signed_by(list.trim(), operator.signer()).unwrap();
    assert_eq!(
        (readers.version.get(), readers.recipients.as_slice()),
        (2, &[recipient.to_owned()][..])
    );
    assert_eq!(sign_readers(&readers, &operator).map(|again| again.len()), Ok(list.len() - 1));
}
