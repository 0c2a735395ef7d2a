//! Signing reports, rightly and in every wrong way that has been seen.
//!
//! Must not know: where the key comes from. The signature structure of the ABI holds R and S as
//! 72-byte little-endian numbers and 368 zero bytes.

use p384::ecdsa::{Signature, SigningKey};
use rsa::signature::Signer as _;

use super::layout::{REPORT_LEN, SIGNED_LEN};
use super::{Report, ReportError};

/// Length of R and of S in the signature structure.
pub(super) const COMPONENT_LEN: usize = 72;

/// How R and S are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SignatureForm {
    /// As the ABI says: little-endian, zero padding.
    #[default]
    Abi,
    /// Big-endian numbers at the start of their fields.
    BigEndian,
    /// S where R belongs, and the other way round.
    Swapped,
    /// A non-zero byte in the padding behind R.
    DirtyPadding,
    /// R and S of zero.
    Zero,
    /// One bit of R flipped.
    BitFlip,
}

impl Report {
    /// The complete report, signed by `key` as the ABI says.
    ///
    /// # Errors
    /// [`ReportError::Signature`] when the signer fails.
    pub fn sign(&self, key: &p384::SecretKey) -> Result<[u8; REPORT_LEN], ReportError> {
        self.sign_as(key, SignatureForm::Abi)
    }

    /// The complete report, with its signature written in the given form.
    ///
    /// # Errors
    /// [`ReportError::Signature`] when the signer fails.
    pub fn sign_as(
        &self,
        key: &p384::SecretKey,
        form: SignatureForm,
    ) -> Result<[u8; REPORT_LEN], ReportError> {
        let body = self.to_body();
        let signature: Signature = SigningKey::from(key).try_sign(&body)?;
        let (mut r, mut s): ([u8; 48], [u8; 48]) =
            (signature.r().to_bytes().into(), signature.s().to_bytes().into());
        match form {
            SignatureForm::BigEndian => {}
            SignatureForm::Zero => (r, s) = ([0; 48], [0; 48]),
            SignatureForm::Swapped => {
                std::mem::swap(&mut r, &mut s);
                r.reverse();
                s.reverse();
            }
            SignatureForm::Abi | SignatureForm::DirtyPadding | SignatureForm::BitFlip => {
                r.reverse();
                s.reverse();
            }
        }
        let mut components = [0; 2 * COMPONENT_LEN];
        let (field_r, field_s) = components.split_at_mut(COMPONENT_LEN);
        for (field, value) in [(field_r, r), (field_s, s)] {
            for (to, from) in field.iter_mut().zip(value) {
                *to = from;
            }
        }
        match form {
            SignatureForm::DirtyPadding => components[60] = 1,
            SignatureForm::BitFlip => components[0] ^= 1,
            _ => {}
        }
        let mut bytes = [0; REPORT_LEN];
        for (to, from) in bytes.iter_mut().zip(body.iter().chain(&components)) {
            *to = *from;
        }
        Ok(bytes)
    }
}

const _: () = assert!(SIGNED_LEN + 512 == REPORT_LEN);
