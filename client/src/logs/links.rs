//! What boots say of each other, and whether the end of each is there.
//!
//! Whoever stores a log can withhold its end. A boot's last record shows that nothing is missing. Without one nobody
//! can tell a crash from a cut: the boot after it may name its newest record, but read that in a spool that is the host's.

use attestation::crypto::sha256;
use attestation::log_record::Previous;

use super::boot::{Done, SILENCE};
use super::problem::{Note, Problem};
use super::report::{Boot, End};
use super::source::Index;

/// Links boots, which stand in the order in which they began. `at` is the time to judge at, in Unix seconds.
/// `all`: every boot of the log is among them.
pub(super) fn link(done: Vec<Done>, index: &Index, at: u64, all: bool) -> Vec<Boot> {
    let (mut boots, heartbeats): (Vec<Boot>, Vec<Option<u64>>) =
        done.into_iter().map(|Done { boot, heartbeat }| (boot, heartbeat)).unzip();
    // A log has one boot that follows none of the others. Where the sealer keeps a spool, another one shows a gap.
    let follows = |boot: &Boot| {
        let previous = boot.previous.as_ref();
        previous.is_some_and(|previous| boots.iter().any(|other| other.id == previous.boot))
    };
    let roots = boots.iter().filter(|boot| boot.trust.is_some() && !follows(boot)).count();
    let is_whole = !all || roots < 2;
    let has_spool = boots.iter().any(|boot| boot.previous.is_some());
    for place in 0..boots.len() {
        let (earlier, rest) = boots.split_at_mut(place);
        let Some((boot, later)) = rest.split_first_mut() else { break };
        match boot.previous.clone() {
            Some(previous) => named(boot, earlier, later, &previous, index, is_whole),
            None if boot.trust.is_none() || place == 0 => {}
            None if is_whole || !has_spool => boot.notes.push(Note::Unlinked),
            None => boot.wrong(Problem::Unlinked),
        }
    }
    for (boot, heartbeat) in boots.iter_mut().zip(heartbeats) {
        if let Some(heartbeat) = heartbeat {
            end(boot, heartbeat, at);
        }
    }
    boots
}

/// Holds what a boot says of the one before it against what is there of that. `is_whole`: that it is not there shows no gap.
fn named(
    boot: &mut Boot,
    earlier: &mut [Boot],
    later: &mut [Boot],
    previous: &Previous,
    index: &Index,
    is_whole: bool,
) {
    let Previous { boot: id, seq, digest } = previous;
    let same = |other: &&mut Boot| other.previous.as_ref().is_some_and(|one| one.boot == *id);
    if let Some(other) = earlier.iter_mut().find(same) {
        let other = other.id.clone();
        boot.wrong(Problem::BootFork { boot: id.clone(), other });
    }
    let others = earlier.iter_mut().chain(later);
    let Some(before) = others.into_iter().find(|other| other.id == *id) else {
        if is_whole {
            boot.notes.push(Note::Earlier(id.clone()));
        } else {
            boot.wrong(Problem::BootMissing { boot: id.clone() });
        }
        return;
    };
    // What was not believed ends where it ends.
    let Some(newest) = before.newest else { return };
    let (seq, later) = (*seq, boot.id.clone());
    if newest < seq {
        before.wrong(Problem::EndMissing { seq, later });
        return;
    }
    let here = index.record(id, seq).and_then(Result::ok);
    if here.is_none_or(|compact| sha256(compact.as_bytes()) != *digest) {
        before.wrong(Problem::OtherEnd { seq, later });
    } else if newest > seq {
        before.wrong(Problem::WentOn { seq, later });
    } else if before.end == End::Open {
        before.notes.push(Note::Crashed(later));
    }
}

/// Whether a boot without a last record may still run. One that a later boot follows does not.
fn end(boot: &mut Boot, heartbeat: u64, at: u64) {
    let followed = boot.notes.iter().any(|note| matches!(note, Note::Crashed(_)));
    let named = boot.problems.iter().any(|problem| matches!(problem, Problem::EndMissing { .. }));
    if boot.end == End::Stopped || named {
        return;
    }
    let (Some((_, time)), Some(seq)) = (boot.times, boot.newest) else { return };
    if followed || at > time.saturating_add(SILENCE.saturating_mul(heartbeat)) {
        boot.wrong(Problem::CutOff { seq });
    }
}
