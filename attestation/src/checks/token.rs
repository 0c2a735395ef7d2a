//! Checks of tokens of Microsoft Azure Attestation: did a chosen issuer sign this, and is it fresh? What the
//! token claims is for `claims`.

use serde_json::Value;

use super::text;
use crate::check::{Check, Outcome, Row};
use crate::jws::{Algorithm, Jws};
use crate::rsa_key::RsaKey;

/// How old a token may be at most when something is decided on it, in seconds. MAA makes them for 8 hours.
pub const MAX_AGE: u64 = 3600;

/// Seconds by which clocks may differ.
const SKEW: u64 = 60;

/// The shortest key that may sign, in bits.
const MIN_BITS: usize = 2048;

/// A token, taken apart, and who should have signed it.
pub(crate) struct Subject {
    pub(crate) jws: Jws<'static>,
    pub(crate) claims: Value,
    /// URL of the accepted issuer that the token names.
    pub(crate) issuer: Option<String>,
    /// The key of that issuer which the token names.
    pub(crate) key: Option<RsaKey>,
    /// URLs of all accepted issuers.
    pub(crate) accepted: Vec<String>,
    pub(crate) at: u64,
}

const FORGED: &str = "Do not accept this token: no chosen issuer made it, or not for this.";

pub(crate) const CHECKS: [Row<Subject>; 5] = [
    Row {
        check: Check {
            id: "J1",
            title: "the token names a chosen issuer",
            spec: "RFC 7519, 4.1.1",
            remedy: FORGED,
        },
        run: |s| {
            let named = text(&s.claims, "iss").unwrap_or("absent");
            Outcome::of(s.issuer.is_some(), s.accepted.join(" or "), named)
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

fn known_key(s: &Subject) -> Outcome {
    let Some(issuer) = &s.issuer else {
        return Outcome::unchecked("not reached, because J1 failed");
    };
    let certs = format!("{issuer}/certs");
    // The header may repeat where the keys are; it may not say where they are.
    if s.jws.header.get("jku").is_some_and(|jku| jku.as_str() != Some(&certs)) {
        return Outcome::of(false, format!("a key of {certs}"), "the header points elsewhere");
    }
    let kid = s.jws.header_text("kid");
    let known = s.key.is_some();
    let actual = format!("{}: {}", if known { "known" } else { "unknown" }, kid.unwrap_or("none"));
    Outcome::of(known, format!("a key of {certs}"), actual)
}

fn header(s: &Subject) -> Outcome {
    let stranger = s
        .jws
        .header
        .keys()
        .find(|name| !["alg", "typ", "kid", "jku"].contains(&name.as_str()))
        .map_or(String::new(), |name| format!(", and {name}"));
    let (alg, typ) = (s.jws.header_text("alg"), s.jws.header_text("typ"));
    let holds = alg == Some("RS256") && typ == Some("JWT") && stranger.is_empty();
    let show = |member: Option<&str>| member.unwrap_or("absent").to_owned();
    let actual = format!("alg {}, typ {}{stranger}", show(alg), show(typ));
    Outcome::of(holds, "alg RS256, typ JWT, no keys", actual)
}

fn signature(s: &Subject) -> Outcome {
    let Some(key) = &s.key else {
        return Outcome::unchecked("not reached, because J1 or J2 failed");
    };
    let expected = format!("a signature by the issuer's key of at least {MIN_BITS} bits");
    if key.bits() < MIN_BITS {
        return Outcome::of(false, expected, format!("a key of {} bits", key.bits()));
    }
    match s.jws.verify(Algorithm::Rs256, key.pkcs1()) {
        Ok(_) => Outcome::of(true, expected, format!("verified with {} bits", key.bits())),
        Err(error) => Outcome::of(false, expected, error),
    }
}

fn times(s: &Subject) -> Outcome {
    let time = |name| s.claims.get(name).and_then(Value::as_u64);
    let expected = format!("at {}, not older than {MAX_AGE} s", s.at);
    let (Some(issued), Some(from), Some(to)) = (time("iat"), time("nbf"), time("exp")) else {
        return Outcome::of(false, expected, "iat, nbf or exp is missing or no integer");
    };
    let begun = issued.max(from) <= s.at.saturating_add(SKEW);
    let alive = s.at < to.saturating_add(SKEW);
    let fresh = s.at.saturating_sub(issued) <= MAX_AGE + SKEW;
    let actual = format!("issued {issued}, valid from {from} to {to}");
    Outcome::of(begun && alive && fresh, expected, actual)
}
