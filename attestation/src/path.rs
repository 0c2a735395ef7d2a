//! Certification paths that are not AMD's: Microsoft's code signers, Azure's virtual TPMs, did:x509.
//!
//! A path holds together, or it does not: names, signatures, lives, the right to issue (RFC 5280, section 6.1).
//! It must not know who is believed. Its last certificate counts as the anchor, so a caller who does not compare
//! that one, or another issuer in the path, with something it believes has learnt nothing. Revocation is not
//! looked at either, nor what the leaf's key may be used for.

use der::asn1::ObjectIdentifier;
use x509_cert::ext::pkix::{BasicConstraints, KeyUsage};

use crate::certificate::{Certificate, CertificateError};
use crate::name_constraints;
pub use crate::name_constraints::ConstraintError;

/// The longest path that is looked at. Microsoft's have three certificates.
pub const MAX_LENGTH: usize = 8;

/// Critical extensions that are understood: basic constraints, key usage, name constraints and certificate
/// policies (of which any set is accepted) here, subject alternative names and extended key usage by whoever
/// asks what the leaf is for.
const UNDERSTOOD: [ObjectIdentifier; 6] = [
    ObjectIdentifier::new_unwrap("2.5.29.19"),
    ObjectIdentifier::new_unwrap("2.5.29.15"),
    ObjectIdentifier::new_unwrap("2.5.29.30"),
    ObjectIdentifier::new_unwrap("2.5.29.32"),
    ObjectIdentifier::new_unwrap("2.5.29.17"),
    ObjectIdentifier::new_unwrap("2.5.29.37"),
];

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
    alive(chain, at)
}

