//! Sealed logs that are whole, and every way in which they can fail to be.

use std::fs;
use std::io;
use std::path::Path;

use age::x25519;
use attestation::log_record::{Event, RecordError};
use attestation::policy::Hex;
use attestation::{Anchors, Expect, Policy, Trust};
use serde_json::json;
use tempfile::TempDir;

use super::testing::{Author, Group, NOW, Piece, Read, identities, read, read_as};
use super::{
    End, Identities, IdentitiesError, OpenError, Problem, Reader, Report, SegmentError, Source,
    open,
};

const SIX: [&str; 6] = ["one", "two", "three", "four", "five", "six"];

struct Place {
    folder: TempDir,
    reader: x25519::Identity,
    group: Group,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { folder, reader: x25519::Identity::generate(), group: Group::new("package policy") }
    }

    fn source(&self) -> Source {
        Source::Folder(self.folder.path().to_owned())
    }

    fn author(&self, boot: u8) -> Author {
        Author::whole(boot, &self.reader, &self.group)
    }

    fn read(&self) -> Read {
        read(&self.source(), &self.reader, &self.group)
    }

    /// What is found at another time, by somebody who has no key.
    fn report_at(&self, at: u64) -> Report {
        let (anchors, policy) = (self.group.anchors(), self.group.policy());
        let identities = Identities::none();
        let reader = Reader { identities: &identities, anchors: &anchors, policy: &policy, at };
        open(&self.source(), &reader, &mut |_| panic!("nothing can be opened")).unwrap()
    }
}

/// Writes a boot that was changed, beside one that was not, and gives the changed one's only problem and what
/// was read of both: a damaged boot must not keep the other from being read.
fn damaged(change: impl FnOnce(&mut Author)) -> (Problem, Vec<String>) {
    let place = Place::new();
    let mut author = place.author(1);
    change(&mut author);
    author.write_to(place.folder.path());
    place.author(2).write_to(place.folder.path());

    let Read { mut report, bodies } = place.read();
    assert!(!report.is_sound());
    let changed = report.boots.iter().position(|boot| boot.id == author.boot).unwrap();
    let problems = report.boots.remove(changed).problems;
    assert!(report.boots[0].problems.is_empty() && report.boots[0].records == 6);
    let [problem] = <[Problem; 1]>::try_from(problems).unwrap();
    // a boot without a beginning comes last
    let other = if changed == 0 { bodies.len() - 6 } else { 0 };
    assert_eq!(bodies[other..other + 6], SIX);
    (problem, [&bodies[..other], &bodies[other + 6..]].concat())
}

