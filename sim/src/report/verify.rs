//! Verifying the signature of a report.
//!
//! Must not know: which key to trust; it is an argument. The signature is checked over the bytes
//! that came in, never over bytes that were written anew.

use p384::ecdsa::{Signature, VerifyingKey};
use rsa::signature::Verifier as _;
use x509_cert::Certificate;

use super::layout::{REPORT_LEN, SIGNED_LEN};
use super::sign::COMPONENT_LEN;

/// A report that is malformed or not signed by the key in question.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReportError {
    /// Not exactly 1184 bytes.
    #[error("a report has 1184 bytes, not {actual}")]
    Length {
        /// The length that came.
        actual: usize,
    },
    /// A version that the ABI does not define.
    #[error("unknown report version {actual}")]
    Version {
        /// The version that came.
        actual: u32,
    },
    /// A byte that must be zero is not.
    #[error("reserved byte at {offset:#x} is not zero")]
    Reserved {
        /// Its offset in the report.
        offset: usize,
    },
    /// The certificate's key is no P-384 key.
    #[error("the endorsement key is no P-384 key")]
    Key,
    /// The signature does not verify, or could not be made.
    #[error("the report's signature does not verify")]
    Signature,
}

impl From<rsa::signature::Error> for ReportError {
    fn from(_: rsa::signature::Error) -> Self {
        Self::Signature
    }
}

/// Verifies ECDSA P-384 with SHA-384 over the first 672 bytes, with R and S as the ABI writes
/// them and zero in all padding.
///
/// # Errors
/// [`ReportError`] when the length is wrong, the key is of another kind or the signature does
/// not verify.
pub fn verify_signature(report: &[u8], endorsement: &Certificate) -> Result<(), ReportError> {
    let report: &[u8; REPORT_LEN] =
        report.try_into().map_err(|_| ReportError::Length { actual: report.len() })?;
    let (body, signature) = report.split_at(SIGNED_LEN);
    let (r, rest) = signature.split_at(COMPONENT_LEN);
    let (s, padding) = rest.split_at(COMPONENT_LEN);
    if padding.iter().any(|byte| *byte != 0) {
        return Err(ReportError::Signature);
    }
    let signature = Signature::from_scalars(component(r)?, component(s)?)?;
    let point = endorsement
        .tbs_certificate
        .subject_public_key_info
        .subject_public_key
        .as_bytes()
        .ok_or(ReportError::Key)?;
    let key = VerifyingKey::from_sec1_bytes(point).map_err(|_| ReportError::Key)?;
    Ok(key.verify(body, &signature)?)
}

/// 48 little-endian bytes and 24 zeros, as a big-endian number.
fn component(field: &[u8]) -> Result<[u8; 48], ReportError> {
    let (value, padding) = field.split_at_checked(48).ok_or(ReportError::Signature)?;
    if padding.iter().any(|byte| *byte != 0) {
        return Err(ReportError::Signature);
    }
    let mut value: [u8; 48] = value.try_into().map_err(|_| ReportError::Signature)?;
    value.reverse();
    Ok(value)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::pki::KeyRing;
    use crate::pki::amd::AmdAuthority;
    use crate::pki::certificate::{from_der, from_pem_chain};
    use crate::report::{Report, SignatureForm};
    use crate::seed::Seed;
    use crate::tcb::Product;
    use crate::testing;

    #[test]
    fn a_built_report_verifies_and_every_wrong_one_does_not() {
        let keys = KeyRing::new(Seed::default(), testing::state());
        let amd = AmdAuthority::derive(&keys, Product::Milan).unwrap();
        let tcb = Product::Milan.current_tcb();
        let vcek = amd.vcek(&[7; 64], tcb).unwrap();
        let report = Report::aci(Product::Milan, tcb);
        let bytes = report.sign(&vcek.key).unwrap();
        verify_signature(&bytes, &vcek.certificate).unwrap();
        assert_eq!(Report::parse(&bytes).unwrap(), report);

        for position in [0, 0x50, 0x90, 0x29f, 0x2a0, 0x2d0, 0x2e8, 0x31f, 0x49f] {
            let mut forged = bytes;
            forged[position] ^= 1;
            assert!(verify_signature(&forged, &vcek.certificate).is_err(), "{position:#x}");
        }
        for form in [
            SignatureForm::BigEndian,
            SignatureForm::Swapped,
            SignatureForm::DirtyPadding,
            SignatureForm::Zero,
            SignatureForm::BitFlip,
        ] {
            let forged = report.sign_as(&vcek.key, form).unwrap();
            assert!(verify_signature(&forged, &vcek.certificate).is_err(), "{form:?}");
        }
        let other = amd.vcek(&[7; 64], tcb.older()).unwrap();
        assert!(verify_signature(&bytes, &other.certificate).is_err());
        assert!(verify_signature(&bytes[1..], &vcek.certificate).is_err());
    }

    /// Real reports prove the layout: they parse, encode to the same bytes, and verify.
    #[test]
    fn recorded_reports_parse_and_verify_with_their_own_leaf_only() {
        let Some(folder) = testing::vectors() else { return };
        let pairs = [
            ("aci-reports/milan_attestation_report.bin", "aci-reports/milan_vcek.pem"),
            ("aci-reports/milan_attestation_report.bin", "aci-reports/milan_vcek_reissued.pem"),
            ("aci-reports/genoa_attestation_report.bin", "aci-reports/genoa_vcek.pem"),
            ("trustee/snp/test-report.bin", "trustee/snp/test-vcek.der"),
            ("trustee/snp/test-vlek-report.bin", "trustee/snp/test-vlek.der"),
            ("go-sev-guest/testdata/attestation.bin", "go-sev-guest/testdata/vcek.testcer"),
            (
                "ms-confidential-sidecar/attest/snp_report.bin",
                "ms-confidential-sidecar/attest/uvm_host_amd_certificate.pem",
            ),
        ];
        let leaf = |name: &str| {
            let bytes = fs::read(folder.join(name)).unwrap();
            if bytes.starts_with(b"-----") {
                from_pem_chain(str::from_utf8(&bytes).unwrap()).unwrap().remove(0)
            } else {
                from_der(&bytes).unwrap()
            }
        };
        for (position, (report_name, leaf_name)) in pairs.iter().enumerate() {
            let bytes = fs::read(folder.join(report_name)).unwrap();
            let report = Report::parse(&bytes).unwrap();
            assert_eq!(report.to_body(), bytes[..SIGNED_LEN], "{report_name}");
            verify_signature(&bytes, &leaf(leaf_name)).unwrap();
            for (other, (other_report, other_leaf)) in pairs.iter().enumerate() {
                if other != position && other_report != report_name {
                    assert!(verify_signature(&bytes, &leaf(other_leaf)).is_err());
                }
            }
        }
    }
}