/// Whether all certificates are valid at `at`, in Unix seconds. Says nothing else about them.
pub(crate) fn alive(chain: &[Certificate], at: u64) -> Result<(), PathError> {
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
        if extension.critical && !UNDERSTOOD.contains(&oid) {
            return Err(PathError::Critical { position, oid: oid.to_string() });
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

#[cfg(test)]
mod tests {
    use rcgen::{GeneralSubtree, KeyUsagePurpose, NameConstraints, SanType};

    use super::*;
    use crate::testing::{Draft, SIGNED_AT, path};

    const YEAR: u64 = 366 * 24 * 3600;
    const BASIC_CONSTRAINTS: [u64; 4] = [2, 5, 29, 19];

    fn three() -> [Draft; 3] {
        [Draft::leaf("leaf"), Draft::authority("ca", Some(0)), Draft::authority("root", None)]
    }

    fn judged(drafts: &[Draft]) -> Result<(), PathError> {
        verify(&path(drafts), SIGNED_AT)
    }

    #[test]
    fn a_path_holds_with_every_kind_of_key() {
        assert_eq!(judged(&three()), Ok(()));
        let [leaf, ca, root] = three();
        assert_eq!(judged(&[leaf, ca.rsa(), root.rsa()]), Ok(()));
    }

    #[test]
    fn an_anchor_that_is_no_root_needs_no_signature_of_its_own() {
        let chain = path(&three());
        assert_eq!(verify(&chain[..2], SIGNED_AT), Ok(()));
    }

    #[test]
    fn a_path_has_an_issuer_and_a_bound() {
        let chain = path(&three());
        for few in [&chain[..0], &chain[..1]] {
            assert_eq!(verify(few, SIGNED_AT), Err(PathError::Length(few.len())));
        }
        let lone = Draft::authority("lone", None).self_signed();
        assert_eq!(verify(&vec![lone; 9], SIGNED_AT), Err(PathError::Length(9)));
        let mut long: Vec<Draft> = (0..8).map(|n| Draft::authority(&n.to_string(), None)).collect();
        assert_eq!(judged(&long), Ok(()));
        long.push(Draft::authority("8", None));
        assert_eq!(judged(&long), Err(PathError::Length(9)));
    }

    #[test]
    fn nobody_is_his_own_issuer() {
        let root = Draft::authority("root", None).self_signed();
        let twice = [root.clone(), root.clone()];
        assert_eq!(verify(&twice, SIGNED_AT), Err(PathError::Repeated(0)));
        let leaf = Draft::leaf("leaf");
        let chain = [leaf.self_signed(), root];
        assert_eq!(verify(&chain, SIGNED_AT), Err(PathError::Name(0)));
    }

    #[test]
    fn an_appended_root_that_signed_nothing_is_refused() {
        let [leaf, ca, root] = three();
        let chain = [leaf.issued_by(&ca), ca.issued_by(&root)];
        let stranger = Draft::authority("other", None).self_signed();
        let appended = [chain.to_vec(), vec![stranger]].concat();
        assert_eq!(verify(&appended, SIGNED_AT), Err(PathError::Name(1)));

        let namesake = Draft::authority("root", None).self_signed();
        let appended = [chain.to_vec(), vec![namesake]].concat();
        assert_eq!(verify(&appended, SIGNED_AT), Err(PathError::Signature(1)), "right name only");

        let mut reversed = path(&three());
        reversed.reverse();
        assert!(verify(&reversed, SIGNED_AT).is_err(), "the root comes last");
    }

    #[test]
    fn a_changed_certificate_is_refused_wherever_it_stands() {
        let chain = path(&three());
        for position in 0..chain.len() {
            let mut der = chain[position].der().to_vec();
            *der.last_mut().unwrap() ^= 1;
            let mut changed = chain.clone();
            changed[position] = Certificate::from_der(&der).unwrap();
            assert_eq!(verify(&changed, SIGNED_AT), Err(PathError::Signature(position)));
        }
    }

    #[test]
    fn only_authorities_that_may_issue() {
        let [leaf, _, root] = three();
        let entity = [leaf, Draft::leaf("ca"), root];
        assert_eq!(judged(&entity), Err(PathError::Authority(1)), "no basic constraints");

        let no = |params: &mut rcgen::CertificateParams| params.is_ca = rcgen::IsCa::ExplicitNoCa;
        let [leaf, _, root] = three();
        let denied = [leaf, Draft::authority("ca", None).with(no), root];
        assert_eq!(judged(&denied), Err(PathError::Authority(1)), "cA is false");

        let [leaf, _, root] = three();
        let other_usage = Draft::authority("ca", None)
            .with(|params| params.key_usages = vec![KeyUsagePurpose::DigitalSignature]);
        assert_eq!(
            judged(&[leaf, other_usage, root]),
            Err(PathError::Authority(1)),
            "no keyCertSign"
        );

        let [leaf, _, root] = three();
        let any_usage = Draft::authority("ca", None).with(|params| params.key_usages.clear());
        assert_eq!(judged(&[leaf, any_usage, root]), Ok(()), "no key usage says any");
    }

    #[test]
    fn the_number_of_authorities_below_is_honoured() {
        let four = |most| {
            let [leaf, ca, _] = three();
            [leaf, ca, Draft::authority("upper", most), Draft::authority("root", None)]
        };
        assert_eq!(judged(&four(Some(0))), Err(PathError::PathLength(2)));
        assert_eq!(judged(&four(Some(1))), Ok(()));
        assert_eq!(judged(&four(None)), Ok(()));
    }

    #[test]
    fn every_certificate_must_live() {
        let chain = path(&three());
        for at in [SIGNED_AT - YEAR, SIGNED_AT + YEAR, 0, u64::MAX] {
            let refused = verify(&chain, at);
            assert!(matches!(refused, Err(PathError::Validity { position: 0, .. })), "{at}");
            assert_eq!(verify_at_any_time(&chain), Ok(()));
        }
        let [leaf, ca, root] = three();
        let over = ca.with(|params| params.not_after = rcgen::date_time_ymd(2025, 2, 1));
        let refused = judged(&[leaf, over, root]);
        assert!(matches!(refused, Err(PathError::Validity { position: 1, .. })), "{refused:?}");
    }

    #[test]
    fn unknown_extensions_must_not_be_critical_nor_any_double() {
        let [leaf, ca, root] = three();
        let passed_over = leaf.extended(&[1, 2, 3, 4], false, b"x");
        assert_eq!(judged(&[passed_over, ca, root]), Ok(()));

        let [leaf, ca, root] = three();
        let unknown = leaf.extended(&[1, 2, 3, 4], true, b"x");
        let oid = "1.2.3.4".to_owned();
        assert_eq!(judged(&[unknown, ca, root]), Err(PathError::Critical { position: 0, oid }));

        let [leaf, ca, root] = three();
        let unknown = root.extended(&[1, 2, 3, 4], true, b"x");
        let oid = "1.2.3.4".to_owned();
        assert_eq!(judged(&[leaf, ca, unknown]), Err(PathError::Critical { position: 2, oid }));

        let [leaf, ca, root] = three();
        let double = ca.extended(&BASIC_CONSTRAINTS, false, &[0x30, 3, 1, 1, 0xff]);
        assert_eq!(judged(&[leaf, double, root]), Err(PathError::Extension(1)));

        let [leaf, _, root] = three();
        let malformed = Draft::leaf("ca").extended(&BASIC_CONSTRAINTS, true, &[0x30, 1]);
        assert_eq!(judged(&[leaf, malformed, root]), Err(PathError::Extension(1)));
    }

    #[test]
    fn names_keep_to_every_authority_above_them() {
        let judged = |permitted: Vec<GeneralSubtree>, excluded: Vec<GeneralSubtree>| {
            let [leaf, ca, root] = three();
            let named = leaf.with(|params| {
                let name = "host.example.com".try_into().unwrap();
                params.subject_alt_names = vec![SanType::DnsName(name)];
            });
            let constraints =
                NameConstraints { permitted_subtrees: permitted, excluded_subtrees: excluded };
            let root = root.with(|params| params.name_constraints = Some(constraints));
            super::verify(&path(&[named, ca, root]), SIGNED_AT)
        };
        let dns = |name: &str| vec![GeneralSubtree::DnsName(name.to_owned())];
        let refused = |source| Err(PathError::Constraint { position: 2, source });
        let name = || "host.example.com".to_owned();

        assert_eq!(judged(dns("EXAMPLE.com"), vec![]), Ok(()));
        let outside = refused(ConstraintError::NotPermitted(name()));
        assert_eq!(judged(dns("other.test"), vec![]), outside);
        let inside = refused(ConstraintError::Excluded(name()));
        assert_eq!(judged(vec![], dns("example.com")), inside);
        assert_eq!(judged(dns("example.com"), dns("host.example.com")), inside);
        let mail = vec![GeneralSubtree::Rfc822Name("example.com".to_owned())];
        assert_eq!(judged(mail, vec![]), refused(ConstraintError::Unknown), "not judged here");
    }
}
