//! Evidence of a confidential VM beyond its guest's report: is the quote that of the vTPM which the report
//! binds, and does it say what is expected?

use std::collections::{BTreeMap, BTreeSet};

use super::{expect, one_of};
use crate::check::{Check, Outcome, Row};
use crate::crypto::{sha256, verify_rs256};
use crate::hcl::HclReport;
use crate::policy::Hex;
use crate::rsa_key::RsaKey;
use crate::tpm::{Quote, SHA256, Selection, rsassa_sha256};
use crate::vtpm::{AkCertificate, Certified, VtpmExpectations};

/// Registers of a bank.
const REGISTERS: usize = 24;

/// What is readable, and not yet authentic.
pub(crate) struct Authentic {
    pub(crate) hcl: HclReport,
    /// The attestation key that the runtime data names.
    pub(crate) key: Option<RsaKey>,
    pub(crate) quote: Quote,
    /// The quote's bytes, as they were signed.
    pub(crate) signed: Vec<u8>,
    pub(crate) signature: Vec<u8>,
    pub(crate) pcrs: Vec<[u8; 32]>,
}

/// What is authentic, and not yet acceptable.
pub(crate) struct Acceptable {
    pub(crate) quote: Quote,
    pub(crate) pcrs: BTreeMap<u8, Hex<32>>,
    pub(crate) key: Option<RsaKey>,
    pub(crate) certificate: Option<Certified>,
    pub(crate) expected: VtpmExpectations,
}

const SPEC: &str = "Azure confidential VMs; attestation.md part 5";
const ATTEST: &str = "TPM 2.0 part 2, TPMS_ATTEST and TPMS_QUOTE_INFO";
const FORGED: &str = "Do not trust this VM: its parts do not belong together.";
const OTHER_AK: &str = "Read the certificate at NV index 0x01C101D0 and its issuers again; \
                        if that does not help, do not trust this VM.";

/// The paravisor's report can be read.
pub(crate) const HCL: Check = Check {
    id: "V0",
    title: "the paravisor's report is whole and of an SNP guest",
    spec: SPEC,
    remedy: "Read NV index 0x01400001 again; of another technology, this verifier knows nothing.",
};

/// The quote can be read.
pub(crate) const QUOTE: Check = Check {
    id: "V2",
    title: "a TPM made the quote, and it is nothing else",
    spec: ATTEST,
    remedy: FORGED,
};

pub(crate) const AUTHENTICITY: [Row<Authentic>; 3] = [
    Row {
        check: Check {
            id: "V1",
            title: "the report is about the paravisor's runtime data",
            spec: SPEC,
            remedy: FORGED,
        },
        run: |s| {
            let (expected, actual) = (s.hcl.binding(), s.hcl.report().report_data());
            Outcome::of(expected == actual, hex::encode(expected), hex::encode(actual))
        },
    },
    Row {
        check: Check {
            id: "V3",
            title: "the attestation key of the runtime data signed the quote",
            spec: "TPM 2.0 part 2, TPMT_SIGNATURE; RFC 8017, 8.2",
            remedy: FORGED,
        },
        run: signature,
    },
    Row {
        check: Check {
            id: "V6",
            title: "the values at hand are those of the quoted registers",
            spec: ATTEST,
            remedy: "Read the registers and the quote again, without a change between them.",
        },
        run: |s| match s.digest() {
            Some(digest) => {
                let quoted = &s.quote.pcr_digest;
                Outcome::of(digest.as_slice() == quoted, hex::encode(quoted), hex::encode(digest))
            }
            None => Outcome::of(false, "values of registers of the SHA-256 bank alone", "others"),
        },
    },
];

pub(crate) const ACCEPTANCE: [Row<Acceptable>; 5] = [
    Row {
        check: Check {
            id: "V4",
            title: "the quote carries the nonce that was sent",
            spec: "TPM 2.0 part 2, TPMS_ATTEST.extraData",
            remedy: "The quote is an old one: ask for a new one with a new nonce.",
        },
        run: |s| {
            expect(&s.expected.nonce, |sent| {
                let found = &s.quote.extra_data;
                let same = !sent.is_empty() && sent == found;
                let expected = if sent.is_empty() { "a nonce".into() } else { hex::encode(sent) };
                Outcome::of(same, expected, hex::encode(found))
            })
        },
    },
    Row {
        check: Check {
            id: "V5",
            title: "the quote covers the expected registers",
            spec: ATTEST,
            remedy: "Ask for a quote of the registers that the expectation names.",
        },
        run: |s| {
            expect(&s.expected.registers, |wanted| {
                let quoted: BTreeSet<u8> = s.pcrs.keys().copied().collect();
                let same = !wanted.is_empty() && *wanted == quoted;
                Outcome::of(same, format!("{wanted:?}"), format!("{quoted:?}"))
            })
        },
    },
    Row {
        check: Check {
            id: "V7",
            title: "the attestation key's certificate leads to a believed root",
            spec: "RFC 5280, 6.1; Azure Virtual TPM Root Certificate Authority",
            remedy: OTHER_AK,
        },
        run: |s| {
            expect(&s.expected.ak_certificate, |AkCertificate::Believed| {
                let expected = "a path to a believed root";
                match s.certificate.as_ref().map(|found| &found.path) {
                    Some(Ok(())) => Outcome::of(true, expected, "one"),
                    Some(Err(error)) => Outcome::of(false, expected, error),
                    None => Outcome::of(false, expected, "the evidence brings no certificate"),
                }
            })
        },
    },
    Row {
        check: Check {
            id: "V8",
            title: "the certificate is of the same attestation key",
            spec: SPEC,
            remedy: OTHER_AK,
        },
        run: |s| {
            expect(&s.expected.ak_certificate, |AkCertificate::Believed| match &s.certificate {
                None => Outcome::unchecked("not reached, because V7 failed"),
                Some(found) => {
                    let same = found.key.is_some() && found.key == s.key;
                    Outcome::of(same, "HCLAkPub", if same { "HCLAkPub" } else { "another key" })
                }
            })
        },
    },
    Row {
        check: Check {
            id: "V9",
            title: "the registers have allowed values",
            spec: "the expectation's values",
            remedy: "The VM booted other software than the expectation's: review it.",
        },
        run: |s| expect(&s.expected.values, |allowed| values(allowed, &s.pcrs)),
    },
];

