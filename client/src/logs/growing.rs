//! Logs that grow while they are read, and the forms in which they lie.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::Path;

use age::x25519;
use attestation::log_record::Event;
use serde_json::{Value, json};

use super::testing::{Author, Group, NOW, identities};
use super::{Document, Filter, Level, Log, OpenError, Problem, Reader, Source};

/// Follows a log step by step; each step says what was new.
fn follow(
    source: &Source,
    author: &x25519::Identity,
    group: &Group,
    steps: &[&dyn Fn()],
) -> Vec<Vec<String>> {
    let identities = identities(author);
    let (anchors, policy) = (group.anchors(), group.policy());
    // While the sealer writes, so that it is not silent.
    let at = NOW - 900;
    let reader = Reader { identities: &identities, anchors: &anchors, policy: &policy, at };
    let mut log = Log::new(source, &reader);
    let mut seen = Vec::new();
    for step in steps {
        step();
        let mut new = Vec::new();
        log.advance(&mut |document| bodies(document, &mut new)).unwrap();
        assert!(log.news().is_empty());
        seen.push(new);
    }
    assert!(log.is_stopped());
    let report = log.finish(&mut |_| panic!("it was all shown")).unwrap();
    assert!(report.is_sound());
    seen
}

fn bodies(document: &Document<'_>, to: &mut Vec<String>) -> io::Result<()> {
    let mut text = Vec::new();
    document.write_text(&mut text)?;
    let text = String::from_utf8(text).unwrap();
    to.extend(text.lines().map(|line| line.rsplit_once(' ').unwrap().1.to_owned()));
    Ok(())
}

fn author(group: &Group, reader: &x25519::Identity) -> Author {
    Author::whole(1, reader, group)
}

#[test]
fn a_folder_is_followed_and_a_segment_that_comes_late_is_waited_for() {
    let (group, reader) = (Group::new("package policy"), x25519::Identity::generate());
    let folder = tempfile::tempdir().unwrap();
    let all = author(&group, &reader);
    let write = |from: usize, to: usize| {
        let mut part = Author::new(1, &reader);
        part.pieces = all.pieces[from..to].to_vec();
        part.write_to(folder.path());
    };
    let name = format!("{}-00000002.age", all.boot);
    let late = folder.path().join(name);
    let seen = follow(
        &Source::Folder(folder.path().to_owned()),
        &reader,
        &group,
        &[
            &|| {},
            &|| write(0, 2),
            &|| {
                write(2, 4);
                fs::rename(&late, folder.path().join("late")).unwrap();
            },
            &|| fs::rename(folder.path().join("late"), &late).unwrap(),
            &|| write(4, 5),
        ],
    );
    let empty: [&str; 0] = [];
    assert_eq!(seen[0], empty);
    assert_eq!(seen[1], ["one", "two"]);
    assert_eq!(seen[2], empty, "nothing overtakes");
    assert_eq!(seen[3], ["three", "four", "five", "six"]);
    assert_eq!(seen[4], empty);
}

#[test]
fn captured_output_is_followed_through_half_lines() {
    let (group, reader) = (Group::new("package policy"), x25519::Identity::generate());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("output");
    let text = author(&group, &reader).lines().join("\n") + "\n";
    let ends: Vec<usize> = text.match_indices('\n').map(|(at, _)| at + 1).collect();
    let until = |end: usize| fs::write(&path, &text[..end]).unwrap();
    let seen = follow(
        &Source::Captured(path.clone()),
        &reader,
        &group,
        &[&|| until(ends[1]), &|| until(ends[2] - 1), &|| until(ends[2] + 9), &|| {
            until(text.len());
        }],
    );
    assert_eq!(seen, [vec!["one", "two"], vec![], vec!["three"], vec!["four", "five", "six"]]);
}

#[test]
fn a_log_that_is_replaced_or_taken_away_is_not_the_one_that_was_read() {
    let (group, reader) = (Group::new("package policy"), x25519::Identity::generate());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("output");
    let lines = author(&group, &reader).lines();
    let identities = identities(&reader);
    let (anchors, policy) = (group.anchors(), group.policy());
    let reader = Reader { identities: &identities, anchors: &anchors, policy: &policy, at: NOW };
    let begun = || {
        fs::write(&path, lines[..2].join("\n") + "\n").unwrap();
        let mut log = Log::new(&Source::Captured(path.clone()), &reader);
        log.advance(&mut |_| Ok(())).unwrap();
        log
    };
    let mut log = begun();
    fs::write(&path, "short\n").unwrap();
    assert!(matches!(log.advance(&mut |_| Ok(())), Err(OpenError::Replaced(_))));
    assert_eq!(log.report().boots[0].records, 2, "what was read is known");
    let mut log = begun();
    fs::remove_file(&path).unwrap();
    let error = log.advance(&mut |_| Ok(())).unwrap_err();
    assert!(matches!(error, OpenError::Source(..)));
    let report = log.taken_away(error);
    assert!(matches!(report.problems.as_slice(), [Problem::TakenAway(_)]) && !report.is_sound());
}

