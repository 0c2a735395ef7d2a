//! Tokens of Microsoft Azure Attestation: another party's word that a guest is genuine.
//!
//! Source: measured on real instances (`attestation.md` part 3). A token is an RS256 JWT (RFC 7519); its keys
//! are published at `<issuer>/certs` as JSON Web Keys that carry nothing but `kid`, `kty` and `x5c`.
//!
//! The claims of a confidential container group and of a confidential VM have different shapes. There is one
//! decoder for each; which one is tried is the caller's choice, never the token's.

mod expectations;
mod issuer;

use serde_json::Value;

pub use expectations::{AciExpectations, CvmExpectations, GuestExpectations, UvmExpectations};
pub use issuer::{Issuer, Jwks, JwksError, MAX_JWKS};

use crate::anchors::Trust;
use crate::check::{self, Rejected};
pub use crate::checks::token::MAX_AGE;
use crate::checks::{claims, claims_aci, claims_cvm, token};
use crate::jws::{Jws, JwsError};
use crate::verify::Verified;

/// The longest token that is read, in bytes. Real ones have 4 to 7 KiB.
pub const MAX_TOKEN: usize = 64 * 1024;

/// The claims of an authentic token, of whatever shape.
#[derive(Clone, PartialEq)]
pub struct Claims(Value);

/// Why a token is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It is no JWT.
    #[error("not a token of Azure Attestation")]
    Syntax(#[from] JwsError),
    /// A check failed.
    #[error(transparent)]
    Rejected(#[from] Rejected),
}

/// Verifies a token: one of these issuers signed it, and it is neither old nor from the future. The issuers
/// are the relying party's; `iss` only picks one of them, by its exact URL. Says nothing about what the token
/// claims: see [`appraise_aci`] and [`appraise_cvm`].
///
/// # Errors
///
/// [`TokenError::Syntax`] if it is no token at all, else [`TokenError::Rejected`] with every check's outcome.
pub fn verify_token(
    token: &str,
    issuers: &[Issuer],
    at: u64,
) -> Result<Verified<Claims>, TokenError> {
    let jws = Jws::parse(token, MAX_TOKEN)?.into_owned();
    let claims = jws.unverified_json()?;
    let named = claims.get("iss").and_then(Value::as_str);
    let issuer = issuers.iter().find(|issuer| Some(issuer.url.as_str()) == named);
    let trust = issuer.map_or_else(|| common_trust(issuers), |issuer| issuer.trust);
    let named = issuer.zip(jws.header_text("kid"));
    let key = named.and_then(|(issuer, kid)| issuer.keys.get(kid)).cloned();
    let issuer = issuer.map(|issuer| issuer.url.clone());
    let accepted = issuers.iter().map(|issuer| issuer.url.clone()).collect();
    let subject = token::Subject { jws, claims, issuer, key, accepted, at };
    let findings = check::judge(check::run(&token::CHECKS, &subject), trust)?;
    Ok(Verified::new(Claims(subject.claims), findings, trust, at))
}

/// Of a verdict that no issuer stands behind: production only if all of them are.
fn common_trust(issuers: &[Issuer]) -> Trust {
    let production = issuers.iter().all(|issuer| issuer.trust == Trust::Production);
    if production { Trust::Production } else { Trust::NotProduction }
}

/// Holds the claims of an authentic token, in the shape of a confidential container group, against what is
/// expected. A token of a confidential VM fails here, whatever it says.
///
/// # Errors
///
/// [`Rejected`] with every check's outcome.
pub fn appraise_aci(
    verified: Verified<Claims>,
    expectations: &AciExpectations,
) -> Result<Verified<Claims>, Rejected> {
    let at = verified.at();
    let (Claims(claims), mut findings, trust) = verified.into_parts();
    let subject = claims_aci::Subject {
        guest: claims::Subject::aci(claims, expectations),
        endorsement: expectations.endorsement.clone(),
    };
    findings.extend(check::run(&claims::CHECKS, &subject.guest));
    findings.extend(check::run(&claims_aci::CHECKS, &subject));
    Ok(Verified::new(Claims(subject.guest.token), check::judge(findings, trust)?, trust, at))
}

/// What went to the service for a token of a confidential container group.
#[derive(Clone, Copy, Debug)]
pub struct Sent<'a> {
    /// The exact runtime data.
    pub runtime_data: &'a [u8],
    /// The nonce, as its decimal text.
    pub nonce: &'a str,
    /// Whether the token must also repeat the runtime data as JSON, value for value. A service may write numbers
    /// otherwise than they were sent: for runtime data of one's own making.
    pub repeated: bool,
}

/// Whether an authentic token, in the shape of a confidential container group, is the answer to what was sent: the
/// report is about this runtime data (J9), the nonce is there (J10), and the data is repeated (J12). Says nothing about
/// the guest: see [`appraise_aci`].
///
/// # Errors
///
/// [`Rejected`] with every check's outcome.
pub fn is_about(verified: Verified<Claims>, sent: &Sent<'_>) -> Result<Verified<Claims>, Rejected> {
    let at = verified.at();
    let (Claims(claims), mut findings, trust) = verified.into_parts();
    let subject = claims::Subject::aci(claims, &AciExpectations::of_nobody(sent));
    let asked = |id: &str| matches!(id, "J9" | "J10") || (id == "J12" && sent.repeated);
    let rows = claims::CHECKS.iter().filter(|row| asked(row.check.id));
    findings.extend(rows.flat_map(|row| check::run(std::slice::from_ref(row), &subject)));
    Ok(Verified::new(Claims(subject.token), check::judge(findings, trust)?, trust, at))
}

/// Holds the claims of an authentic token, in the shape of a confidential VM, against what is expected. A
/// token of a container group fails here, whatever it says.
///
/// # Errors
///
/// [`Rejected`] with every check's outcome.
pub fn appraise_cvm(
    verified: Verified<Claims>,
    expectations: &CvmExpectations,
) -> Result<Verified<Claims>, Rejected> {
    let at = verified.at();
    let (Claims(claims), mut findings, trust) = verified.into_parts();
    let subject = claims_cvm::Subject {
        guest: claims::Subject::cvm(claims, expectations),
        insecure_boot: expectations.insecure_boot.clone(),
        protocols: expectations.protocols.clone(),
    };
    findings.extend(check::run(&claims::CHECKS, &subject.guest));
    findings.extend(check::run(&claims_cvm::CHECKS, &subject));
    Ok(Verified::new(Claims(subject.guest.token), check::judge(findings, trust)?, trust, at))
}
