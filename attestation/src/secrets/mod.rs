//! Sealed secrets (`wire.md` part 3): values of the operator that reach the group past everybody who carries them.
//!
//! A JWE to a key of the owner's vault, which the vault releases to the attested group only (RFC 7516), around a JWS
//! of the operator (RFC 7515), around `{"v":1,"version":n,"group":name,"values":{…}}`. Anybody can encrypt to a public
//! key, so it is the signature that makes the values the operator's; group and version keep whoever owns the
//! envelope's place from handing over another one that the operator signed, for another group or long ago.
//!
//! This module composes and judges texts. It holds no private key: sealing is `client`'s, opening `skr-sidecar`'s.

mod envelope;
mod signer;
mod statement;

use std::collections::BTreeMap;
use std::num::NonZeroU64;

use zeroize::Zeroizing;

pub use envelope::{Envelope, compact as compact_envelope, protected_header};
pub use signer::{NotASigner, Signer};
pub use statement::{Expected, compact as compact_statement, open, signing_input};

/// The longest envelope, in bytes.
pub const MAX_ENVELOPE: usize = 1024 * 1024;

/// The most values.
pub const MAX_VALUES: usize = 256;

/// The longest name of a value, in bytes.
pub const MAX_NAME: usize = 64;

/// The longest value, in bytes.
pub const MAX_VALUE: usize = 64 * 1024;

/// The longest name of a group, in bytes.
pub const MAX_GROUP: usize = 128;

/// What is sealed, or was. Has no `Debug`; values are zeroed when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Secrets {
    /// Raised by the operator with every change.
    pub version: NonZeroU64,
    /// The group that they are for.
    pub group: String,
    /// By name, as a role's table of variables has it.
    pub values: BTreeMap<String, Zeroizing<String>>,
}

/// Why an envelope is refused. Says nothing about values.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Longer than [`MAX_ENVELOPE`].
    #[error("the envelope is too long: {0} bytes, of at most {MAX_ENVELOPE}")]
    TooLong(usize),
    /// Not five base64url parts of the right lengths.
    #[error("not an envelope: it must be a JWE in compact form")]
    NotAnEnvelope,
    /// The header says something else than [`protected_header`] does.
    #[error(
        "not an envelope of ours: its header must name RSA-OAEP-256, A256GCM, JOSE and a key's thumbprint, and nothing else"
    )]
    Header,
    /// The header names another key, or the key in the middle cannot be had with this one.
    #[error("sealed for another key than the one that opens it here")]
    OtherKey,
    /// The tag does not fit header, nonce and ciphertext.
    #[error("changed on its way: the envelope's tag does not fit")]
    Changed,
    /// What is inside is no JWS in compact form, or its algorithm is not ES256.
    #[error(
        "not signed: what is inside must be a JWS by ES256 that names its signer, and nothing else"
    )]
    NotSigned,
    /// Somebody else signed.
    #[error("foreign: signed by another key than the operator's")]
    Foreign,
    /// The operator's key is named, and the signature is not by it.
    #[error("forged: the signature is not by the operator's key, which it names")]
    Forged,
    /// A format that this version does not know.
    #[error("of another format than 1")]
    Format,
    /// Not exactly the members of format 1, or one stands twice.
    #[error("not the JSON of sealed secrets, or with a member that stands twice")]
    Payload,
    /// The operator sealed them for another group.
    #[error("sealed for another group: the envelope was swapped")]
    OtherGroup,
    /// The operator does not accept such an old one any more.
    #[error("too old: version {version}, and {lowest} is the lowest that is accepted")]
    Old {
        /// The envelope's.
        version: u64,
        /// The lowest accepted one.
        lowest: u64,
    },
    /// A newer one was opened since the start.
    #[error("replayed: version {version}, and {open} is open already")]
    Replayed {
        /// The envelope's.
        version: u64,
        /// The open one's.
        open: u64,
    },
    /// Other values under the number of those that are open.
    #[error("numbered twice: version {0} is open with other values")]
    NumberedTwice(u64),
    /// The group's name is none.
    #[error("the group's name must have 1 to {MAX_GROUP} visible ASCII characters")]
    Group,
    /// More than [`MAX_VALUES`].
    #[error("too many values: at most {MAX_VALUES}")]
    TooMany,
    /// The name of a value is none.
    #[error("a value's name must have 1 to {MAX_NAME} characters of A-Z, 0-9 and _")]
    Name,
    /// A value is empty, too long, or holds control characters.
    #[error("{0} must have 1 to {MAX_VALUE} bytes and no control characters")]
    Value(String),
}

