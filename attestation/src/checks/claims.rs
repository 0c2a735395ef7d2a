//! What a token claims of an SEV-SNP guest, in either shape. Strict types: "false" is not false, and 0.0 is
//! not 0.
//!
//! The parts of J8 are named after the checks of a report that ask the same of it: J8.P1 is P1 by another
//! party's word, so that whoever knows one of them knows the other.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::{equal, expect, one_of_texts, text};
use crate::binding;
use crate::check::{Check, Outcome, Row};
use crate::json;
use crate::maa::{AciExpectations, CvmExpectations, GuestExpectations};
use crate::policy::{Expect, Hex};

/// Where a confidential VM's token keeps the claims of its guest.
const ISOLATION: &str = "x-ms-isolation-tee";

/// One of the two forms that the claims come in.
struct Shape {
    /// `x-ms-attestation-type` of the token.
    kind: &'static str,
    /// Whether the guest's claims are nested in [`ISOLATION`].
    nested: bool,
    /// `x-ms-compliance-status` of the guest.
    status: &'static str,
}

const ACI: Shape = Shape { kind: "sevsnpvm", nested: false, status: "azure-compliant-uvm" };
const CVM: Shape = Shape { kind: "azurevm", nested: true, status: "azure-compliant-cvm" };

/// The claims of an authentic token, in the shape that the caller chose.
pub(crate) struct Subject {
    shape: Shape,
    pub(crate) token: Value,
    expected: GuestExpectations,
    /// The nonce that was sent, as this shape writes it; the one that is there.
    nonce: (Expect<String>, Option<String>),
}

impl Subject {
    pub(crate) fn aci(token: Value, expected: &AciExpectations) -> Self {
        let found = text(&token, "nonce").map(str::to_owned);
        Self {
            shape: ACI,
            token,
            expected: expected.guest.clone(),
            nonce: (expected.nonce.clone(), found),
        }
    }

    pub(crate) fn cvm(token: Value, expected: &CvmExpectations) -> Self {
        let found = token.pointer("/x-ms-runtime/client-payload/nonce").and_then(Value::as_str);
        let sent = match &expected.nonce {
            Expect::Value(sent) => Expect::Value(STANDARD.encode(sent)),
            Expect::Unchecked { why } => Expect::unchecked(why),
        };
        Self {
            shape: CVM,
            nonce: (sent, found.map(str::to_owned)),
            token,
            expected: expected.guest.clone(),
        }
    }

    /// Where the guest's claims stand; null if they do not stand there.
    pub(super) fn guest(&self) -> &Value {
        if self.shape.nested {
            self.token.get(ISOLATION).unwrap_or(&Value::Null)
        } else {
            &self.token
        }
    }

    /// A claim that the service took from the report.
    pub(super) fn snp(&self, name: &str) -> Option<&Value> {
        self.guest().get(format!("x-ms-sevsnpvm-{name}"))
    }

    fn snp_text(&self, name: &str) -> Option<&str> {
        self.snp(name).and_then(Value::as_str)
    }
}

pub(super) const OTHER_GUEST: &str =
    "The token speaks of another guest than the one that is meant.";
pub(super) const SPEC: &str = "Azure Attestation, claims of SEV-SNP; attestation.md part 3";
const INSECURE_GUEST: &str =
    "Do not use this guest: its host can reach into it. Redeploy it without that.";
const OTHER_USE: &str = "The token was made for another key, connection or nonce.";

macro_rules! check {
    ($id:literal, $title:literal, $spec:expr, $remedy:expr) => {
        Check { id: $id, title: $title, spec: $spec, remedy: $remedy }
    };
}

