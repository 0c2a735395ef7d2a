//! Checks of tokens of Microsoft Azure Attestation: the token itself, then the claims of a confidential
//! container group.

use serde_json::Value;

use crate::binding;
use crate::check::{Check, Outcome, Row};
use crate::crypto::sha256;
use crate::jws::{Algorithm, Jws};
use crate::maa::{AciExpectations, Issuer, MAX_AGE, MAX_TOKEN, SKEW};
use crate::policy::Expect;

/// A token, taken apart, and who should have signed it.
pub(crate) struct Subject {
    pub(crate) token: String,
    pub(crate) claims: Value,
    pub(crate) issuer: Issuer,
    pub(crate) at: u64,
}

/// The claims of an authentic token.
pub(crate) struct AciSubject {
    pub(crate) claims: Value,
    pub(crate) expectations: AciExpectations,
}

const FORGED: &str =
    "Do not accept this token: the chosen issuer did not make it, or not for this.";
const OTHER_GUEST: &str = "The token speaks of another guest than the one that is meant.";
const SPEC: &str = "Azure Attestation, claims of SEV-SNP; attestation.md part 3";

pub(crate) const CHECKS: [Row<Subject>; 5] = [
    Row {
        check: Check {
            id: "J1",
            title: "the token names the chosen issuer",
            spec: "RFC 7519, 4.1.1",
            remedy: FORGED,
        },
        run: |s| {
            let issuer = text(&s.claims, "iss");
            Outcome::of(issuer == s.issuer.url, &s.issuer.url, issuer)
        },
    },
    Row {
        check: Check {
            id: "J2",
            title: "its key is one of the issuer's",
            spec: "RFC 7515, 4.1.2 and 4.1.4",
            remedy: "Fetch the issuer's keys again; if it stays unknown, do not accept the token.",
        },
        run: known_key,
    },
    Row {
        check: Check {
            id: "J3",
            title: "its header is the plain one of an RS256 token",
            spec: "RFC 7515, 4.1; RFC 8725, 3.1",
            remedy: FORGED,
        },
        run: header,
    },
    Row {
        check: Check {
            id: "J4",
            title: "the issuer's key of at least 2048 bits signed it",
            spec: "RFC 7518, 3.3",
            remedy: FORGED,
        },
        run: signature,
    },
    Row {
        check: Check {
            id: "J5",
            title: "it is valid now and not old",
            spec: "RFC 7519, 4.1.4 to 4.1.6",
            remedy: "Ask for a new token; check the clock.",
        },
        run: times,
    },
];

pub(crate) const ACI_CHECKS: [Row<AciSubject>; 6] = [
    Row {
        check: Check {
            id: "J6",
            title: "it is about an SEV-SNP container group",
            spec: SPEC,
            remedy: OTHER_GUEST,
        },
        run: |s| {
            let version = text(&s.claims, "x-ms-ver");
            let kind = text(&s.claims, "x-ms-attestation-type");
            let holds = version == "1.0" && kind == "sevsnpvm";
            Outcome::of(holds, "sevsnpvm, version 1.0", format!("{kind}, version {version}"))
        },
    },
    Row {
        check: Check {
            id: "J7",
            title: "its utility VM is one that Azure endorses",
            spec: SPEC,
            remedy: OTHER_GUEST,
        },
        run: |s| {
            let status = text(&s.claims, "x-ms-compliance-status");
            Outcome::of(status == "azure-compliant-uvm", "azure-compliant-uvm", status)
        },
    },
    Row {
        check: Check {
            id: "J8",
            title: "the guest is closed, and its policy allowed",
            spec: SPEC,
            remedy: OTHER_GUEST,
        },
        run: guest,
    },
    Row {
        check: Check {
            id: "J9",
            title: "it is about this runtime data",
            spec: "wire.md part 1, MAA shape",
            remedy: "The token was made for another key, connection or nonce.",
        },
        run: runtime_data,
    },
    Row {
        check: Check {
            id: "J10",
            title: "it carries the nonce that was sent",
            spec: SPEC,
            remedy: "The token is an old one: ask for a new one with a new nonce.",
        },
        run: |s| {
            let nonce = text(&s.claims, "nonce");
            expect(&s.expectations.nonce, |sent| Outcome::of(sent == nonce, sent, nonce))
        },
    },
    Row {
        check: Check {
            id: "J11",
            title: "the issuer applied an allowed policy",
            spec: SPEC,
            remedy: "The owner of this attestation instance changed its policy: review it.",
        },
        run: |s| {
            let hash = text(&s.claims, "x-ms-policy-hash");
            expect(&s.expectations.policy_hashes, |allowed| {
                Outcome::of(allowed.iter().any(|one| one == hash), allowed.join(" or "), hash)
            })
        },
    },
];

/// A claim that is a string; "absent" otherwise, which no expectation equals.
fn text<'a>(claims: &'a Value, name: &str) -> &'a str {
    claims.get(name).and_then(Value::as_str).unwrap_or("absent")
}

fn expect<T>(expected: &Expect<T>, judge: impl FnOnce(&T) -> Outcome) -> Outcome {
    match expected {
        Expect::Value(value) => judge(value),
        Expect::Unchecked { why } => Outcome::unchecked(why),
    }
}