#[test]
fn a_folder_that_becomes_smaller_is_not_the_one_that_was_read() {
    let (group, reader) = (Group::new("package policy"), x25519::Identity::generate());
    let folder = tempfile::tempdir().unwrap();
    let author = author(&group, &reader);
    author.write_to(folder.path());
    let identities = identities(&reader);
    let (anchors, policy) = (group.anchors(), group.policy());
    let reader = Reader { identities: &identities, anchors: &anchors, policy: &policy, at: NOW };
    let mut log = Log::new(&Source::at(folder.path()), &reader);
    log.advance(&mut |_| Ok(())).unwrap();
    fs::remove_file(folder.path().join(format!("{}-00000004.jws", author.boot))).unwrap();
    assert!(matches!(log.advance(&mut |_| Ok(())), Err(OpenError::Replaced(_))));

    // One file goes and another comes: there are as many as before.
    author.write_to(folder.path());
    let mut log = Log::new(&Source::at(folder.path()), &reader);
    log.advance(&mut |_| Ok(())).unwrap();
    let file = |seq: u64| folder.path().join(format!("{}-{seq:08}.jws", author.boot));
    fs::rename(file(4), file(5)).unwrap();
    assert!(matches!(log.advance(&mut |_| Ok(())), Err(OpenError::Replaced(_))));
}

#[test]
fn who_follows_is_told_what_is_wrong_with_the_source_and_of_silence_once() {
    let (group, reader) = (Group::new("package policy"), x25519::Identity::generate());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("output");
    let (lines, others) = (author(&group, &reader).lines(), author(&group, &reader).lines());
    let identities = identities(&reader);
    let (anchors, policy) = (group.anchors(), group.policy());
    let at = NOW - 900;
    let reader = Reader { identities: &identities, anchors: &anchors, policy: &policy, at };
    let mut log = Log::new(&Source::Captured(path.clone()), &reader);
    let mut text = String::new();
    let mut news = |more: &str, at: u64| {
        text += more;
        fs::write(&path, &text).unwrap();
        log.set_time(at);
        log.advance(&mut |_| Ok(())).unwrap();
        log.news()
    };
    assert!(news(&(lines[..2].join("\n") + "\n"), at).is_empty());
    let wrong = news(&format!("{}\n{}\n", &lines[2][..40], others[1]), at);
    assert!(wrong[0].starts_with("line 3 of ") && wrong[1].ends_with("records 1"), "{wrong:?}");
    assert!(wrong.len() == 2 && news("", at).is_empty(), "it is told once");
    let silent = news("", NOW);
    assert!(silent.len() == 1 && silent[0].ends_with("record 1 within three heartbeats"));
    assert!(news("", NOW + 1).is_empty());
    assert_eq!(news(&format!("{}\n", lines[2]), NOW).len(), 1, "after another record again");
    assert!(news(&(lines[3..].join("\n") + "\n"), NOW).is_empty(), "it stopped");
}

/// What did not come while a log was followed, once it is taken away.
#[test]
fn what_was_waited_for_and_did_not_come_is_missing() {
    let (group, reader) = (Group::new("package policy"), x25519::Identity::generate());
    let folder = tempfile::tempdir().unwrap();
    let mut whole = author(&group, &reader);
    let mut headless = Author::whole(2, &reader, &group);
    headless.pieces.remove(0);
    whole.pieces[2].segment = None;
    whole.write_to(folder.path());
    headless.write_to(folder.path());
    let identities = identities(&reader);
    let (anchors, policy) = (group.anchors(), group.policy());
    let reader = Reader { identities: &identities, anchors: &anchors, policy: &policy, at: NOW };
    let mut log = Log::new(&Source::at(folder.path()), &reader);
    log.advance(&mut |_| Ok(())).unwrap();
    let report = log.report();
    let problems: Vec<&str> =
        report.boots.iter().flat_map(|boot| &boot.problems).map(Problem::name).collect();
    assert_eq!(problems, ["record-without-segment", "no-beginning"]);
}

