//! Certification paths that are not AMD's: Microsoft's code signers, Azure's virtual TPMs, did:x509.
//!
//! A path holds together, or it does not: names, signatures, lives, the right to issue (RFC 5280, section 6.1).
//! It must not know who is believed. Its last certificate counts as the anchor, so a caller who does not compare
//! that one, or another issuer in the path, with something it believes has learnt nothing. Revocation is not
//! looked at either, nor what the leaf's key may be used for.

use x509_cert::ext::pkix::{BasicConstraints, KeyUsage};

use crate::certificate::{Certificate, CertificateError};
use crate::name_constraints::{self, ConstraintError};

/// The longest path that is looked at. Microsoft's have three certificates.
pub const MAX_LENGTH: usize = 8;

/// Critical extensions that are understood: basic constraints, key usage, name constraints and certificate
/// policies (of which any set is accepted) here, subject alternative names and extended key usage by whoever
/// asks what the leaf is for.
const UNDERSTOOD: [&str; 6] =
    ["2.5.29.19", "2.5.29.15", "2.5.29.30", "2.5.29.32", "2.5.29.17", "2.5.29.37"];

/// Why a path does not hold together. A number counts certificates from the leaf, which is 0.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// Too short to have an issuer, or too long.
    #[error("a path has 2 to {MAX_LENGTH} certificates, this has {0}")]
    Length(usize),
    /// A certificate stands in it twice.
    #[error("certificate {0} of the path stands there twice")]
    Repeated(usize),
    /// An extension stands there twice or cannot be read.
    #[error("certificate {0} of the path has an extension that is double or malformed")]
    Extension(usize),
    /// A critical extension that nobody here understands.
    #[error(
        "certificate {position} of the path has the critical extension {oid}, which is unknown"
    )]
    Critical {
        /// Whose.
        position: usize,
        /// Which.
        oid: String,
    },
    /// Its issuer has another name than the next certificate's subject.
    #[error("certificate {0} of the path does not name the next one as its issuer")]
    Name(usize),
    /// The next certificate's key did not sign it, or in a way that is not accepted.
    #[error("certificate {0} of the path was not signed by its issuer")]
    Signature(usize),
    /// It issued the one before it, and is no authority that may.
    #[error("certificate {0} of the path may not issue certificates")]
    Authority(usize),
    /// More authorities stand below it than it allows.
    #[error("certificate {0} of the path allows fewer authorities below it")]
    PathLength(usize),
    /// It restricts names below it, and they break that.
    #[error("certificate {position} of the path restricts names")]
    Constraint {
        /// Who restricts.
        position: usize,
        /// How it is broken.
        source: ConstraintError,
    },
    /// It is not valid at the time of judgement.
    #[error("certificate {position} of the path lives from {from} to {to}, which {at} is not in")]
    Validity {
        /// Whose life.
        position: usize,
        /// Its first second, in Unix time.
        from: u64,
        /// Its last.
        to: u64,
        /// The time of judgement.
        at: u64,
    },
}

/// Whether a path holds together, all its certificates being valid at `at`, in Unix seconds. The leaf comes
/// first; the last certificate is the anchor, and has to carry its own signature if it claims to be a root.
///
/// # Errors
///
/// [`PathError`], the first that is found.
pub fn verify(chain: &[Certificate], at: u64) -> Result<(), PathError> {
    verify_at_any_time(chain)?;
    for (position, certificate) in chain.iter().enumerate() {
        let (from, to) = certificate.validity();
        if !(from..=to).contains(&at) {
            return Err(PathError::Validity { position, from, to, at });
        }
    }
    Ok(())
}

/// As [`verify`], but for the certificates' lives: for did:x509, which leaves time to its user.
///
/// # Errors
///
/// [`PathError`], the first that is found.
pub fn verify_at_any_time(chain: &[Certificate]) -> Result<(), PathError> {
    if !(2..=MAX_LENGTH).contains(&chain.len()) {
        return Err(PathError::Length(chain.len()));
    }
    for (position, certificate) in chain.iter().enumerate() {
        let mut above = chain.iter().skip(position + 1);
        if above.any(|other| other.der() == certificate.der()) {
            return Err(PathError::Repeated(position));
        }
        extensions(certificate, position)?;
    }
    for (position, (subject, issuer)) in chain.iter().zip(chain.iter().skip(1)).enumerate() {
        link(subject, issuer, position)?;
        authority(issuer, position + 1)?;
    }
    for (position, issuer) in chain.iter().enumerate() {
        let below = chain.get(..position).unwrap_or_default();
        name_constraints::hold(issuer, below)
            .map_err(|source| PathError::Constraint { position, source })?;
    }
    match chain.last() {
        Some(last) if last.names_as_issuer(last) => link(last, last, chain.len() - 1),
        _ => Ok(()),
    }
}

fn extensions(certificate: &Certificate, position: usize) -> Result<(), PathError> {
    let all = certificate.extensions();
    for (n, extension) in all.iter().enumerate() {
        let oid = extension.extn_id;
        if all.iter().skip(n + 1).any(|other| other.extn_id == oid) {
            return Err(PathError::Extension(position));
        }
        let oid = oid.to_string();
        if extension.critical && !UNDERSTOOD.contains(&oid.as_str()) {
            return Err(PathError::Critical { position, oid });
        }
    }
    Ok(())
}

fn link(subject: &Certificate, issuer: &Certificate, position: usize) -> Result<(), PathError> {
    if !subject.names_as_issuer(issuer) {
        return Err(PathError::Name(position));
    }
    subject.verify_signature(issuer).map_err(|_| PathError::Signature(position))
}

/// Whether it may issue certificates with `position` - 1 authorities below it. Those that were issued in their
/// own name count too, which is stricter than RFC 5280.
fn authority(issuer: &Certificate, position: usize) -> Result<(), PathError> {
    let malformed = |_: CertificateError| PathError::Extension(position);
    let constraints = issuer.decoded::<BasicConstraints>().map_err(malformed)?;
    let usage = issuer.decoded::<KeyUsage>().map_err(malformed)?;
    let constraints = constraints.filter(|found| found.ca).ok_or(PathError::Authority(position))?;
    if usage.is_some_and(|usage| !usage.key_cert_sign()) {
        return Err(PathError::Authority(position));
    }
    match constraints.path_len_constraint {
        Some(most) if position > usize::from(most) + 1 => Err(PathError::PathLength(position)),
        _ => Ok(()),
    }
}
