//! What whoever stores a log can do to it, each by the name that `pmc logs verify` gives it. No key is needed to see it.

use age::x25519;
use attestation::log_record::{Event, Previous};
use attestation::secrets::Signer;
use tempfile::TempDir;

use super::testing::{Author, Group, NOW, Piece};
use super::{End, Identities, Log, Note, Reader, Report, Source, What};
use crate::secrets::OperatorKey;

struct Host {
    folder: TempDir,
    reader: x25519::Identity,
    group: Group,
}

impl Host {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { folder, reader: x25519::Identity::generate(), group: Group::new("package policy") }
    }

    /// A boot that stopped in order: a start, three segments, a stop.
    fn boot(&self, boot: u8) -> Author {
        Author::whole(boot, &self.reader, &self.group)
    }

    /// A boot that names the one before it, with one segment.
    fn boot_after(&self, boot: u8, previous: Option<Previous>) -> Author {
        let mut author = Author::new(boot, &self.reader);
        author.previous = previous;
        author.start(&self.group);
        author.segment(&[&["after"]]);
        author
    }

    /// What an auditor without a key finds in what these boots left.
    fn report(&self, boots: &[&Author], signer: Option<&Signer>) -> Report {
        for boot in boots {
            boot.write_to(self.folder.path());
        }
        let (anchors, policy) = (self.group.anchors(), self.group.policy());
        let identities = Identities::none();
        let reader =
            Reader { identities: &identities, anchors: &anchors, policy: &policy, at: NOW };
        let source = Source::Folder(self.folder.path().to_owned());
        let log = Log::new(&source, &reader).with_signer(signer);
        log.finish(&mut |_| panic!("nothing can be opened")).unwrap()
    }

    /// Names of what is wrong, boot by boot.
    fn names(&self, boots: &[&Author]) -> Vec<Vec<&'static str>> {
        names(&self.report(boots, None))
    }
}

fn names(report: &Report) -> Vec<Vec<&'static str>> {
    let names = |boot: &super::Boot| boot.problems.iter().map(super::Problem::name).collect();
    report.boots.iter().map(names).collect()
}

/// The names for one boot that was changed.
fn named(change: impl FnOnce(&Host, &mut Author)) -> Vec<&'static str> {
    let host = Host::new();
    let mut author = host.boot(1);
    change(&host, &mut author);
    let mut all = host.names(&[&author]);
    assert_eq!(all.len(), 1);
    all.remove(0)
}

#[test]
fn nothing_is_wrong_where_nothing_was_done() {
    assert_eq!(named(|_, _| {}), [""; 0]);
    let report = Host::new().report(&[&Host::new().boot(1)], None);
    assert_eq!(names(&report), [["evidence"; 0]], "the same machine, whoever asks");
    assert_eq!((report.boots[0].segments, report.boots[0].records), (3, 6), "as records say");
}

#[test]
fn a_segment_dropped() {
    assert_eq!(named(|_, author| drop(author.pieces.remove(2))), ["missing"]);
    assert_eq!(named(|_, author| author.pieces[2].segment = None), ["record-without-segment"]);
    assert_eq!(named(|_, author| author.pieces[2].record = None)[0], "segment-without-record");
}

#[test]
fn segments_reordered() {
    let swap = |_: &Host, author: &mut Author| {
        author.pieces.swap(1, 2);
        author.pieces[1].seq = 1;
        author.pieces[2].seq = 2;
    };
    assert_eq!(named(swap), ["broken-chain"]);
    let only_segments = |_: &Host, author: &mut Author| {
        let segment = author.pieces[1].segment.take();
        author.pieces[1].segment = std::mem::replace(&mut author.pieces[2].segment, segment);
    };
    assert_eq!(named(only_segments), ["wrong-digest", "wrong-digest"]);
}

#[test]
fn a_segment_duplicated() {
    let again = |_: &Host, author: &mut Author| {
        author.pieces.insert(2, Piece { seq: 2, ..author.pieces[1].clone() });
        (3..).zip(&mut author.pieces[3..]).for_each(|(seq, piece)| piece.seq = seq);
    };
    assert_eq!(named(again), ["broken-chain"]);
}

#[test]
fn a_segment_replayed_from_another_boot() {
    let replay =
        |host: &Host, author: &mut Author| author.pieces[2] = host.boot(7).pieces.remove(2);
    assert_eq!(named(replay), ["foreign-signer"]);
    let segment = |host: &Host, author: &mut Author| {
        author.pieces[2].segment = host.boot(7).pieces.remove(2).segment;
    };
    assert_eq!(named(segment), ["wrong-digest"]);
    // A whole boot once more, under another name.
    let host = Host::new();
    let first = host.boot(1);
    first.write_to(host.folder.path());
    let mut renamed = host.boot(1);
    renamed.pieces.clone_from(&first.pieces);
    renamed.boot = hex::encode([9; 16]);
    assert_eq!(host.names(&[&renamed]), [vec![], vec!["no-beginning"]]);
}