/// Everything at once, in the forms that a platform may give it.
fn read(path: &Path, reader: &x25519::Identity, group: &Group) -> (Vec<String>, u64) {
    let identities = identities(reader);
    let (anchors, policy) = (group.anchors(), group.policy());
    let reader = Reader { identities: &identities, anchors: &anchors, policy: &policy, at: NOW };
    let mut all = Vec::new();
    let log = Log::new(&Source::at(path), &reader);
    let report = log.finish(&mut |document| bodies(document, &mut all)).unwrap();
    assert!(report.is_sound());
    (all, report.boots[0].duplicates)
}

#[test]
fn blobs_docker_and_prefixes_are_the_same_log() {
    const SIX: [&str; 6] = ["one", "two", "three", "four", "five", "six"];
    let (group, reader) = (Group::new("package policy"), x25519::Identity::generate());
    let folder = tempfile::tempdir().unwrap();
    let author = author(&group, &reader);
    let lines = author.lines();

    // A boot's blobs, the second of which begins with what the first ends with.
    let blobs = folder.path().join("blobs");
    fs::create_dir(&blobs).unwrap();
    let blob = |name: &str, lines: &[String]| {
        fs::write(blobs.join(name), lines.join("\n") + "\n").unwrap();
    };
    blob(&format!("{}.jsonl", author.boot), &lines[..3]);
    blob(&format!("{}-2.jsonl", author.boot), &lines[2..]);
    blob("other.jsonl", &["{\"record\":\"not of a log\"}".to_owned()]);
    assert_eq!(read(&blobs, &reader, &group), (SIX.map(str::to_owned).to_vec(), 1));
    // The same boot as files beside them.
    author.write_to(&blobs);
    assert_eq!(read(&blobs, &reader, &group), (SIX.map(str::to_owned).to_vec(), 6));

    let mut docker = String::new();
    for line in &lines {
        // The size at which Docker cuts.
        let whole = format!("{line}\n");
        for part in whole.as_bytes().chunks(16 * 1024) {
            let log = std::str::from_utf8(part).unwrap();
            let entry: Value =
                json!({"log": log, "stream": "stdout", "time": "2026-11-23T10:00:00Z"});
            let _ = writeln!(docker, "{entry}");
            let _ = writeln!(docker, "{}", json!({"log": "x\n", "stream": "stderr"}));
        }
    }
    let prefixed: String =
        lines.iter().map(|line| format!("log-sealer  | 2026-11-23T10:00:00Z {line}\n")).collect();
    for text in [docker, prefixed] {
        let path = folder.path().join("captured");
        fs::write(&path, text).unwrap();
        assert_eq!(read(&path, &reader, &group), (SIX.map(str::to_owned).to_vec(), 0));
    }
}

#[test]
fn only_some_boots_and_some_records_are_read() {
    let (group, reader) = (Group::new("package policy"), x25519::Identity::generate());
    let folder = tempfile::tempdir().unwrap();
    for boot in [1, 2] {
        let mut author = Author::new(boot, &reader);
        author.start(&group);
        let record = |body: &str, severity: u32| json!({"body": {"stringValue": body}, "severityNumber": severity});
        let records = [record("quiet", 9), record("loud", 17)];
        let document = json!({"resourceLogs": [{"scopeLogs": [{"logRecords": records}]}]});
        author.seal(format!("{document}\n").as_bytes(), 2);
        author.add(Event::Stop, None, None);
        author.write_to(folder.path());
    }
    let identities = identities(&reader);
    let (anchors, policy) = (group.anchors(), group.policy());
    let reader = Reader { identities: &identities, anchors: &anchors, policy: &policy, at: NOW };
    let filter = Filter { level: Some(Level::Error), ..Filter::default() };
    let mut text = Vec::new();
    let log = Log::new(&Source::at(folder.path()), &reader).with_boots(vec!["0202".to_owned()]);
    let report = log.finish(&mut |document| document.write_text_of(&filter, &mut text)).unwrap();
    assert_eq!(String::from_utf8(text).unwrap(), "- ERROR - loud\n");
    let [boot] = report.boots.as_slice() else { panic!("one boot") };
    assert_eq!((boot.records, report.is_sound()), (2, true), "what is not shown is verified");
}
