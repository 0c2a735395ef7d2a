//! What readers and operators make: a reader's pair of keys, and the operator's word on who can read.

use age::secrecy::ExposeSecret as _;
use age::x25519::{Identity, Recipient};
use attestation::log_record::{NotReaders, Readers, compact_readers};
use zeroize::Zeroizing;

use super::document::date;
use crate::secrets::{OperatorKey, SealError};

/// A new pair of keys for a reader.
pub struct Pair {
    /// The file for the secret half, as `age-keygen` writes it.
    pub file: Zeroizing<String>,
    /// The public half.
    pub recipient: String,
}

/// Why nothing was signed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignError {
    /// No group would take it.
    #[error("this list of readers cannot be signed")]
    Readers(#[from] NotReaders),
    /// One that age does not know.
    #[error("reader {0} is no age recipient: give the public half (age1…)")]
    Recipient(usize),
    /// The provider did not sign.
    #[error(transparent)]
    Provider(#[from] SealError),
}

/// Makes a pair at this time, in Unix seconds.
#[must_use]
pub fn pair(now: u64) -> Pair {
    let identity = Identity::generate();
    let recipient = identity.to_public().to_string();
    let secret = identity.to_string();
    let text = [
        "# created: ",
        &date(now),
        "\n# public key: ",
        &recipient,
        "\n",
        secret.expose_secret(),
        "\n",
    ];
    // One buffer that does not grow: one that did would leave what it held behind.
    let mut file = Zeroizing::new(String::with_capacity(text.iter().map(|part| part.len()).sum()));
    text.iter().for_each(|part| file.push_str(part));
    Pair { file, recipient }
}

/// Signs a list of readers, for the file of `LOG_RECIPIENTS_FILE`.
///
/// # Errors
///
/// [`SignError`].
pub fn sign(readers: &Readers, operator: &OperatorKey) -> Result<String, SignError> {
    for (recipient, number) in readers.recipients.iter().zip(1..) {
        recipient.parse::<Recipient>().map_err(|_| SignError::Recipient(number))?;
    }
    let input = readers.signing_input(operator.signer().kid())?;
    Ok(compact_readers(&input, &operator.sign(input.as_bytes())?))
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU64;

    use super::*;
    use crate::logs::Identities;

    #[test]
    fn a_pair_is_in_ages_own_form() {
        let pair = pair(1_700_000_000);
        assert!(Identities::from_text(&pair.file).is_ok());
        let lines: Vec<&str> = pair.file.lines().collect();
        assert_eq!(lines[0], "# created: 2023-11-14T22:13:20Z");
        assert_eq!(lines[1], format!("# public key: {}", pair.recipient));
        let identity: Identity = lines[2].parse().unwrap();
        assert_eq!(identity.to_public().to_string(), pair.recipient);
    }

    #[test]
    fn a_signed_list_is_the_operators() {
        let (operator, _) = OperatorKey::generate().ok().unwrap();
        let mut readers = Readers {
            group: "group".to_owned(),
            version: NonZeroU64::MIN,
            recipients: vec![pair(0).recipient, pair(0).recipient],
        };
        let signed = sign(&readers, &operator).unwrap();
        assert_eq!(Readers::signed_by(&signed, operator.signer()).as_ref(), Ok(&readers));
        let (other, _) = OperatorKey::generate().ok().unwrap();
        assert!(Readers::signed_by(&signed, other.signer()).is_err());
        readers.recipients[1] = "age1qqqq".to_owned();
        assert_eq!(sign(&readers, &operator), Err(SignError::Recipient(2)));
        readers.recipients.clear();
        assert_eq!(sign(&readers, &operator), Err(NotReaders::Number(0).into()));
    }
}