#[test]
fn a_segment_truncated() {
    let cut = |_: &Host, author: &mut Author| {
        author.pieces[2].segment.as_mut().unwrap().truncate(300);
    };
    assert_eq!(named(cut), ["wrong-digest"]);
}

#[test]
fn a_segment_re_encrypted_by_the_host() {
    let again = |host: &Host, author: &mut Author| {
        let sealed = age::encrypt(&host.reader.to_public(), b"anybody can encrypt").unwrap();
        author.pieces[2].segment = Some(sealed);
    };
    assert_eq!(named(again), ["wrong-digest"]);
}

#[test]
fn a_tail_cut() {
    assert_eq!(named(|_, author| author.pieces.truncate(4)), ["cut-off"]);

    // A later boot names what was there: when the end was cut off does not matter then.
    let host = Host::new();
    let mut author = host.boot(1);
    let mut later = host.boot_after(2, Some(author.head()));
    later.add(Event::Stop, None, None);
    author.pieces.truncate(4);
    assert_eq!(host.names(&[&author, &later]), [vec!["end-missing"], vec![]]);

    // The whole boot is gone, and one before it is not.
    let host = Host::new();
    let (first, second) = (host.boot(1), host.boot(2));
    let mut third = host.boot_after(3, Some(second.head()));
    third.add(Event::Stop, None, None);
    assert_eq!(host.names(&[&first, &third]), [vec![], vec!["boot-missing"]]);

    // The clock is the host's: that a boot says that it is the oldest excuses nothing.
    let host = Host::new();
    let mut third = Author::new(3, &host.reader);
    third.time = first.time - 100;
    third.previous = Some(second.head());
    third.start(&host.group);
    third.add(Event::Stop, None, None);
    assert_eq!(host.names(&[&first, &third]), [["boot-missing"], ["unlinked"]]);
}

#[test]
fn a_clock_that_is_ahead_hides_no_cut() {
    for (ahead, expected) in [(300, vec![]), (301, vec!["clock-ahead"])] {
        let host = Host::new();
        let mut author = Author::new(1, &host.reader);
        author.time = NOW - 2 + ahead;
        author.start(&host.group);
        author.segment(&[&["one"]]);
        author.segment(&[&["two"]]);
        assert_eq!(host.names(&[&author]), [expected], "{ahead}");
    }
    let host = Host::new();
    let mut author = Author::new(1, &host.reader);
    author.time = NOW + 100_000;
    author.start(&host.group);
    author.segment(&[&["one"]]);
    assert_eq!(host.names(&[&author]), [["clock-ahead"]], "it is said once");
}

#[test]
fn a_crash_may_be_a_cut_though_the_next_boot_names_its_newest_record() {
    let host = Host::new();
    let crashed = host.boot_after(1, None);
    let mut later = host.boot_after(2, Some(crashed.head()));
    later.add(Event::Stop, None, None);
    let report = host.report(&[&crashed, &later], None);
    assert_eq!(names(&report), [vec!["cut-off"], vec![]], "the spool is the host's");
    assert_eq!(report.boots[0].end, End::Open);
    assert_eq!(report.boots[0].notes, [Note::Crashed(later.boot.clone())]);

    // It need not have been silent: one that another follows does not run.
    let host = Host::new();
    let mut crashed = host.boot_after(1, None);
    crashed.time = NOW - 10;
    crashed.add(Event::Heartbeat, None, None);
    let mut next = host.boot_after(2, Some(crashed.head()));
    next.add(Event::Stop, None, None);
    let report = host.report(&[&crashed, &next], None);
    let crashed = report.boots.iter().find(|boot| boot.id == crashed.boot).unwrap();
    assert!(matches!(crashed.problems.as_slice(), [super::Problem::CutOff { seq: 2 }]));

    // Alone, the later one says that there was one before.
    let host = Host::new();
    let report = host.report(&[&later], None);
    assert!(matches!(report.boots[0].notes.as_slice(), [Note::Earlier(_)]));
    // One that names none, after another.
    let host = Host::new();
    let report = host.report(&[&host.boot(5), &host.boot(6)], None);
    assert_eq!(report.boots[1].notes, [Note::Unlinked]);
    assert!(report.is_sound(), "without a spool none does");
}

