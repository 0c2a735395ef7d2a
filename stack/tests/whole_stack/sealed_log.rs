//! What the roles log comes out at the reader, verified, and nowhere else.

use crate::support::{Running, pmc, start, text};

/// Words of a command of `pmc logs` for this group's log.
fn on_log(running: &Running, command: &str, more: &[&str]) -> Vec<String> {
    let log = running.stack.group.places().sealed_logs().display().to_string();
    let mut words = vec!["logs".to_owned(), command.to_owned(), log];
    words.extend(more.iter().map(|word| (*word).to_owned()));
    words.extend(running.trusting());
    words
}

/// Words of `pmc logs open` for this group's log.
fn open(running: &Running, identity: &str) -> Vec<String> {
    on_log(running, "open", &["--identity", identity])
}

#[tokio::test]
async fn every_role_logs_into_it_and_its_reader_sees_who_sealed_it() {
    let running = start().await;
    let identity = running.path("reader.txt");
    let words = open(&running, &identity);
    let elsewhere = {
        let mut words = words.clone();
        let anchors = words.iter().position(|word| word == "--danger-anchors").unwrap();
        words.drain(anchors..anchors + 2);
        words
    };
    let stranger = running.folder.path().join("stranger.txt");
    let secret = age::x25519::Identity::generate().to_string();
    std::fs::write(&stranger, age::secrecy::ExposeSecret::expose_secret(&secret)).unwrap();
    let as_stranger = open(&running, &stranger.display().to_string());
    let exported = running.folder.path().join("exported").display().to_string();
    let verify = on_log(&running, "verify", &["--json"]);
    let export = on_log(&running, "export", &["--identity", &identity, "--out", &exported]);
    let follow = on_log(&running, "follow", &["--identity", &identity, "--until-stop"]);
    let following = tokio::spawn(async move { pmc(&follow).await });

    let Running { stack, folder, .. } = running;
    assert!(stack.stop().await.is_empty());

    let followed = following.await.unwrap();
    let shown = text(&followed);
    assert_eq!(followed.status.code(), Some(0), "{shown}");
    assert!(shown.contains("stopped in order") && shown.contains("listening"), "{shown}");

    // An auditor needs no key.
    let verified = pmc(&verify).await;
    assert_eq!(verified.status.code(), Some(0), "{}", text(&verified));
    let report: serde_json::Value = serde_json::from_slice(&verified.stdout).unwrap();
    assert_eq!((&report["sound"], &report["boots"][0]["stopped"]), (&true.into(), &true.into()));

    let outcome = pmc(&export).await;
    assert_eq!(outcome.status.code(), Some(0), "{}", text(&outcome));
    let lines = std::fs::read_to_string(&exported).unwrap();
    let is_otlp = |line: &str| {
        ["{\"resourceLogs\":[", "{\"resourceMetrics\":["].iter().any(|form| line.starts_with(form))
    };
    assert!(lines.lines().all(is_otlp) && lines.contains("resourceLogs"), "{lines}");

    let opened = pmc(&words).await;
    let shown = text(&opened);
    assert_eq!(opened.status.code(), Some(0), "{shown}");
    for role in stack::RoleName::ALL {
        assert!(shown.contains(role.name()), "{role} is missing in {shown}");
    }
    assert!(shown.contains("anchors: NOT PRODUCTION"), "{shown}");

    let production = pmc(&elsewhere).await;
    assert_eq!(production.status.code(), Some(1), "{}", text(&production));
    let refused = pmc(&as_stranger).await;
    assert_eq!(refused.status.code(), Some(1), "{}", text(&refused));
    assert!(!text(&refused).contains("listening"), "a stranger sees no record");
    drop(folder);
}

/// The proxy's manifest names the log's newest record, and clients who saved their proofs hold the host to it.
#[tokio::test]
async fn a_saved_proof_shows_that_the_log_was_cut() {
    let running = start().await;
    let (url, proof) = (running.stack.group.url().await.unwrap(), running.path("saved-proof"));
    let mut save = vec!["verify".to_owned(), url, "--save".to_owned(), proof.clone()];
    save.extend(running.trusting());
    let saved = pmc(&save).await;
    assert_eq!(saved.status.code(), Some(0), "{}", text(&saved));
    let verify = on_log(&running, "verify", &["--json", "--proof", &proof]);
    let log = running.stack.group.places().sealed_logs();
    let Running { stack, folder, .. } = running;
    assert!(stack.stop().await.is_empty());

    let verified = pmc(&verify).await;
    let said = text(&verified);
    assert_eq!(verified.status.code(), Some(0), "{said}");
    let (before, _) = said.split_once(" is the one that the saved proof").unwrap();
    let seq: u64 = before.rsplit_once("record ").unwrap().1.parse().unwrap();

    for entry in std::fs::read_dir(&log).unwrap() {
        let path = entry.unwrap().path();
        let stem = path.file_stem().unwrap().to_str().unwrap();
        let number: u64 = stem.split_once('-').unwrap().1.parse().unwrap();
        if number >= seq {
            std::fs::remove_file(path).unwrap();
        }
    }
    let cut = pmc(&verify).await;
    // Of a log that was cut to nothing, nothing is left to read.
    let (status, named) = if seq == 0 { (2, "holds no sealed log") } else { (1, "\"proof-cut\"") };
    assert_eq!(cut.status.code(), Some(status), "{}", text(&cut));
    assert!(text(&cut).contains(named), "{}", text(&cut));
    drop(folder);
}