impl Authentic {
    /// The registers that are quoted, with the values at hand. `None` if the quote is not of registers of the
    /// SHA-256 bank alone, or a value is missing.
    pub(crate) fn quoted(&self) -> Option<BTreeMap<u8, Hex<32>>> {
        let [Selection { bank: SHA256, registers }] = self.quote.selections.as_slice() else {
            return None;
        };
        if registers.is_empty() || self.pcrs.len() > REGISTERS {
            return None;
        }
        let value = |register: &u8| {
            self.pcrs.get(usize::from(*register)).map(|value| (*register, Hex(*value)))
        };
        registers.iter().map(value).collect()
    }

    /// Digest of their values in ascending order, as the TPM makes it.
    fn digest(&self) -> Option<[u8; 32]> {
        let values: Vec<u8> = self.quoted()?.into_values().flat_map(|value| value.0).collect();
        Some(sha256(&values))
    }
}

fn signature(s: &Authentic) -> Outcome {
    let expected = "an RSASSA signature with SHA-256 by HCLAkPub";
    let Some(key) = &s.key else {
        return Outcome::of(false, expected, "the runtime data names no attestation key");
    };
    let Some(signature) = rsassa_sha256(&s.signature) else {
        return Outcome::of(false, expected, "a signature of another form");
    };
    match verify_rs256(key.pkcs1(), &s.signed, signature) {
        Ok(()) => Outcome::of(true, expected, "verified"),
        Err(error) => Outcome::of(false, expected, error),
    }
}

/// The first register that is not as it may be decides.
fn values(allowed: &BTreeMap<u8, Vec<Hex<32>>>, quoted: &BTreeMap<u8, Hex<32>>) -> Outcome {
    if allowed.is_empty() {
        return Outcome::of(false, "values of some register", "an empty table: nothing is allowed");
    }
    for (register, values) in allowed {
        let Some(value) = quoted.get(register) else {
            return Outcome::of(false, format!("a value of register {register}"), "not quoted");
        };
        if let Outcome::Failed { expected, actual } = one_of(values, *value) {
            let expected = format!("register {register}: {expected}");
            return Outcome::of(false, expected, actual);
        }
    }
    let registers: Vec<&u8> = allowed.keys().collect();
    Outcome::of(true, format!("allowed values of {registers:?}"), "they have them")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{hcl, tpm};

    fn subject(bitmap: [u8; 3], digest: [u8; 32], pcrs: usize) -> Authentic {
        let signed = tpm::tests::quote(b"nonce", bitmap, &digest);
        Authentic {
            hcl: HclReport::parse(&hcl::tests::hcl(&[0; 1184], 1, b"{}")).ok().unwrap(),
            key: None,
            quote: Quote::parse(&signed).unwrap(),
            signed,
            signature: Vec::new(),
            pcrs: (0..).map(|n| [n; 32]).take(pcrs).collect(),
        }
    }

    fn v6_holds(subject: &Authentic) -> bool {
        matches!((AUTHENTICITY[2].run)(subject), Outcome::Passed { .. })
    }

    #[test]
    fn only_quoted_registers_are_proven() {
        let digest = sha256(&[[0; 32], [9; 32]].concat());
        let subject = subject([1, 2, 0], digest, 24);
        assert!(v6_holds(&subject));
        let proven = BTreeMap::from([(0, Hex([0; 32])), (9, Hex([9; 32]))]);
        assert_eq!(subject.quoted(), Some(proven));
    }

    #[test]
    fn a_quote_of_no_registers_of_other_banks_or_of_missing_values_proves_nothing() {
        let digest = sha256(&[[0; 32], [9; 32]].concat());
        assert!(!v6_holds(&subject([0; 3], sha256(&[]), 24)), "no registers");
        assert!(!v6_holds(&subject([1, 2, 0], digest, 9)), "no value of register 9");
        assert!(!v6_holds(&subject([1, 2, 0], digest, 25)), "more values than registers");
        assert!(!v6_holds(&subject([2, 2, 0], digest, 24)), "other registers");

        let mut sha1 = subject([1, 2, 0], digest, 24);
        sha1.quote.selections[0].bank = 4;
        assert!(!v6_holds(&sha1), "another bank");
        let mut twice = subject([1, 2, 0], digest, 24);
        twice.quote.selections.push(Selection { bank: 4, registers: vec![] });
        assert!(!v6_holds(&twice), "two banks");
    }
}