fn known_key(s: &Subject) -> Outcome {
    let Ok(jws) = Jws::parse(&s.token, MAX_TOKEN) else {
        return Outcome::of(false, "a token", "none");
    };
    let kid = jws.header_text("kid").unwrap_or("absent");
    let certs = format!("{}/certs", s.issuer.url);
    // The header may repeat where the keys are; it may not say where they are.
    let elsewhere = jws.header.get("jku").is_some_and(|jku| jku.as_str() != Some(&certs));
    let known = s.issuer.keys.get(kid).is_some();
    let expected = format!("a key of {certs}");
    match (known, elsewhere) {
        (true, false) => Outcome::of(true, expected, kid),
        (true, true) => Outcome::of(false, expected, "the header points to other keys"),
        (false, _) => Outcome::of(false, expected, format!("unknown: {kid}")),
    }
}

fn header(s: &Subject) -> Outcome {
    let expected = "alg RS256, typ JWT, no keys";
    let Ok(jws) = Jws::parse(&s.token, MAX_TOKEN) else {
        return Outcome::of(false, expected, "none");
    };
    let stranger = jws
        .header
        .keys()
        .find(|name| !["alg", "typ", "kid", "jku"].contains(&name.as_str()))
        .map_or(String::new(), |name| format!(", and {name}"));
    let member = |name| jws.header_text(name).unwrap_or("absent");
    let holds = member("alg") == "RS256" && member("typ") == "JWT" && stranger.is_empty();
    Outcome::of(holds, expected, format!("alg {}, typ {}{stranger}", member("alg"), member("typ")))
}

fn signature(s: &Subject) -> Outcome {
    let expected = "a signature by the issuer's key";
    let verified = Jws::parse(&s.token, MAX_TOKEN).and_then(|jws| {
        let kid = jws.header_text("kid").unwrap_or_default();
        let key = s.issuer.keys.get(kid).unwrap_or_default();
        jws.verify(Algorithm::Rs256, key).map(|_| ())
    });
    match verified {
        Ok(()) => Outcome::of(true, expected, "verified"),
        Err(error) => Outcome::of(false, expected, error),
    }
}

fn times(s: &Subject) -> Outcome {
    let time = |name| s.claims.get(name).and_then(Value::as_u64);
    let expected = format!("at {}, not older than {MAX_AGE} s", s.at);
    let (Some(issued), Some(from), Some(to)) = (time("iat"), time("nbf"), time("exp")) else {
        return Outcome::of(false, expected, "iat, nbf or exp is missing");
    };
    let begun = issued.max(from) <= s.at.saturating_add(SKEW);
    let alive = s.at < to.saturating_add(SKEW);
    let fresh = s.at.saturating_sub(issued) <= MAX_AGE + SKEW;
    let actual = format!("issued {issued}, valid from {from} to {to}");
    Outcome::of(begun && alive && fresh, expected, actual)
}

/// Strict types: "false" is not false, and 0.0 is not 0.
fn guest(s: &AciSubject) -> Outcome {
    let claim = |name: &str| s.claims.get(format!("x-ms-sevsnpvm-{name}"));
    let mut wrong = Vec::new();
    for (name, closed) in [("is-debuggable", false), ("migration-allowed", false)] {
        if claim(name) != Some(&Value::Bool(closed)) {
            wrong.push(format!("{name} is not {closed}"));
        }
    }
    if claim("vmpl").and_then(Value::as_u64) != Some(0) {
        wrong.push("vmpl is not 0".to_owned());
    }
    let host_data = claim("hostdata").and_then(Value::as_str).unwrap_or("absent");
    match &s.expectations.host_data {
        Expect::Value(allowed)
            if !allowed.iter().any(|digest| hex::encode(digest.0) == host_data) =>
        {
            wrong.push(format!("hostdata {host_data} is not allowed"));
        }
        Expect::Value(_) | Expect::Unchecked { .. } => {}
    }
    if let Expect::Value(minimum) = &s.expectations.minimum_uvm_svn {
        let svn = claim("uvm-endorsement").and_then(uvm_svn);
        if svn.is_none_or(|svn| svn < *minimum) {
            wrong.push(format!("the utility VM's version is not at least {minimum}"));
        }
    }
    let actual = if wrong.is_empty() { "as expected".to_owned() } else { wrong.join("; ") };
    Outcome::of(wrong.is_empty(), "no debugging, no migration, VMPL 0, allowed policy", actual)
}

/// The integer claim, or the older text one, read as a number: "22" is less than "100".
fn uvm_svn(endorsement: &Value) -> Option<u64> {
    let integer = endorsement.get("x-ms-sevsnpvm-guestsvn-int").and_then(Value::as_u64);
    let text = endorsement.get("x-ms-sevsnpvm-guestsvn").and_then(Value::as_str);
    integer.or_else(|| text?.parse().ok())
}

fn runtime_data(s: &AciSubject) -> Outcome {
    let actual = text(&s.claims, "x-ms-sevsnpvm-reportdata");
    expect(&s.expectations.runtime_data, |data| {
        let expected = hex::encode(binding::maa(data));
        let same = expected == actual;
        let what = format!("{expected} (runtime data {})", hex::encode(sha256(data)));
        Outcome::of(same, what, actual)
    })
}
