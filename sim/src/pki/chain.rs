//! A verifier of certificate chains, as strict as the simulated services need.
//!
//! Must not know: which roots are right; they are arguments. The rules are those of RFC 5280
//! section 6 that apply here: names chain, signatures verify, issuers are certificate
//! authorities with room for the path below them, and everything is valid at the given time.

use der::{Decode as _, Encode as _};
use x509_cert::Certificate;
use x509_cert::ext::pkix::{BasicConstraints, ExtendedKeyUsage};

use super::{PkiError, signer};

/// Longest chain that is looked at.
const MAX_CHAIN: usize = 6;

/// Verifies `chain` (leaf first) up to one of `roots`, at `time` (Unix seconds). The root itself
/// may stand at the end of the chain or be left out.
///
/// # Errors
/// [`PkiError`] with the first rule that is broken.
pub fn verify(chain: &[Certificate], roots: &[Certificate], time: u64) -> Result<(), PkiError> {
    if chain.is_empty() || chain.len() > MAX_CHAIN {
        return Err(PkiError::Chain("empty or too long"));
    }
    for (depth, certificate) in chain.iter().enumerate() {
        valid_at(certificate, time)?;
        if depth > 0 {
            may_issue(certificate, depth - 1)?;
        }
    }
    for pair in chain.windows(2) {
        if let [subject, issuer] = pair {
            issued_by(subject, issuer)?;
        }
    }
    let last = chain.last().ok_or(PkiError::Chain("empty"))?;
    if roots.contains(last) {
        return Ok(());
    }
    let root = roots
        .iter()
        .find(|root| root.tbs_certificate.subject == last.tbs_certificate.issuer)
        .ok_or(PkiError::Chain("it ends at no trusted root"))?;
    valid_at(root, time)?;
    may_issue(root, chain.len() - 1)?;
    issued_by(last, root)
}

/// Whether `issuer` signed `subject`: names and signature.
pub(crate) fn issued_by(subject: &Certificate, issuer: &Certificate) -> Result<(), PkiError> {
    if subject.tbs_certificate.issuer != issuer.tbs_certificate.subject {
        return Err(PkiError::Chain("an issuer has another name than its certificate says"));
    }
    if subject.signature_algorithm != subject.tbs_certificate.signature {
        return Err(PkiError::Chain("a certificate names two signature algorithms"));
    }
    signer::verify(
        &subject.signature_algorithm,
        &issuer.tbs_certificate.subject_public_key_info,
        &subject.tbs_certificate.to_der()?,
        subject.signature.raw_bytes(),
    )
}

fn valid_at(certificate: &Certificate, time: u64) -> Result<(), PkiError> {
    let validity = &certificate.tbs_certificate.validity;
    let from = validity.not_before.to_unix_duration().as_secs();
    let until = validity.not_after.to_unix_duration().as_secs();
    if (from..=until).contains(&time) {
        Ok(())
    } else {
        Err(PkiError::Chain("a certificate is not valid at that time"))
    }
}

/// `below` is the number of certificate authorities between this one and the leaf.
fn may_issue(certificate: &Certificate, below: usize) -> Result<(), PkiError> {
    let constraints = find::<BasicConstraints>(certificate)?
        .ok_or(PkiError::Chain("an issuer has no basic constraints"))?;
    if !constraints.ca {
        return Err(PkiError::Chain("an issuer is no certificate authority"));
    }
    if constraints.path_len_constraint.is_some_and(|limit| usize::from(limit) < below) {
        return Err(PkiError::Chain("an issuer allows no path of that length"));
    }
    Ok(())
}

/// The extended key usages of a certificate; empty when it has none.
pub(crate) fn extended_key_usages(
    certificate: &Certificate,
) -> Result<Vec<der::asn1::ObjectIdentifier>, PkiError> {
    Ok(find::<ExtendedKeyUsage>(certificate)?.map(|usages| usages.0).unwrap_or_default())
}

fn find<T>(certificate: &Certificate) -> Result<Option<T>, PkiError>
where
    T: for<'a> der::Decode<'a> + der::oid::AssociatedOid,
{
    raw(certificate, T::OID).map(|bytes| T::from_der(bytes).map_err(PkiError::Der)).transpose()
}

/// The bytes of one extension.
pub(crate) fn raw(certificate: &Certificate, oid: der::asn1::ObjectIdentifier) -> Option<&[u8]> {
    certificate
        .tbs_certificate
        .extensions
        .as_ref()?
        .iter()
        .find(|extension| extension.extn_id == oid)
        .map(|extension| extension.extn_value.as_bytes())
}

/// One unsigned number in an extension: a DER INTEGER.
pub(crate) fn number(certificate: &Certificate, oid: der::asn1::ObjectIdentifier) -> Option<u8> {
    raw(certificate, oid).and_then(|bytes| u8::from_der(bytes).ok())
}
