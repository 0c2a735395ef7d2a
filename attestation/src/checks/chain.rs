//! Do the certificates lead to a root that the verifier believes? Nothing here depends on time, so that a chain
//! is judged once for all the reports below it.

use crate::certificate::Certificate;
use crate::check::{Check, Outcome, Row};
use crate::report::SigningKey;
use crate::vek::Vek;

/// What these checks look at: everything decoded, nothing believed.
pub(crate) struct Chain {
    pub(crate) leaf: Certificate,
    pub(crate) vek: Vek,
    pub(crate) ask: Certificate,
    pub(crate) ark: Certificate,
    /// SHA-256 of the ARKs that the verifier believes for this generation.
    pub(crate) pins: Vec<[u8; 32]>,
}

const NOT_GENUINE: &str = "Do not trust this machine: AMD did not certify the key of its report.";

/// Also the check under which unreadable issuers are reported.
pub(crate) const CHAIN: Check = Check {
    id: "C2",
    title: "ARK signed itself and ASK, ASK signed the leaf",
    spec: "VCEK specification 57230, section 2; RFC 8017 (RSASSA-PSS, SHA-384, salt 48)",
    remedy: NOT_GENUINE,
};

pub(crate) const CHECKS: [Row<Chain>; 3] = [
    Row {
        check: Check {
            id: "C1",
            title: "the root is one that this verifier believes",
            spec: "AMD's published ARK certificates",
            remedy: "With a simulation, name its anchors explicitly; otherwise do not trust it.",
        },
        run: |s| {
            let expected: Vec<String> = s.pins.iter().map(hex::encode).collect();
            let actual = s.ark.fingerprint();
            Outcome::of(s.pins.contains(&actual), expected.join(" or "), hex::encode(actual))
        },
    },
    Row { check: CHAIN, run: chain },
    Row {
        check: Check {
            id: "C4",
            title: "ARK and ASK are authorities with AMD's names",
            spec: "VCEK specification 57230, section 2; RFC 5280, 4.2.1.3 and 4.2.1.9",
            remedy: NOT_GENUINE,
        },
        run: authorities,
    },
];

fn chain(s: &Chain) -> Outcome {
    let links = [(&s.ark, &s.ark, "ARK"), (&s.ask, &s.ark, "ASK"), (&s.leaf, &s.ask, "leaf")];
    let broken: Vec<&str> = links
        .iter()
        .filter(|(subject, issuer, _)| {
            !subject.names_as_issuer(issuer) || subject.verify_pss_sha384(issuer).is_err()
        })
        .map(|(_, _, name)| *name)
        .collect();
    let actual = if broken.is_empty() {
        "verified".to_owned()
    } else {
        format!("not signed by its issuer: {}", broken.join(", "))
    };
    Outcome::of(broken.is_empty(), "every link verifies", actual)
}

fn authorities(s: &Chain) -> Outcome {
    let product = s.vek.product;
    let ask = match s.vek.kind {
        SigningKey::Vlek => format!("SEV-VLEK-{product}"),
        SigningKey::Vcek | SigningKey::Other(_) => format!("SEV-{product}"),
    };
    let expected = format!("ARK-{product} and {ask}, both certification authorities");
    let name = |certificate: &Certificate| {
        let name = certificate.subject_cn().unwrap_or_else(|| "no name".to_owned());
        if certificate.is_authority() { name } else { format!("{name} (no authority)") }
    };
    let actual = format!("{} and {}, both certification authorities", name(&s.ark), name(&s.ask));
    Outcome::of(actual == expected, &expected, &actual)
}
