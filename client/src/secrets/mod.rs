//! Sealing secrets for a group (`wire.md` part 3), on the operator's own machine.
//!
//! The operator's signature is made first and the encryption goes around it, so whoever carries the envelope learns
//! neither values nor signer. What is sealed cannot be opened here again: the other half of the key is in the vault.
//!
//! Must not know where values and keys come from, or where the envelope goes.

mod operator_key;
mod vault_key;

use attestation::secrets::{
    Refusal, Secrets, compact_envelope, compact_statement, protected_header, signing_input,
};
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::rand;
use zeroize::Zeroizing;

pub use operator_key::{NotAnOperatorKey, OperatorKey};
pub use vault_key::{NotAVaultKey, VaultKey};

/// Bytes of a key of AES-256.
const CONTENT_KEY: usize = 32;

/// Bytes of the tag of AES-GCM.
const TAG: usize = 16;

/// Why nothing was sealed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// The group would refuse them.
    #[error("these secrets cannot be sealed")]
    Secrets(#[from] Refusal),
    /// The provider did not sign or encrypt, or has no random numbers.
    #[error("this machine's cryptography failed")]
    Provider,
}

/// Signs and encrypts: an envelope for `SECRETS_ENVELOPE` or the file of `SECRETS_FILE`.
///
/// # Errors
///
/// [`SealError`].
pub fn seal(
    secrets: &Secrets,
    operator: &OperatorKey,
    vault: &VaultKey,
) -> Result<String, SealError> {
    let input = signing_input(secrets, operator.signer().kid())?;
    let statement = compact_statement(&input, &operator.sign(input.as_bytes())?);

    // The key encrypts this one text; a repeated nonce would need a repeated key.
    let mut content_key = Zeroizing::new([0; CONTENT_KEY]);
    let mut nonce = [0; NONCE_LEN];
    rand::fill(content_key.as_mut_slice()).map_err(|_| SealError::Provider)?;
    rand::fill(&mut nonce).map_err(|_| SealError::Provider)?;

    let protected = protected_header(vault.kid());
    // Room for the tag, so that the text is encrypted where it stands and no copy is left.
    let mut sealed = Zeroizing::new(Vec::with_capacity(statement.len() + TAG));
    sealed.extend_from_slice(statement.as_bytes());
    let key = UnboundKey::new(&AES_256_GCM, content_key.as_slice());
    LessSafeKey::new(key.map_err(|_| SealError::Provider)?)
        .seal_in_place_append_tag(
            Nonce::assume_unique_for_key(nonce),
            Aad::from(protected.as_bytes()),
            &mut *sealed,
        )
        .map_err(|_| SealError::Provider)?;
    let encrypted_key = vault.encrypt(content_key.as_slice())?;
    Ok(compact_envelope(&protected, &encrypted_key, &nonce, &sealed)?)
}
