//! What whoever stores a log can do to it where a reader has saved proofs, each by the name that `pmc logs verify` gives it.

use age::x25519;
use attestation::bundle::Bundle;
use attestation::log_record::Event;
use attestation::wire::LogHead;
use tempfile::TempDir;

use super::testing::{Author, Group, NOW};
use super::{Identities, Log, Note, Problem, Reader, Report, Source, Witness, WitnessError};

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

    /// A boot that stopped in order, and proofs that were taken after each of its records.
    fn boot(&self, boot: u8) -> (Author, Vec<Bundle>) {
        let mut author = Author::new(boot, &self.reader);
        author.start(&self.group);
        let mut proofs = vec![author.proof(&self.group)];
        for body in ["one", "two"] {
            author.segment(&[&[body]]);
            proofs.push(author.proof(&self.group));
        }
        author.add(Event::Stop, None, None);
        proofs.push(author.proof(&self.group));
        (author, proofs)
    }

    fn witness(&self, proof: &Bundle) -> Result<Witness, WitnessError> {
        Witness::of("a proof", proof, &self.group.anchors(), &self.group.policy(), NOW)
    }

    /// What an auditor without a key, and with proofs, finds in what these boots left.
    fn report(&self, boots: &[&Author], proofs: &[Bundle]) -> Report {
        boots.iter().for_each(|boot| boot.write_to(self.folder.path()));
        let witnesses = proofs.iter().map(|proof| self.witness(proof).unwrap()).collect();
        let (anchors, policy) = (self.group.anchors(), self.group.policy());
        let identities = Identities::none();
        let reader =
            Reader { identities: &identities, anchors: &anchors, policy: &policy, at: NOW };
        let log = Log::new(&Source::at(self.folder.path()), &reader).with_witnesses(witnesses);
        log.finish(&mut |_| panic!("nothing can be opened")).unwrap()
    }
}

/// Names of what is wrong: outside of any boot, then boot by boot.
fn names(report: &Report) -> Vec<Vec<&'static str>> {
    let names = |problems: &[Problem]| problems.iter().map(Problem::name).collect();
    let boots = report.boots.iter().map(|boot| names(&boot.problems));
    std::iter::once(names(&report.problems)).chain(boots).collect()
}

#[test]
fn a_whole_log_holds_what_every_proof_of_it_names() {
    let host = Host::new();
    let ((first, mut proofs), (second, more)) = (host.boot(1), host.boot(2));
    proofs.extend(more);
    let report = host.report(&[&first, &second], &proofs);
    assert!(report.is_sound(), "{:?}", names(&report));
    let proved = |boot: &super::Boot| {
        let is_proved = |note: &&Note| matches!(note, Note::Proved { .. });
        boot.notes.iter().filter(is_proved).count()
    };
    assert_eq!(report.boots.iter().map(proved).collect::<Vec<_>>(), [4, 4]);
}

#[test]
fn whole_boots_that_were_taken_away() {
    // Nothing in the log points to any of them.
    for (kept, taken) in [(1, 2), (2, 1)] {
        let host = Host::new();
        let ((kept, proofs), (_, gone)) = (host.boot(kept), host.boot(taken));
        let report = host.report(&[&kept], &proofs);
        assert!(report.is_sound(), "{:?}", names(&report));
        let report = host.report(&[], &gone[1..2]);
        assert_eq!(names(&report), [vec!["proof-boot-missing"], vec![]]);
    }
}

#[test]
fn a_log_that_was_cut_before_what_a_proof_names() {
    let host = Host::new();
    let (mut author, proofs) = host.boot(1);
    author.pieces.truncate(2);
    let names = names(&host.report(&[&author], &proofs));
    assert_eq!(names, [vec![], vec!["cut-off", "proof-cut", "proof-cut"]]);

    // Something in the middle is missing: what comes after it is not believed, and a proof is no reason to.
    let host = Host::new();
    let (mut author, proofs) = host.boot(1);
    author.pieces.remove(1);
    let names = self::names(&host.report(&[&author], &proofs[2..3]));
    assert_eq!(names, [vec![], vec!["missing", "proof-cut"]]);
}

#[test]
fn a_chain_that_forks_from_the_one_that_was_proved() {
    let host = Host::new();
    let (author, _) = host.boot(1);
    let digest = [9; 32];
    let other = host.group.proof(Some(&author.public_key()), Some(LogHead { seq: 2, digest }));
    assert_eq!(names(&host.report(&[&author], &[other])), [vec![], vec!["proof-fork"]]);
}

#[test]
fn a_record_that_another_key_signed_than_the_one_that_was_proved() {
    let host = Host::new();
    let ((author, _), (other, _)) = (host.boot(1), host.boot(2));
    let head = author.head();
    let head = LogHead { seq: head.seq, digest: head.digest };
    let proof = host.group.proof(Some(&other.public_key()), Some(head));
    assert_eq!(names(&host.report(&[&author], &[proof])), [vec![], vec!["proof-signer"]]);
}

#[test]
fn a_boot_that_is_not_believed_is_not_there() {
    let host = Host::new();
    let (mut author, proofs) = host.boot(1);
    let (_, mut strangers) = host.boot(1);
    author.pieces[0].record = Some("a.b.c".to_owned());
    let report = host.report(&[&author], &proofs[1..2]);
    assert_eq!(names(&report), [vec!["proof-boot-missing"], vec!["no-beginning"]]);
    let report = host.report(&[], &strangers.split_off(3));
    assert_eq!(names(&report)[0], ["proof-boot-missing"]);
}

#[test]
fn a_proof_that_proves_nothing_is_no_witness() {
    let host = Host::new();
    let (author, proofs) = host.boot(1);
    let refused = |proof: &Bundle| matches!(host.witness(proof), Err(WitnessError::Refused(_)));

    // A head that the host wrote into a genuine proof, and a proof of another group.
    let mut forged = proofs[3].clone();
    let text = String::from_utf8(forged.answer.manifest).unwrap();
    forged.answer.manifest = text.replace("\"seq\":3", "\"seq\":1").into_bytes();
    assert!(!refused(&proofs[3]) && refused(&forged));
    assert!(refused(&author.proof(&Group::new("package evil"))));
    assert!(refused(&author.proof(&Group::of_seed("elsewhere", "package policy"))));

    // A group without a log, or whose log had not begun.
    let key = author.public_key();
    let no_log = |key: Option<&[u8]>, head| {
        matches!(host.witness(&host.group.proof(key, head)), Err(WitnessError::NoLog))
    };
    assert!(no_log(None, None) && no_log(Some(&key), None));
    assert!(no_log(None, Some(LogHead { seq: 0, digest: [0; 32] })));
}
