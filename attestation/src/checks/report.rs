//! Is the report whole, of a form that we know, and signed by its leaf's key?

use crate::check::{Check, Outcome, Row};
use crate::crypto;
use crate::endorser::Endorser;
use crate::product::Product;
use crate::report::{Report, SigningKey};
use crate::tcb::Tcb;

/// What these checks look at: everything decoded, nothing believed.
pub(crate) struct Subject {
    pub(crate) report: Report,
    /// Who is said to have signed it.
    pub(crate) endorser: Endorser,
    /// When to judge certificates, in Unix seconds.
    pub(crate) at: u64,
}

const NOT_GENUINE: &str =
    "Do not trust this machine: the report was changed, or no AMD processor made it.";

/// Holds for every subject: other bytes never become one, and are reported under this check.
pub(crate) const LENGTH: Check = Check {
    id: "R1",
    title: "the report has 1184 bytes",
    spec: "SEV-SNP ABI 1.58, ATTESTATION_REPORT",
    remedy: "Hand over the raw report, not its hexadecimal or base64 text.",
};

pub(crate) const CHECKS: [Row<Subject>; 8] = [
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
            id: "R6",
            title: "TCBs and chip id are in their generation's layout",
            spec: "SEV-SNP ABI 1.58, TCB_VERSION and CHIP_ID; 57230, section 3.1",
            remedy: "Update this verifier: the firmware states something that it cannot judge.",
        },
        run: layout,
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
            remedy: "Ask for the certificate of the key that KEY_INFO names.",
        },
        run: |s| {
            let (stated, leaf) = (s.report.key_info().signing_key(), s.endorser.vek().kind);
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
        None => Outcome::of(true, expected, format!("{} (by the leaf)", s.endorser.vek().product)),
        Some((family, model, stepping)) => {
            let product = Product::from_cpuid(family, model);
            let name = product.map_or("unknown", Product::name);
            let actual =
                format!("{name} (family {family:#x} model {model:#x} stepping {stepping})");
            Outcome::of(product.is_some(), expected, actual)
        }
    }
}

/// What a layout reserves may get a meaning in firmware that is newer than this verifier.
fn layout(s: &Subject) -> Outcome {
    let product = s.endorser.vek().product;
    let tcbs = s.report.raw_tcbs().into_iter();
    let mut strays: Vec<&str> = tcbs
        .filter(|(_, raw)| !Tcb::reserved_is_zero(*raw, product))
        .map(|(name, _)| name)
        .collect();
    // Turin's 8 bytes are followed by zeros.
    if s.report.chip_id().iter().skip(product.chip_id_len()).any(|byte| *byte != 0) {
        strays.push("CHIP_ID");
    }
    let actual = if strays.is_empty() { "zero".to_owned() } else { strays.join(", ") };
    Outcome::of(strays.is_empty(), format!("what {product} reserves is zero"), actual)
}

fn signature(s: &Subject) -> Outcome {
    let expected = "a signature by the leaf's P-384 key";
    let Some(key) = s.endorser.leaf().p384_key() else {
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
    match s.endorser.vek().kind {
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