pub(crate) const CHECKS: [Row<Subject>; 12] = [
    Row {
        check: check!("J6", "the token has the shape that was asked for", SPEC, OTHER_GUEST),
        run: shape,
    },
    Row {
        check: check!("J7", "the guest is of a kind that Azure stands for", SPEC, OTHER_GUEST),
        run: |s| equal(s.shape.status, text(s.guest(), "x-ms-compliance-status")),
    },
    Row {
        check: check!("J8.P1", "the host cannot debug the guest, it says", SPEC, INSECURE_GUEST),
        run: |s| off(s, "is-debuggable"),
    },
    Row {
        check: check!("J8.P2", "the guest cannot be migrated, it says", SPEC, INSECURE_GUEST),
        run: |s| off(s, "migration-allowed"),
    },
    Row {
        check: check!("J8.P5", "the report comes from VMPL 0, it says", SPEC, OTHER_GUEST),
        run: |s| {
            let vmpl = s.snp("vmpl");
            Outcome::of(vmpl.and_then(Value::as_u64) == Some(0), 0, shown(vmpl))
        },
    },
    Row {
        check: check!("J8.P8", "the launch measurement it names is allowed", SPEC, OTHER_GUEST),
        run: |s| digest(&s.expected.measurement, s.snp_text("launchmeasurement")),
    },
    Row {
        check: check!("J8.P9", "the HOST_DATA it names is allowed", SPEC, OTHER_GUEST),
        run: |s| digest(&s.expected.host_data, s.snp_text("hostdata")),
    },
    Row {
        check: check!(
            "J8.T2",
            "the TCB it names is recent enough",
            SPEC,
            "The host must update its firmware, or the expectation accept the older one."
        ),
        run: minimum_tcb,
    },
    Row {
        check: check!(
            "J9",
            "the report is about this runtime data",
            "wire.md part 1, MAA shape",
            OTHER_USE
        ),
        run: |s| {
            expect(&s.expected.runtime_data, |data| {
                equal(&hex::encode(binding::maa(data)), s.snp_text("reportdata"))
            })
        },
    },
    Row {
        check: check!(
            "J10",
            "it carries the nonce that was sent",
            SPEC,
            "The token is an old one: ask for a new one with a new nonce."
        ),
        run: nonce,
    },
    Row {
        check: check!(
            "J11",
            "the issuer applied an allowed policy",
            SPEC,
            "The owner of this attestation instance changed its policy: review it."
        ),
        run: |s| {
            let hash = text(&s.token, "x-ms-policy-hash");
            expect(&s.expected.policy_hashes, |allowed| one_of_texts(allowed, hash))
        },
    },
    Row {
        check: check!("J12", "it repeats this runtime data and its keys", SPEC, OTHER_USE),
        run: repeated,
    },
];

fn shape(s: &Subject) -> Outcome {
    let describe = |version, kind, guest, nested| {
        let place = if nested { "nested" } else { "not nested" };
        format!("version {version}, {kind}, {guest} {place}")
    };
    let claim = |claims, name| text(claims, name).unwrap_or("absent");
    let expected = describe("1.0", s.shape.kind, "sevsnpvm", s.shape.nested);
    let actual = describe(
        claim(&s.token, "x-ms-ver"),
        claim(&s.token, "x-ms-attestation-type"),
        claim(s.guest(), "x-ms-attestation-type"),
        s.token.get(ISOLATION).is_some(),
    );
    Outcome::of(expected == actual, expected, actual)
}

fn off(s: &Subject, name: &str) -> Outcome {
    let claim = s.snp(name);
    Outcome::of(claim == Some(&Value::Bool(false)), false, shown(claim))
}

fn shown(claim: Option<&Value>) -> String {
    claim.map_or("absent".to_owned(), Value::to_string)
}

/// Lower-case hexadecimal digits, as the service writes them.
fn digest<const N: usize>(expected: &Expect<Vec<Hex<N>>>, actual: Option<&str>) -> Outcome {
    expect(expected, |allowed| {
        let allowed: Vec<String> = allowed.iter().map(|digest| hex::encode(digest.0)).collect();
        one_of_texts(&allowed, actual)
    })
}

/// The service has no claim for FMC: a minimum of it is met by no token.
fn minimum_tcb(s: &Subject) -> Outcome {
    expect(&s.expected.minimum_tcb, |minimum| {
        let components = [
            ("fmc-svn", minimum.fmc),
            ("bootloader-svn", minimum.bootloader),
            ("tee-svn", minimum.tee),
            ("snpfw-svn", minimum.snp),
            ("microcode-svn", minimum.microcode),
        ];
        let mut holds = true;
        let (mut expected, mut actual) = (Vec::new(), Vec::new());
        for (name, least) in
            components.into_iter().filter(|(name, least)| *name != "fmc-svn" || *least > 0)
        {
            let claim = s.snp(name);
            holds &= claim.and_then(Value::as_u64).is_some_and(|svn| svn >= least.into());
            expected.push(format!("{name} {least}"));
            actual.push(format!("{name} {}", shown(claim)));
        }
        Outcome::of(holds, format!("at least {}", expected.join(", ")), actual.join(", "))
    })
}

/// An empty nonce proves nothing, even if it was sent.
fn nonce(s: &Subject) -> Outcome {
    let (sent, found) = &s.nonce;
    expect(sent, |sent| {
        if sent.is_empty() {
            return Outcome::of(false, "a nonce", "an empty one was sent");
        }
        equal(sent, found.as_deref())
    })
}

/// J9 holds the bytes against the report; a reader of the token sees only what is repeated here.
fn repeated(s: &Subject) -> Outcome {
    expect(&s.expected.runtime_data, |data| {
        let there = s.guest().get("x-ms-runtime");
        let same = json::parse(data).is_ok_and(|data| there == Some(&data));
        let actual = if there.is_some() { "x-ms-runtime differs" } else { "absent" };
        Outcome::of(same, "the same", if same { "the same" } else { actual })
    })
}
