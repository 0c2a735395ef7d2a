//! The name constraints of an authority (RFC 5280, section 4.2.1.10): which DNS names may stand in the
//! certificates below it. Constraints on names of any other form are refused as a whole, met or not.

use x509_cert::ext::pkix::constraints::name::{GeneralSubtree, GeneralSubtrees};
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::pkix::{NameConstraints, SubjectAltName};

use crate::certificate::{Certificate, CertificateError};

/// How constraints are broken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConstraintError {
    /// The constraints or the names cannot be read, or are of a form that is not judged here.
    #[error("name constraints or names that are not understood")]
    Unknown,
    /// A name is in no permitted subtree.
    #[error("{0:?} is in no permitted subtree")]
    NotPermitted(String),
    /// A name is in an excluded subtree.
    #[error("{0:?} is in an excluded subtree")]
    Excluded(String),
}

impl From<CertificateError> for ConstraintError {
    fn from(_: CertificateError) -> Self {
        Self::Unknown
    }
}

/// Whether the certificates below an authority keep to its constraints, if it has any.
pub(crate) fn hold(issuer: &Certificate, below: &[Certificate]) -> Result<(), ConstraintError> {
    let Some(constraints) = issuer.decoded::<NameConstraints>()? else { return Ok(()) };
    let permitted = subtrees(constraints.permitted_subtrees)?;
    let excluded = subtrees(constraints.excluded_subtrees)?.unwrap_or_default();
    for certificate in below {
        for name in dns_names(certificate)? {
            if excluded.iter().any(|base| is_within(&name, base)) {
                return Err(ConstraintError::Excluded(name));
            }
            if permitted.as_ref().is_some_and(|bases| !bases.iter().any(|b| is_within(&name, b))) {
                return Err(ConstraintError::NotPermitted(name));
            }
        }
    }
    Ok(())
}

fn subtrees(given: Option<GeneralSubtrees>) -> Result<Option<Vec<String>>, ConstraintError> {
    given.map(|subtrees| subtrees.iter().map(base).collect()).transpose()
}

fn base(subtree: &GeneralSubtree) -> Result<String, ConstraintError> {
    match (&subtree.base, subtree.minimum, subtree.maximum) {
        (GeneralName::DnsName(name), 0, None) => plain(name.as_str()),
        _ => Err(ConstraintError::Unknown),
    }
}

fn dns_names(certificate: &Certificate) -> Result<Vec<String>, ConstraintError> {
    let names = certificate.decoded::<SubjectAltName>()?.map(|names| names.0).unwrap_or_default();
    names
        .iter()
        .filter_map(|name| match name {
            GeneralName::DnsName(name) => Some(plain(name.as_str())),
            _ => None,
        })
        .collect()
}

/// In lower case, without empty labels: a dot at either end would hide a name from its subtree.
fn plain(name: &str) -> Result<String, ConstraintError> {
    let whole = name.split('.').all(|label| !label.is_empty());
    if whole { Ok(name.to_ascii_lowercase()) } else { Err(ConstraintError::Unknown) }
}

fn is_within(name: &str, base: &str) -> bool {
    name.strip_suffix(base).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subtree_is_a_name_and_what_has_more_labels_in_front() {
        assert!(is_within("example.com", "example.com"));
        assert!(is_within("a.b.example.com", "example.com"));
        assert!(!is_within("badexample.com", "example.com"));
        assert!(!is_within("com", "example.com"));
    }

    #[test]
    fn names_with_empty_labels_are_refused_and_case_does_not_count() {
        assert_eq!(plain("Example.COM").unwrap(), "example.com");
        for name in ["", ".", ".example.com", "example.com.", "a..b"] {
            assert_eq!(plain(name), Err(ConstraintError::Unknown), "{name:?}");
        }
    }
}
