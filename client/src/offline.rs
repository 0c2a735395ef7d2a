//! Evidence from files: the parts as Azure mounts them, or raw.
//!
//! A part's encoding is recognised by what it decodes to, never by a file's name. What it says is judged by
//! `attestation` alone.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use attestation::Evidence;
use attestation::certificate::Certificate;
use attestation::crl::{Crl, CrlError};
use attestation::report;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

/// The longest file with a part that is read, in bytes.
const MAX_LENGTH: usize = 8 * 1024 * 1024;

/// Files with the parts of evidence.
#[derive(Clone, Debug)]
pub struct Parts {
    /// The report: raw, hexadecimal or base64.
    pub report: PathBuf,
    /// Its certificates: PEM, one DER certificate, or THIM's JSON; each also in base64.
    pub certificates: PathBuf,
    /// The utility VM's endorsement: COSE_Sign1, raw or in base64.
    pub uvm: Option<PathBuf>,
    /// The enforcement policy: Rego text, or its base64.
    pub cce_policy: Option<PathBuf>,
}

/// Why files are no evidence.
#[derive(Debug, thiserror::Error)]
pub enum PartsError {
    /// A file cannot be read.
    #[error("cannot read {0}")]
    Unreadable(PathBuf, #[source] std::io::Error),
    /// A file is far longer than what it should hold.
    #[error("{0} is longer than {1} bytes")]
    TooLong(PathBuf, usize),
    /// No certificates in a known form.
    #[error("{0} holds no certificates: give PEM, DER, or the JSON of THIM, plain or in base64")]
    Certificates(PathBuf),
    /// No revocation list in a known form.
    #[error("{0} holds no revocation list that can be used: give one, in PEM or DER")]
    List(PathBuf, #[source] CrlError),
    /// No leaf among the certificates.
    #[error("{0} holds no certificate of a VCEK or VLEK")]
    NoLeaf(PathBuf),
    /// More than one leaf.
    #[error("{0} holds several certificates of VCEKs or VLEKs; give the report's own only")]
    Leaves(PathBuf),
}

impl Parts {
    /// Reads the files and puts the parts together.
    ///
    /// # Errors
    ///
    /// [`PartsError`]. A report of a wrong length is none: it is evidence, which a check refuses.
    pub fn read(&self) -> Result<Evidence, PartsError> {
        let certificates = part(&self.certificates)?;
        let certificates = certificates_of(&certificates)
            .ok_or_else(|| PartsError::Certificates(self.certificates.clone()))?;
        let mut leaves = certificates.iter().filter(|certificate| is_leaf(certificate));
        let leaf = leaves.next().ok_or_else(|| PartsError::NoLeaf(self.certificates.clone()))?;
        if leaves.any(|other| other.der() != leaf.der()) {
            return Err(PartsError::Leaves(self.certificates.clone()));
        }
        Ok(Evidence {
            report: report_of(part(&self.report)?),
            vek: leaf.der().to_vec(),
            chain: issuers_of(leaf, &certificates),
            crl: None,
            uvm: self.uvm.as_deref().map(part).transpose()?.map(plain_or_base64),
            cce_policy: self.cce_policy.as_deref().map(part).transpose()?.map(plain_or_base64),
        })
    }
}

/// Reads one revocation list, in PEM (RFC 7468, "X509 CRL") or DER.
///
/// # Errors
///
/// [`PartsError`]. Whether AMD signed it is for the checks.
pub fn list(path: &Path) -> Result<Crl, PartsError> {
    let bytes = part(path)?;
    let der = der_of_list(&bytes).unwrap_or(bytes);
    Crl::from_der(&der).map_err(|error| PartsError::List(path.to_owned(), error))
}

/// `None` if it is not PEM.
fn der_of_list(bytes: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(bytes).ok()?.trim();
    let body = text.strip_prefix("-----BEGIN X509 CRL-----")?;
    let body = body.strip_suffix("-----END X509 CRL-----")?;
    STANDARD.decode(body.split_whitespace().collect::<String>()).ok()
}

fn part(path: &Path) -> Result<Vec<u8>, PartsError> {
    read(path, MAX_LENGTH)
}

/// A file of at most `longest` bytes.
pub(crate) fn read(path: &Path, longest: usize) -> Result<Vec<u8>, PartsError> {
    let unreadable = |error| PartsError::Unreadable(path.to_owned(), error);
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(unreadable)?;
    file.take(longest as u64 + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() > longest {
        return Err(PartsError::TooLong(path.to_owned(), longest));
    }
    Ok(bytes)
}

/// Whatever has the length of a report is one; else its text may be hexadecimal or base64.
fn report_of(bytes: Vec<u8>) -> Vec<u8> {
    if bytes.len() == report::LENGTH {
        return bytes;
    }
    let text = std::str::from_utf8(&bytes).unwrap_or_default().trim();
    let decoded = hex::decode(text).ok().or_else(|| STANDARD.decode(text).ok());
    decoded.filter(|decoded| decoded.len() == report::LENGTH).unwrap_or(bytes)
}

/// What decodes as base64 as a whole was base64: COSE is binary, and Rego has spaces.
fn plain_or_base64(bytes: Vec<u8>) -> Vec<u8> {
    let text = std::str::from_utf8(&bytes).unwrap_or_default().trim();
    STANDARD.decode(text).ok().filter(|decoded| !decoded.is_empty()).unwrap_or(bytes)
}

fn certificates_of(bytes: &[u8]) -> Option<Vec<Certificate>> {
    if let Ok(certificates) = Certificate::sequence_from_der(bytes)
        && !certificates.is_empty()
    {
        return Some(certificates);
    }
    let text = std::str::from_utf8(bytes).ok()?.trim();
    let decoded = STANDARD.decode(text).ok();
    if let Some(decoded) = decoded.filter(|decoded| !decoded.is_empty()) {
        return certificates_of(&decoded);
    }
    if let Ok(certificates) = Certificate::sequence_from_pem(text) {
        return Some(certificates);
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Thim {
        vcek_cert: String,
        certificate_chain: String,
    }
    let thim: Thim = serde_json::from_str(text).ok()?;
    let mut certificates = Certificate::sequence_from_pem(&thim.vcek_cert).ok()?;
    certificates.extend(Certificate::sequence_from_pem(&thim.certificate_chain).ok()?);
    Some(certificates)
}

fn is_leaf(certificate: &Certificate) -> bool {
    matches!(certificate.subject_cn().as_deref(), Some("SEV-VCEK" | "SEV-VLEK"))
}

/// ASK and ARK by name, wherever they stand; `None` if one is not there, and the verifier's own are used.
fn issuers_of(leaf: &Certificate, certificates: &[Certificate]) -> Option<Vec<u8>> {
    let ask = certificates.iter().find(|one| leaf.names_as_issuer(one))?;
    let ark = certificates.iter().find(|one| ask.names_as_issuer(one))?;
    Some([ask.der(), ark.der()].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_recognised_in_each_encoding() {
        let report = vec![0xa5; report::LENGTH];
        assert_eq!(report_of(report.clone()), report);
        assert_eq!(report_of(format!("{}\n", hex::encode(&report)).into_bytes()), report);
        assert_eq!(report_of(STANDARD.encode(&report).into_bytes()), report);
        assert_eq!(report_of(vec![1, 2, 3]), [1, 2, 3], "left for the check of its length");
    }

    #[test]
    fn a_policy_is_recognised_in_each_encoding() {
        let rego = b"package policy\n\ndefault allow := false\n".to_vec();
        assert_eq!(plain_or_base64(rego.clone()), rego);
        assert_eq!(plain_or_base64(STANDARD.encode(&rego).into_bytes()), rego);
    }

    #[test]
    fn what_is_no_certificate_is_none() {
        for junk in [b"".as_slice(), b"junk", b"{}", b"AAAA", b"-----BEGIN CERTIFICATE-----"] {
            assert!(certificates_of(junk).is_none_or(|found| found.is_empty()), "{junk:?}");
        }
    }
}
