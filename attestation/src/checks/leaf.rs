//! Does the leaf belong to this report, and is its chain in force at the time of judgement?

use super::report::Subject;
use crate::check::{Check, Outcome, Row};
use crate::product::Product;
use crate::tcb::Tcb;

const OTHER_CERTIFICATE: &str =
    "Ask for the certificate of this chip at its reported TCB: the one at hand belongs to another.";

/// Also the check under which an unreadable leaf is reported.
pub(crate) const GENERATION: Check = Check {
    id: "C9",
    title: "leaf, issuers and report name one generation",
    spec: "VCEK specification 57230, section 3.1",
    remedy: "Hand over the VCEK certificate of this chip and the chain of its generation.",
};

pub(crate) const CHECKS: [Row<Subject>; 4] = [
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
            let reported = Tcb::from_bytes(s.report.reported_tcb(), s.endorser.vek().product);
            Outcome::of(s.endorser.vek().tcb == reported, s.endorser.vek().tcb, reported)
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

fn validity(s: &Subject) -> Outcome {
    let chain = s.endorser.chain();
    let lives = [("ARK", &chain.ark), ("ASK", &chain.ask), ("leaf", &chain.leaf)];
    let outside: Vec<String> = lives
        .iter()
        .map(|(name, certificate)| (name, certificate.validity()))
        .filter(|(_, (from, to))| !(*from..=*to).contains(&s.at))
        .map(|(name, (from, to))| format!("{name} lives from {from} to {to}"))
        .collect();
    let actual = if outside.is_empty() { "all valid".to_owned() } else { outside.join(", ") };
    Outcome::of(outside.is_empty(), format!("valid at {}", s.at), actual)
}

/// Only the bytes that the generation uses: the rest is for R6.
fn chip(s: &Subject) -> Outcome {
    let vek = s.endorser.vek();
    let Some(id) = &vek.hardware_id else {
        return Outcome::unchecked("a VLEK belongs to a cloud provider, not to a chip");
    };
    let chip = s.report.chip_id();
    let own = chip.get(..vek.product.chip_id_len()).unwrap_or_default();
    Outcome::of(own == id.as_slice(), hex::encode(id), hex::encode(own))
}

/// A processor that nobody knows contradicts no name: it fails R5.
fn one_generation(s: &Subject) -> Outcome {
    let product = s.endorser.vek().product;
    let stated = s.report.cpuid().and_then(|(family, model, _)| Product::from_cpuid(family, model));
    let issuer = s.endorser.leaf().issuer_cn().unwrap_or_default();
    let named = issuer.strip_prefix("SEV-VLEK-").or_else(|| issuer.strip_prefix("SEV-"));
    let holds = stated.is_none_or(|stated| stated == product) && named == Some(product.name());
    let actual = format!(
        "{product} by the leaf, {issuer} by its issuer, {} by the report",
        stated.map_or("none", Product::name)
    );
    Outcome::of(holds, format!("{product} everywhere"), actual)
}