impl Secrets {
    /// Whether they are such as can be sealed, and are taken when they are opened.
    ///
    /// # Errors
    ///
    /// [`Refusal::Group`], [`Refusal::TooMany`], [`Refusal::Name`], [`Refusal::Value`].
    pub fn check(&self) -> Result<(), Refusal> {
        if !is_group(&self.group) {
            return Err(Refusal::Group);
        }
        if self.values.len() > MAX_VALUES {
            return Err(Refusal::TooMany);
        }
        for (name, value) in &self.values {
            if !is_name(name) {
                return Err(Refusal::Name);
            }
            let fits = (1..=MAX_VALUE).contains(&value.len());
            if !fits || value.chars().any(char::is_control) {
                return Err(Refusal::Value(name.clone()));
            }
        }
        Ok(())
    }

    /// Whether they may take the place of those that are open.
    ///
    /// # Errors
    ///
    /// [`Refusal::Replayed`]; [`Refusal::NumberedTwice`], for who keeps two envelopes of one number could choose.
    pub fn replaces(&self, open: &Self) -> Result<(), Refusal> {
        let (version, open_version) = (self.version.get(), open.version.get());
        if version < open_version {
            return Err(Refusal::Replayed { version, open: open_version });
        }
        if version == open_version && self.values != open.values {
            return Err(Refusal::NumberedTwice(version));
        }
        Ok(())
    }
}

/// Whether a group may be called that.
#[must_use]
pub fn is_group(name: &str) -> bool {
    (1..=MAX_GROUP).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_graphic())
}

fn is_name(name: &str) -> bool {
    let ours = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
    (1..=MAX_NAME).contains(&name.len()) && name.bytes().all(ours)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secrets(version: u64, values: &[(&str, &str)]) -> Secrets {
        let values = values
            .iter()
            .map(|(name, value)| ((*name).to_owned(), Zeroizing::new((*value).to_owned())));
        Secrets {
            version: NonZeroU64::new(version).unwrap(),
            group: "group".to_owned(),
            values: values.collect(),
        }
    }

    #[test]
    fn values_have_names_and_bounds() {
        assert_eq!(secrets(1, &[("A_1", "x ü")]).check(), Ok(()));
        assert_eq!(secrets(1, &[]).check(), Ok(()));
        for name in ["", "a", "A-B", "A B", "Ä", &"A".repeat(MAX_NAME + 1)] {
            assert_eq!(secrets(1, &[(name, "x")]).check(), Err(Refusal::Name), "{name}");
        }
        let whole = "x".repeat(MAX_VALUE);
        assert_eq!(secrets(1, &[("A", &whole)]).check(), Ok(()));
        for value in ["", "a\nb", "a\0", "\u{7f}", "\u{85}", &format!("{whole}x")] {
            let refused = secrets(1, &[("A", value)]).check();
            assert_eq!(refused, Err(Refusal::Value("A".to_owned())));
        }
        let names: Vec<String> = (0..=MAX_VALUES).map(|n| format!("N{n}")).collect();
        let mut many: Vec<_> = names.iter().map(|name| (name.as_str(), "x")).collect();
        assert_eq!(secrets(1, &many).check(), Err(Refusal::TooMany));
        many.pop();
        assert_eq!(secrets(1, &many).check(), Ok(()));
        for group in ["", "a b", "ä", &"g".repeat(MAX_GROUP + 1)] {
            let unnamed = Secrets { group: group.to_owned(), ..secrets(1, &[]) };
            assert_eq!(unnamed.check(), Err(Refusal::Group), "{group}");
        }
    }

    #[test]
    fn only_newer_ones_or_the_same_take_the_place_of_open_ones() {
        let open = secrets(7, &[("A", "x")]);
        assert_eq!(secrets(8, &[]).replaces(&open), Ok(()));
        assert_eq!(secrets(7, &[("A", "x")]).replaces(&open), Ok(()));
        assert_eq!(secrets(7, &[("A", "y")]).replaces(&open), Err(Refusal::NumberedTwice(7)));
        let old = secrets(6, &[("A", "x")]).replaces(&open);
        assert_eq!(old, Err(Refusal::Replayed { version: 6, open: 7 }));
    }
}
