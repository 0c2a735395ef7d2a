//! Is the evidence authentic? Report, signature, certificates. Nothing here depends on anybody's wishes but
//! the choice of anchors and of the time.

use crate::certificate::Certificate;
use crate::check::{Check, Outcome, Row};
use crate::crypto;
use crate::product::Product;
use crate::report::{Report, SigningKey};
use crate::tcb::Tcb;
use crate::vek::Vek;

/// What these checks look at: everything decoded, nothing believed.
pub(crate) struct Subject {
    pub(crate) report: Report,
    pub(crate) leaf: Certificate,
    pub(crate) vek: Vek,
    pub(crate) ask: Certificate,
    pub(crate) ark: Certificate,
    /// SHA-256 of the ARKs that the verifier believes for this generation.
    pub(crate) pins: Vec<[u8; 32]>,
    /// When to judge certificates, in Unix seconds.
    pub(crate) at: u64,
}

const NOT_GENUINE: &str =
    "Do not trust this machine: the evidence was changed, or no AMD processor made it.";
const OTHER_CERTIFICATE: &str =
    "Ask for the certificate of this chip at its reported TCB: the one at hand belongs to another.";

/// Holds for every subject: other bytes never become one, and are reported under this check.
pub(crate) const LENGTH: Check = Check {
    id: "R1",
    title: "the report has 1184 bytes",
    spec: "SEV-SNP ABI 1.58, ATTESTATION_REPORT",
    remedy: "Hand over the raw report, not its hexadecimal or base64 text.",
};

/// Also the check under which an unreadable leaf is reported.
pub(crate) const GENERATION: Check = Check {
    id: "C9",
    title: "leaf, issuers and report name one generation",
    spec: "VCEK specification 57230, section 3.1",
    remedy: "Hand over the VCEK certificate of this chip and the chain of its generation.",
};

/// Also the check under which unreadable issuers are reported.
pub(crate) const CHAIN: Check = Check {
    id: "C2",
    title: "ARK signed itself and ASK, ASK signed the leaf",
    spec: "VCEK specification 57230, section 2; RFC 8017 (RSASSA-PSS, SHA-384, salt 48)",
    remedy: NOT_GENUINE,
};

pub(crate) const CHECKS: [Row<Subject>; 14] = [
    Row {
        check: Check {
            id: "R2",
            title: "the report's version is known",
            spec: "SEV-SNP ABI 1.58, ATTESTATION_REPORT.VERSION",
            remedy: "Update this verifier: the firmware is newer than it.",
        },
        run: |s| {
            let version = s.report.version();
            Outcome::of((2..=5).contains(&version), "2 to 5", version)
        },
    },
    Row {
        check: Check {
            id: "R3",
            title: "reserved bytes are zero",
            spec: "SEV-SNP ABI 1.58, ATTESTATION_REPORT",
            remedy: "Update this verifier: the firmware states something that it cannot judge.",
        },
        run: reserved,
    },
    Row {
        check: Check {
            id: "R5",
            title: "the processor's generation is known",
            spec: "SEV-SNP ABI 1.58, CPUID_FAM_ID; 57230, productName",
            remedy: "Update this verifier: the processor is newer than it.",
        },
        run: known_generation,
    },
    Row {
        check: Check {
            id: "S1",
            title: "the signature is ECDSA P-384 with SHA-384",
            spec: "SEV-SNP ABI 1.58, SIGNATURE_ALGO",
            remedy: NOT_GENUINE,
        },
        run: |s| {
            let algorithm = s.report.signature_algorithm();
            Outcome::of(algorithm == 1, 1, algorithm)
        },
    },
    Row {
        check: Check {
            id: "S2",
            title: "the leaf's key signed the report's raw bytes",
            spec: "SEV-SNP ABI 1.58, SIGNATURE; FIPS 186-5",
            remedy: NOT_GENUINE,
        },
        run: signature,
    },
    Row {
        check: Check {
            id: "S3",
            title: "the report and the leaf name one kind of key",
            spec: "SEV-SNP ABI 1.58, KEY_INFO.SIGNING_KEY",
            remedy: OTHER_CERTIFICATE,
        },
        run: |s| {
            let (stated, leaf) = (s.report.key_info().signing_key(), s.vek.kind);
            let expected = key_name(leaf);
            Outcome::of(stated == leaf, expected, key_name(stated))
        },
    },
    Row {
        check: Check {
            id: "S4",
            title: "the chip is named, not masked",
            spec: "SEV-SNP ABI 1.58, KEY_INFO.MASK_CHIP_KEY",
            remedy: "Only a machine that names its chip can be held against its certificate.",
        },
        run: chip_named,
    },
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
    Row {
        check: Check {
            id: "C5",
            title: "every certificate is valid at the time of judgement",
            spec: "RFC 5280, 4.1.2.5",
            remedy: "Check the clock; for recorded evidence give the time of recording.",
        },
        run: validity,
    },
    Row {
        check: Check {
            id: "C7",
            title: "the leaf was issued for the reported TCB",
            spec: "VCEK specification 57230, section 3.1; SEV-SNP ABI 1.58, REPORTED_TCB",
            remedy: OTHER_CERTIFICATE,
        },
        run: |s| {
            let reported = Tcb::from_bytes(s.report.reported_tcb(), s.vek.product);
            Outcome::of(s.vek.tcb == reported, s.vek.tcb, reported)
        },
    },
    Row {
        check: Check {
            id: "C8",
            title: "the leaf was issued for this chip",
            spec: "VCEK specification 57230, section 3.1; SEV-SNP ABI 1.58, CHIP_ID",
            remedy: OTHER_CERTIFICATE,
        },
        run: chip,
    },
    Row { check: GENERATION, run: one_generation },
];

