//! The password of the admin pages: whether what somebody typed is it.
//!
//! Only its digest is kept, and digests are compared in constant time, so that nothing about a wrong guess is told by how
//! long it took. Must not know who asks, or how often.

use attestation::crypto::sha256;
use aws_lc_rs::constant_time::verify_slices_are_equal;
use zeroize::Zeroizing;

/// The digest of a password. Has no `Debug`; zeroed when dropped.
pub(super) struct Password(Zeroizing<[u8; 32]>);

impl Password {
    /// `None` for an empty one, which would let everybody in.
    pub(super) fn new(text: &str) -> Option<Self> {
        (!text.is_empty()).then(|| Self(Zeroizing::new(sha256(text.as_bytes()))))
    }

    /// Whether both are the same.
    pub(super) fn equals(&self, other: &Self) -> bool {
        verify_slices_are_equal(&*self.0, &*other.0).is_ok()
    }

    /// Whether this is it.
    pub(super) fn is(&self, text: &str) -> bool {
        let said = Zeroizing::new(sha256(text.as_bytes()));
        verify_slices_are_equal(&*self.0, &*said).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_password_is_the_password() {
        let password = Password::new("pässword").unwrap();
        assert!(password.is("pässword"));
        for wrong in ["", "passwor", "pässword ", "PÄSSWORD"] {
            assert!(!password.is(wrong), "{wrong}");
        }
        assert!(Password::new("").is_none());
        let other = |text| Password::new(text).unwrap();
        assert!(password.equals(&other("pässword")) && !password.equals(&other("password")));
    }
}
