//! Every door through which bytes of strangers come in, with inputs that get past it. The property tests here, the
//! measurement of allocations and the fuzzer all walk this one list; a new parser is one row.

#[path = "../guest/case.rs"]
#[expect(dead_code, clippy::indexing_slicing, clippy::unwrap_used, reason = "for tests of guests")]
mod case;
#[path = "documents.rs"]
mod documents;
#[path = "endorsements.rs"]
mod endorsements;
#[path = "guests.rs"]
mod guests;
#[path = "../guest/pki.rs"]
#[expect(clippy::unwrap_used, reason = "for tests of guests")]
mod pki;
#[path = "secrets.rs"]
mod secrets;
#[path = "tokens.rs"]
mod tokens;
#[path = "vtpm.rs"]
mod vtpm;

use std::sync::OnceLock;

use attestation::certificate::Certificate;
use attestation::{Anchors, Endorser, Evidence, danger};
use case::Case;
use pki::Signer;

/// One parser.
pub(crate) struct Entry {
    /// Its name, as the fuzzer's command line takes it.
    pub(crate) name: &'static str,
    /// Reads bytes and looks at everything that came of them.
    pub(crate) read: fn(&[u8]),
    /// Inputs that it accepts, or nearly.
    pub(crate) seeds: fn() -> Vec<Vec<u8>>,
}

/// All of them.
pub(crate) fn entries() -> impl Iterator<Item = &'static Entry> {
    [
        documents::ENTRIES,
        endorsements::ENTRIES,
        guests::ENTRIES,
        secrets::ENTRIES,
        tokens::ENTRIES,
        vtpm::ENTRIES,
    ]
    .into_iter()
    .flatten()
}

/// A guest that is authentic, with its machine, and somebody who believes it.
struct World {
    case: Case,
    evidence: Evidence,
    ark: Certificate,
    anchors: Anchors,
    endorser: Endorser,
}

fn world() -> &'static World {
    static WORLD: OnceLock<World> = OnceLock::new();
    WORLD.get_or_init(|| {
        let mut case = Case::milan();
        case.crl = Some(case.list());
        let uvm = endorsements::endorsements().pop();
        let evidence = Evidence { uvm, ..case.evidence() };
        let ark = case.ark.issue_rsa(Signer::Ark);
        let roots = pki::pem(&ark) + &pki::pem(&endorsements::root());
        let anchors = danger::Anchors::from_pem(&roots)
            .and_then(|anchors| danger::Anchors::with_vtpm_roots(anchors, &roots))
            .expect("two roots");
        let endorser = Endorser::of(&evidence, &anchors).expect("certificates");
        let ark = Certificate::from_der(&ark).expect("as issued");
        World { case, evidence, ark, anchors, endorser }
    })
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap_or_default()
}

/// Cuts an input that stands for several: two bytes of length, big-endian, before each part.
fn parts<const N: usize>(mut bytes: &[u8]) -> Option<[&[u8]; N]> {
    let mut parts = [&[][..]; N];
    for part in &mut parts {
        let (length, rest) = bytes.split_first_chunk()?;
        (*part, bytes) = rest.split_at_checked(u16::from_be_bytes(*length).into())?;
    }
    Some(parts)
}

fn joined<const N: usize>(parts: [&[u8]; N]) -> Vec<u8> {
    let length = |part: &[u8]| u16::try_from(part.len()).unwrap_or_default().to_be_bytes();
    parts.iter().flat_map(|part| [&length(part)[..], part].concat()).collect()
}