fn reserved(s: &Subject) -> Outcome {
    let key_info = s.report.key_info().reserved();
    match (s.report.reserved_violation(), key_info) {
        (None, 0) => Outcome::of(true, "zero", "zero"),
        (Some(at), _) => Outcome::of(false, "zero", format!("byte {at:#x} is not")),
        (None, bits) => Outcome::of(false, "zero", format!("KEY_INFO has {:#x}", bits << 5)),
    }
}

/// A report before version 3 does not state its processor; the leaf's product, which C9 holds against the
/// issuers, is then all there is.
fn known_generation(s: &Subject) -> Outcome {
    let expected = "Milan, Genoa or Turin";
    match s.report.cpuid() {
        None => Outcome::of(true, expected, format!("{} (by the leaf)", s.vek.product)),
        Some((family, model, stepping)) => {
            let product = Product::from_cpuid(family, model);
            let name = product.map_or("unknown", Product::name);
            let actual =
                format!("{name} (family {family:#x} model {model:#x} stepping {stepping})");
            Outcome::of(product.is_some(), expected, actual)
        }
    }
}

fn signature(s: &Subject) -> Outcome {
    let expected = "a signature by the leaf's P-384 key";
    let Some(key) = s.leaf.p384_key() else {
        return Outcome::of(false, expected, "the leaf has no P-384 key");
    };
    let Some(signature) = s.report.signature() else {
        return Outcome::of(false, expected, "r, s or what follows them is not padded with zeros");
    };
    match crypto::verify_p384(key, s.report.signed_bytes(), &signature) {
        Ok(()) => Outcome::of(true, expected, "verified"),
        Err(error) => Outcome::of(false, expected, error),
    }
}

fn key_name(key: SigningKey) -> String {
    match key {
        SigningKey::Vcek => "VCEK".to_owned(),
        SigningKey::Vlek => "VLEK".to_owned(),
        SigningKey::Other(number) => format!("none ({number})"),
    }
}

/// A VLEK is not bound to a chip, and its reports mask the chip; a VCEK's must not.
fn chip_named(s: &Subject) -> Outcome {
    let masked = s.report.key_info().chip_id_masked();
    let zero = s.report.chip_id().iter().all(|byte| *byte == 0);
    match s.vek.kind {
        SigningKey::Vlek => Outcome::unchecked("a VLEK belongs to a cloud provider, not to a chip"),
        SigningKey::Vcek | SigningKey::Other(_) => {
            let actual = if masked {
                "masked"
            } else if zero {
                "zeros"
            } else {
                "named"
            };
            Outcome::of(!masked && !zero, "named", actual)
        }
    }
}

fn chain(s: &Subject) -> Outcome {
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

fn authorities(s: &Subject) -> Outcome {
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

fn validity(s: &Subject) -> Outcome {
    let lives = [("ARK", &s.ark), ("ASK", &s.ask), ("leaf", &s.leaf)];
    let outside: Vec<String> = lives
        .iter()
        .map(|(name, certificate)| (name, certificate.validity()))
        .filter(|(_, (from, to))| !(*from..=*to).contains(&s.at))
        .map(|(name, (from, to))| format!("{name} lives from {from} to {to}"))
        .collect();
    let actual = if outside.is_empty() { "all valid".to_owned() } else { outside.join(", ") };
    Outcome::of(outside.is_empty(), format!("valid at {}", s.at), actual)
}

fn chip(s: &Subject) -> Outcome {
    let Some(id) = &s.vek.hardware_id else {
        return Outcome::unchecked("a VLEK belongs to a cloud provider, not to a chip");
    };
    // Turin's 8 bytes are followed by zeros.
    let chip = s.report.chip_id();
    let (own, rest) = chip.split_at(s.vek.product.chip_id_len());
    let same = own == id.as_slice() && rest.iter().all(|byte| *byte == 0);
    Outcome::of(same, hex::encode(id), hex::encode(chip))
}

fn one_generation(s: &Subject) -> Outcome {
    let product = s.vek.product;
    let stated = match s.report.cpuid() {
        None => Some(product),
        Some((family, model, _)) => Product::from_cpuid(family, model),
    };
    let issuer = s.leaf.issuer_cn().unwrap_or_default();
    let named = issuer.strip_prefix("SEV-VLEK-").or_else(|| issuer.strip_prefix("SEV-"));
    let holds = stated == Some(product) && named == Some(product.name());
    let actual = format!(
        "{product} by the leaf, {issuer} by its issuer, {} by the report",
        stated.map_or("another", Product::name)
    );
    Outcome::of(holds, format!("{product} everywhere"), actual)
}