#[test]
fn a_whole_log_is_read_whole() {
    let place = Place::new();
    // the later boot has the smaller id
    let (mut early, mut late) = (Author::new(9, &place.reader), Author::new(3, &place.reader));
    early.time = NOW - 500;
    late.time = NOW - 100;
    for (author, body) in [(&mut early, "early"), (&mut late, "late")] {
        author.start(&place.group);
        author.segment(&[&[body]]);
    }
    early.lose(9);
    early.add(Event::Stop, None, None);
    early.write_to(place.folder.path());
    late.write_to(place.folder.path());
    fs::write(place.folder.path().join("README"), "not of the log").unwrap();
    fs::write(place.folder.path().join(format!("{}-00000009.age.partial", late.boot)), "").unwrap();

    let Read { report, bodies } = place.read();
    assert!(report.is_sound());
    assert_eq!(bodies, ["early", "late"]);
    let [first, second] = report.boots.as_slice() else { panic!("two boots") };
    assert_eq!((first.end, second.end), (End::Stopped, End::Open));
    assert_eq!((first.segments, first.records, first.lost), (1, 1, 9));
    assert_eq!(first.times, Some((NOW - 500, NOW - 497)));
    assert_eq!(first.trust, Some(Trust::NotProduction));
    assert!(!first.findings.is_empty());

    let mut text = Vec::new();
    report.write(&mut text).unwrap();
    let text = String::from_utf8(text).unwrap();
    for part in [
        "anchors: NOT PRODUCTION",
        "unchecked: U1 ",
        "unchecked: C6 ",
        "1 log records in 1 segments, 9 lost",
        "stopped in order",
        "OPEN END",
        "2 boots: nothing is wrong",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn what_stands_out_is_told_to_people_and_to_programs() {
    let place = Place::new();
    let mut author = Author::new(1, &place.reader);
    author.start(&place.group);
    author.time += 179;
    author.add(Event::Heartbeat, None, None);
    author.time += 180;
    author.add(Event::Heartbeat, None, None);
    author.lose(4);
    author.seal(b"{\"resourceSpans\":[{\"scopeSpans\":[{\"spans\":[{}]}]}]}\n", 0);
    author.add(Event::Stop, None, None);
    author.write_to(place.folder.path());
    let identities = identities(&place.reader);
    let (anchors, policy) = (place.group.anchors(), place.group.policy());
    let reader = Reader { identities: &identities, anchors: &anchors, policy: &policy, at: NOW };
    let report = open(&place.source(), &reader, &mut |_| Ok(())).unwrap();

    let said = "segment 4 holds 1 spans instead of 0";
    let json = report.json();
    let boot = &json["boots"][0];
    assert_eq!((&json["sound"], &boot["stopped"]), (&false.into(), &true.into()));
    assert_eq!(boot["problems"], json!([{"name": "count", "text": said}]));
    assert_eq!(boot["lost"], json!({"records": 4, "spans": 0, "points": 0}));
    assert_eq!((&boot["spans"], &boot["records"]), (&1.into(), &0.into()));
    let moments = boot["timeline"].as_array().unwrap();
    let kinds: Vec<&str> = moments.iter().map(|one| one["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["start", "silence", "loss", "stop"]);
    assert_eq!((&moments[1]["seq"], &moments[1]["seconds"]), (&2.into(), &181.into()));
    assert_eq!(moments[0]["recipients"], json!([place.reader.to_public().to_string()]));
    assert_eq!(moments[2]["why"], "sealing");

    let mut text = Vec::new();
    report.write(&mut text).unwrap();
    let text = String::from_utf8(text).unwrap();
    for part in [
        "record 0: it began, sealed for age1",
        "record 2: nothing was signed for 181 seconds",
        "record 3: LOST 4 log records, 0 spans, 0 points (sealing)",
        "record 5: it stopped",
        "1 spans, 0 lost; 0 points, 0 lost",
        said,
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn records_are_shown_as_text_and_as_they_were_sealed() {
    let place = Place::new();
    place.author(1).write_to(place.folder.path());
    let identities = identities(&place.reader);
    let (anchors, policy) = (place.group.anchors(), place.group.policy());
    let reader = Reader { identities: &identities, anchors: &anchors, policy: &policy, at: NOW };
    let mut text = Vec::new();
    open(&place.source(), &reader, &mut |document| document.write_text(&mut text)).unwrap();
    assert_eq!(
        String::from_utf8(text).unwrap(),
        SIX.map(|body| format!("- - - {body}\n")).concat()
    );

    let outcome = open(&place.source(), &reader, &mut |_| Err(io::ErrorKind::BrokenPipe.into()));
    assert!(matches!(outcome, Err(OpenError::Output(_))));
}

#[test]
fn a_log_of_somebody_else_is_refused_whole() {
    let place = Place::new();
    place.author(1).write_to(place.folder.path());
    let source = place.source();
    let refused = |anchors: &Anchors, policy: &Policy| {
        let Read { report, bodies } = read_as(&source, &place.reader, anchors, policy).unwrap();
        assert!(bodies.is_empty(), "nothing of it was read");
        let [boot] = report.boots.as_slice() else { panic!("one boot") };
        assert_eq!((boot.trust, boot.records), (None, 0));
        let [Problem::Evidence(rejected)] = boot.problems.as_slice() else {
            panic!("{:?}", boot.problems)
        };
        rejected.failures().map(|finding| finding.check.title.to_owned()).collect::<Vec<_>>()
    };
    let (anchors, policy) = (place.group.anchors(), place.group.policy());
    assert!(!refused(&Anchors::production(), &policy).is_empty());
    assert!(!refused(&Group::of_seed("another world", "").anchors(), &policy).is_empty());
    let twin = Policy { host_data: Expect::Value(vec![Hex([0; 32])]), ..policy.clone() };
    assert_eq!(refused(&anchors, &twin).len(), 1);
    let nobody = Policy { host_data: Expect::Value(vec![]), ..policy };
    assert_eq!(refused(&anchors, &nobody).len(), 1);
}

/// The owner's key signs proofs of connections. One policy serves for both, and the verdict says what was not looked at.
#[test]
fn a_policy_that_pins_an_owner_opens_the_log_and_says_that_nobody_looked() {
    let place = Place::new();
    place.author(1).write_to(place.folder.path());
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let spki = rcgen::PublicKeyData::subject_public_key_info(&key);
    let owner_key = Expect::Value(attestation::policy::OwnerKey::from_spki(&spki).unwrap());
    let policy = Policy { owner_key, ..place.group.policy() };
    let read = read_as(&place.source(), &place.reader, &place.group.anchors(), &policy).unwrap();
    assert_eq!(read.bodies.len(), SIX.len());
    let b4 = read.report.boots[0].findings.iter().find(|finding| finding.check.id == "B4");
    assert!(matches!(b4.unwrap().outcome, attestation::Outcome::Unchecked { .. }));
}

#[test]
fn evidence_of_another_key_boot_or_list_of_readers_is_refused() {
    let place = Place::new();
    let elsewhere = Author::new(2, &place.reader).identity(&place.group);
    let others_list = Author::new(1, &x25519::Identity::generate()).identity(&place.group);
    for mut stolen in [elsewhere, others_list] {
        let folder = tempfile::tempdir().unwrap();
        let mut author = Author::new(1, &place.reader);
        stolen.public_key = author.identity(&place.group).public_key;
        author.add(author.beginning(), Some(stolen), None);
        author.segment(&[&["forged"]]);
        author.write_to(folder.path());
        let source = Source::Folder(folder.path().to_owned());
        let Read { report, bodies } = read(&source, &place.reader, &place.group);
        assert!(bodies.is_empty());
        assert!(matches!(report.boots[0].problems.as_slice(), [Problem::Evidence(_)]));
    }
}

#[test]
fn a_first_record_that_is_missing_or_none_makes_a_boot_unbelievable() {
    for change in [
        (|author| drop(author.pieces.remove(0))) as fn(&mut Author),
        |author| author.pieces[0].record = Some("a.b.c".to_owned()),
        |author| {
            let moved = author.pieces[1].record.clone();
            author.pieces[0].record = moved;
        },
    ] {
        let (problem, bodies) = damaged(change);
        assert!(matches!(problem, Problem::NoBeginning(_)), "{problem:?}");
        assert!(bodies.is_empty());
    }
}

#[test]
fn a_record_that_was_taken_out_is_missed() {
    let (problem, bodies) = damaged(|author| drop(author.pieces.drain(2..4)));
    assert!(matches!(problem, Problem::Missing { first: 2, last: 3 }), "{problem:?}");
    assert_eq!(bodies, ["one", "two"]);
}

#[test]
fn a_tail_that_was_cut_is_named_once_a_sealer_would_have_signed_something() {
    let (problem, bodies) = damaged(|author| author.pieces.truncate(3));
    assert!(matches!(problem, Problem::CutOff { seq: 2 }), "{problem:?}");
    assert_eq!(bodies, ["one", "two", "three"]);

    let place = Place::new();
    let mut author = place.author(1);
    author.pieces.truncate(3);
    author.write_to(place.folder.path());
    let newest = author.time + 2;
    for (at, sound) in [(newest, true), (newest + 180, true), (newest + 181, false)] {
        let report = place.report_at(at);
        assert_eq!(report.boots[0].end, End::Open);
        assert_eq!(report.is_sound(), sound, "{at}");
    }
}

#[test]
fn records_that_changed_places_break_the_chain() {
    let (problem, bodies) = damaged(|author| {
        let second = author.pieces[2].record.take();
        author.pieces[2].record = author.pieces[3].record.replace(second.unwrap());
    });
    assert!(matches!(problem, Problem::BrokenChain { seq: 2, .. }), "{problem:?}");
    assert_eq!(bodies, ["one", "two"]);
}

#[test]
fn a_record_by_another_key_is_a_foreign_signers() {
    let (problem, bodies) = damaged(|author| {
        let mut forger = Author::new(1, &x25519::Identity::generate());
        forger.reader = author.reader.clone();
        forger.pieces = author.pieces[..2].to_vec();
        forger.prev =
            Some(attestation::crypto::sha256(author.pieces[1].record.as_ref().unwrap().as_bytes()));
        forger.segment(&[&["forged"]]);
        author.pieces[2] = forger.pieces.remove(2);
    });
    assert!(matches!(problem, Problem::ForeignSigner { seq: 2 }), "{problem:?}");
    assert_eq!(bodies, ["one", "two"]);
}

#[test]
fn a_record_that_was_changed_does_not_verify() {
    let (problem, _) = damaged(|author| {
        let record = author.pieces[3].record.as_mut().unwrap();
        let at = record.find('.').unwrap() + 60;
        let other = if record[at..].starts_with('A') { "B" } else { "A" };
        record.replace_range(at..=at, other);
    });
    assert!(
        matches!(problem, Problem::ForeignSigner { seq: 3 } | Problem::BrokenChain { seq: 3, .. }),
        "{problem:?}"
    );
}

#[test]
fn a_record_of_another_boot_under_this_ones_name_is_refused() {
    let place = Place::new();
    let other = place.author(7);
    let (problem, bodies) = damaged(|author| author.pieces[2] = other.pieces[2].clone());
    assert!(matches!(problem, Problem::ForeignSigner { seq: 2 }), "{problem:?}");
    assert_eq!(bodies, ["one", "two"]);

    // a whole boot under another name, so that it would count twice
    let mut renamed = place.author(5);
    renamed.write_to(place.folder.path());
    renamed.boot = hex::encode([6; 16]);
    renamed.write_to(place.folder.path());
    let Read { report, bodies } = place.read();
    assert_eq!(bodies, SIX);
    let problems: Vec<&Problem> = report.boots.iter().flat_map(|boot| &boot.problems).collect();
    assert!(matches!(problems.as_slice(), [Problem::NoBeginning(Some(RecordError::Chain(_)))]));
}

#[test]
fn what_follows_a_stop_is_refused() {
    let (problem, bodies) = damaged(|author| author.segment(&[&["after the end"]]));
    assert!(matches!(problem, Problem::BrokenChain { seq: 5, .. }), "{problem:?}");
    assert_eq!(bodies, SIX);
}

#[test]
fn a_segment_that_is_not_the_records_is_not_opened() {
    let flip = |author: &mut Author| author.pieces[2].segment.as_mut().unwrap()[200] ^= 1;
    let cut = |author: &mut Author| author.pieces[2].segment.as_mut().unwrap().truncate(300);
    let replay = |author: &mut Author| {
        let earlier = author.pieces[1].segment.clone();
        author.pieces[2].segment = earlier;
    };
    let again = |author: &mut Author| {
        let sealed = age::encrypt(&author.reader, b"anybody can encrypt to the reader").unwrap();
        author.pieces[2].segment = Some(sealed);
    };
    for change in [flip as fn(&mut Author), cut, replay, again] {
        let (problem, bodies) = damaged(change);
        assert!(matches!(problem, Problem::WrongDigest { seq: 2 }), "{problem:?}");
        assert_eq!(bodies, ["one", "two", "four", "five", "six"], "the others are read");
    }
}

#[test]
fn segments_and_records_belong_together() {
    let (problem, bodies) = damaged(|author| author.pieces[2].segment = None);
    assert!(matches!(problem, Problem::RecordWithoutSegment { seq: 2 }), "{problem:?}");
    assert_eq!(bodies, ["one", "two", "four", "five", "six"]);

    let (problem, bodies) = damaged(|author| {
        let segment = author.pieces[3].segment.clone();
        author.pieces.push(Piece { seq: 5, record: None, segment });
    });
    assert!(matches!(problem, Problem::SegmentWithoutRecord { seq: 5 }), "{problem:?}");
    assert_eq!(bodies, SIX);
}

#[test]
fn a_reader_of_something_else_is_told_once() {
    let place = Place::new();
    place.author(1).write_to(place.folder.path());
    let stranger = x25519::Identity::generate();
    let Read { report, bodies } = read(&place.source(), &stranger, &place.group);
    assert!(bodies.is_empty());
    let [boot] = report.boots.as_slice() else { panic!("one boot") };
    assert!(
        matches!(boot.problems.as_slice(), [Problem::NotAReader { seq: 1 }]),
        "{:?}",
        boot.problems
    );
    assert_eq!(boot.end, End::Stopped, "the chain can be followed without a key");
}

#[test]
fn segments_that_their_record_vouches_for_are_still_looked_at() {
    let sealed = |text: &[u8], records| {
        let place = Place::new();
        let mut author = Author::new(1, &place.reader);
        author.start(&place.group);
        author.seal(text, records);
        author.segment(&[&["next"]]);
        author.write_to(place.folder.path());
        let Read { mut report, bodies } = place.read();
        assert_eq!(bodies, ["next"]);
        report.boots[0].problems.remove(0)
    };
    let problem = sealed(b"no json\n", 1);
    assert!(
        matches!(problem, Problem::Segment { seq: 1, source: SegmentError::Line { line: 1, .. } }),
        "{problem:?}"
    );
    let problem = sealed(&vec![b' '; 17 << 20], 1);
    assert!(
        matches!(problem, Problem::Segment { seq: 1, source: SegmentError::TooLong }),
        "{problem:?}"
    );
    let problem = sealed(b"", 3);
    assert!(
        matches!(problem, Problem::Count { seq: 1, what: "log records", said: 3, found: 0 }),
        "{problem:?}"
    );
}

#[test]
fn files_that_are_too_long_are_not_read() {
    let place = Place::new();
    let mut author = place.author(1);
    author.pieces[1].record = Some("x".repeat(600_000));
    author.write_to(place.folder.path());
    let Read { report, bodies } = place.read();
    assert!(bodies.is_empty());
    assert!(matches!(report.boots[0].problems.as_slice(), [Problem::Unreadable { .. }]));
}

#[cfg(unix)]
#[test]
fn what_is_no_regular_file_is_not_read() {
    let place = Place::new();
    let mut author = place.author(1);
    author.pieces[2].segment = None;
    author.write_to(place.folder.path());
    let link = place.folder.path().join(format!("{}-00000002.age", author.boot));
    std::os::unix::fs::symlink("/dev/zero", link).unwrap();
    let Read { report, bodies } = place.read();
    assert!(matches!(report.boots[0].problems.as_slice(), [Problem::Unreadable { source, .. }]
        if source.kind() == io::ErrorKind::InvalidInput));
    assert_eq!(bodies, ["one", "two", "four", "five", "six"]);
}

fn captured(place: &Place, text: &str) -> Read {
    let path = place.folder.path().join("output");
    fs::write(&path, text).unwrap();
    read(&Source::Captured(path), &place.reader, &place.group)
}

#[test]
fn captured_output_is_read_between_everything_else_that_is_in_it() {
    let place = Place::new();
    let (first, second) = (place.author(1).lines(), place.author(2).lines());
    let mut text = String::from("log-sealer: starting\n{\"level\":\"info\"}\n\n");
    for (a, b) in first.iter().zip(&second) {
        text += &format!("{a}\r\nlog-sealer: something\n{b}\n");
    }
    // delivered again, and a last line without an end
    text += &format!("{}\nlog-sealer: stopped", first[2]);
    let Read { report, bodies } = captured(&place, &text);
    assert!(report.is_sound());
    assert_eq!(bodies, [SIX, SIX].concat());
    assert!(report.boots.iter().all(|boot| boot.end == End::Stopped));
}

#[test]
fn lines_that_were_cut_or_forged_are_named() {
    let place = Place::new();
    let lines = place.author(1).lines();
    let cut = &lines[2][..lines[2].len() - 5];
    let Read { report, bodies } = captured(&place, &format!("{cut}\n{}\n", lines.join("\n")));
    assert!(
        matches!(report.problems.as_slice(), [Problem::Line { line: 1, .. }]),
        "{:?}",
        report.problems
    );
    assert_eq!(bodies, SIX, "it was delivered again");

    let forged = place.author(1).lines().remove(2);
    let Read { report, bodies } = captured(&place, &format!("{}\n{forged}\n", lines.join("\n")));
    assert!(matches!(report.boots[0].problems.as_slice(), [Problem::Fork { seq: 2 }]));
    assert_eq!(bodies, SIX, "the first one is the chain's");
}

#[test]
fn a_terminal_obeys_no_name_that_whoever_stores_a_log_chose() {
    let place = Place::new();
    let lines = place.author(1).lines();
    let path = place.folder.path().join("\u{1b}[2J\nnothing is wrong");
    fs::write(&path, format!("{}\n{}\n", &lines[0][..40], lines.join("\n"))).unwrap();
    let Read { report, .. } = read(&Source::Captured(path), &place.reader, &place.group);
    let mut text = Vec::new();
    report.write(&mut text).unwrap();
    let text = String::from_utf8(text).unwrap();
    assert!(!text.contains('\u{1b}') && text.contains("\\u{1b}[2J\\u{a}"), "{text}");
    assert!(text.ends_with("1 boots: SOMETHING IS WRONG\n"), "{text}");
}

#[test]
fn problems_are_listed_up_to_a_bound_and_counted() {
    let place = Place::new();
    let author = place.author(1);
    author.write_to(place.folder.path());
    for seq in 5..1105 {
        fs::write(place.folder.path().join(format!("{}-{seq:08}.age", author.boot)), "").unwrap();
    }
    let damaged = format!("{}\n", &author.lines()[0][..40]).repeat(1002);
    fs::write(place.folder.path().join(format!("{}.jsonl", author.boot)), damaged).unwrap();
    let report = place.read().report;
    assert_eq!((report.boots[0].problems.len(), report.boots[0].more_problems), (1000, 100));
    assert_eq!((report.problems.len(), report.more_problems), (1000, 2));
    let mut text = Vec::new();
    report.write(&mut text).unwrap();
    let text = String::from_utf8(text).unwrap();
    assert!(text.contains("  PROBLEM … and 100 more\nPROBLEM line 1 of"), "{}", text.len());
    assert_eq!(report.json()["boots"][0]["more_problems"], 100);
}

#[test]
fn where_nothing_is_there_is_nothing_to_be_content_with() {
    let place = Place::new();
    let open = |source| {
        read_as(&source, &place.reader, &place.group.anchors(), &place.group.policy())
            .err()
            .unwrap()
    };
    assert!(matches!(open(place.source()), OpenError::Empty(_)));
    let missing = Path::new("/nonexistent/folder").to_owned();
    assert!(matches!(open(Source::Folder(missing.clone())), OpenError::Source(..)));
    assert!(matches!(open(Source::Captured(missing)), OpenError::Source(..)));
}

#[test]
fn identities_come_from_ages_own_files_and_are_never_repeated() {
    use age::secrecy::ExposeSecret as _;
    let secret = x25519::Identity::generate().to_string();
    let file = tempfile::NamedTempFile::new().unwrap();
    let text = format!("# created: 2026\n# public key: age1…\n{}\n", secret.expose_secret());
    fs::write(file.path(), &text).unwrap();
    assert_eq!(Identities::from_file(file.path()).unwrap().iter().count(), 1);

    fs::write(file.path(), format!("{text}AGE-SECRET-KEY-1WRONG\n")).unwrap();
    let error = Identities::from_file(file.path()).err().unwrap();
    assert!(matches!(error, IdentitiesError::File(..)));
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(!format!("{error} {cause}").contains("WRONG"), "{cause}");
    assert!(matches!(Identities::from_text("# nothing\n"), Err(IdentitiesError::None)));
    assert!(matches!(Identities::from_text("password"), Err(IdentitiesError::Text(_))));
}