#[test]
fn a_boot_whose_spool_was_emptied() {
    let host = Host::new();
    let first = host.boot(1);
    let mut second = host.boot_after(2, Some(first.head()));
    second.add(Event::Stop, None, None);
    assert_eq!(host.names(&[&first, &second]), [[""; 0]; 2]);
    assert_eq!(host.names(&[&host.boot(3)]), [vec![], vec![], vec!["unlinked"]]);
}

#[test]
fn a_fork_of_the_chain() {
    // Two lines with different records of one number.
    let host = Host::new();
    let author = host.boot(1);
    let mut lines = author.lines();
    lines.push(host.boot(1).lines().remove(2));
    let name = format!("{}.jsonl", author.boot);
    std::fs::write(host.folder.path().join(name), lines.join("\n") + "\n").unwrap();
    assert_eq!(host.names(&[]), [["fork"]]);

    // Another chain of the same boot than the one that the next boot saw.
    let host = Host::new();
    let mut crashed = host.boot_after(1, None);
    let mut seen = crashed.head();
    seen.digest = [9; 32];
    let mut later = host.boot_after(2, Some(seen));
    later.add(Event::Stop, None, None);
    assert_eq!(host.names(&[&crashed, &later])[0][0], "other-end");

    // Two boots that both follow the same one, which went on: a spool was set back, or two ran at once.
    let head = crashed.head();
    crashed.segment(&[&["more"]]);
    crashed.add(Event::Stop, None, None);
    let boots = [2, 3].map(|boot| {
        let mut author = host.boot_after(boot, Some(head.clone()));
        author.add(Event::Stop, None, None);
        author
    });
    let host = Host::new();
    let all = host.names(&[&crashed, &boots[0], &boots[1]]);
    assert_eq!(all, [vec!["went-on", "went-on"], vec![], vec!["boot-fork"]]);
}

#[test]
fn a_foreign_signer() {
    let forge = |host: &Host, author: &mut Author| {
        let mut forger = Author::new(1, &host.reader);
        forger.pieces = author.pieces[..2].to_vec();
        let before = author.pieces[1].record.as_ref().unwrap();
        forger.prev = Some(attestation::crypto::sha256(before.as_bytes()));
        forger.segment(&[&["forged"]]);
        author.pieces[2] = forger.pieces.remove(2);
    };
    assert_eq!(named(forge), ["foreign-signer"]);

    // A boot of the host's own, with evidence of somebody else's key.
    let host = Host::new();
    let mut forger = Author::new(3, &host.reader);
    let mut stolen = host.boot(1);
    stolen.boot.clone_from(&forger.boot);
    let mut identity = stolen.identity(&host.group);
    identity.public_key = forger.identity(&host.group).public_key;
    forger.add(forger.beginning(), Some(identity), None);
    forger.segment(&[&["forged"]]);
    assert_eq!(host.names(&[&forger]), [["evidence"]]);
}

#[test]
fn a_recipient_added_by_the_host() {
    let host = Host::new();
    let hosts_own = x25519::Identity::generate();
    let (operator, _) = OperatorKey::generate().ok().unwrap();
    let (hosts_key, _) = OperatorKey::generate().ok().unwrap();

    // To the list that a boot begins with: the evidence is for another one.
    let mut forger = Author::new(3, &host.reader);
    let identity = forger.identity(&host.group);
    forger.reader = hosts_own.to_public();
    forger.add(forger.beginning(), Some(identity), None);
    assert_eq!(host.names(&[&forger]), [["evidence"]]);

    // By a list that somebody else signed: a reader who names the operator is not fooled by the sealer's configuration.
    let host = Host::new();
    let mut author = host.boot_after(1, None);
    author.change_reader(&hosts_own, &hosts_key);
    author.segment(&[&["for the host"]]);
    author.add(Event::Stop, None, None);
    let report = host.report(&[&author], Some(operator.signer()));
    assert_eq!(names(&report), [["foreign-readers"]]);

    // By the operator's list it is no attack, and on record.
    let host = Host::new();
    let mut author = host.boot_after(1, None);
    author.change_reader(&hosts_own, &operator);
    author.segment(&[&["for somebody new"]]);
    author.add(Event::Stop, None, None);
    let report = host.report(&[&author], Some(operator.signer()));
    assert!(report.is_sound(), "{:?}", names(&report));
    let changed = What::Readers { version: 1, recipients: vec![hosts_own.to_public().to_string()] };
    assert!(report.boots[0].timeline.iter().any(|moment| moment.what == changed));
}
