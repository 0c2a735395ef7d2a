//! Who can read: a list of age recipients, and the operator's word for a new one.
//!
//! A word is a compact JWS (RFC 7515, ES256) over `{"v":1,"group":name,"version":n,"recipients":["age1…"]}` by the
//! operator's key, whose public half is written as that of sealed secrets. Group and version keep whoever owns the
//! file's place from handing over another list that the operator signed, for another group or long ago. The `typ` of
//! its header keeps what the same key signs of another kind from being one.
//!
//! Composes and judges texts. Must not know what age does with a recipient.

use std::num::NonZeroU64;

use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::crypto::sha256;
use crate::encoding::to_b64u;
use crate::jws::{Algorithm, Jws, JwsError};
use crate::secrets::{MAX_GROUP, Signer, is_group};

/// `typ` of a list's header.
pub const READERS_TYPE: &str = "privatemode-confidential-log-readers+jws";

/// The most readers that a log may have: each costs every segment one stanza.
pub const MAX_READERS: usize = 16;

/// The longest recipient, in bytes; one for X25519 has 62.
const MAX_RECIPIENT: usize = 128;

/// The longest signed list, in bytes.
pub const MAX_SIGNED: usize = 16 * 1024;

/// A list of readers, as the operator signs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Readers {
    /// The group that it is for.
    pub group: String,
    /// Raised by the operator with every change.
    pub version: NonZeroU64,
    /// Age recipients, in the operator's order.
    pub recipients: Vec<String>,
}

/// The payload.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Payload {
    v: u8,
    group: String,
    version: NonZeroU64,
    recipients: Vec<String>,
}

/// What the enforcement policy says about lists of readers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    /// Whose word it must be.
    pub signer: Signer,
    /// The group that it must be for.
    pub group: String,
    /// The lowest version.
    pub min_version: NonZeroU64,
}

/// Why something is no list of readers. Nothing of it is repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotReaders {
    /// The group's name is none.
    #[error("the group's name must have 1 to {MAX_GROUP} visible ASCII characters")]
    Group,
    /// None, or too many.
    #[error("there must be 1 to {MAX_READERS} readers, these are {0}")]
    Number(usize),
    /// Not an age recipient.
    #[error("reader {0} is no age recipient: give the public half (age1…)")]
    Recipient(usize),
    /// One stands twice.
    #[error("reader {0} stands there twice: remove one of them")]
    Double(usize),
}

/// Why a signed list is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Not a compact JWS over a list, in the one form that there is.
    #[error("not a signed list of readers: `pmc logs recipients` makes one")]
    Form,
    /// Its content is none.
    #[error("not a list of readers")]
    Readers(#[from] NotReaders),
    /// Not signed by the operator's key.
    #[error("not signed by the operator's key")]
    Foreign(#[source] JwsError),
    /// The operator signed it for another group.
    #[error("signed for another group: the list was swapped")]
    OtherGroup,
    /// The operator does not accept such an old one any more.
    #[error("too old: version {version}, and {lowest} is the lowest that is accepted")]
    Old {
        /// The list's.
        version: u64,
        /// The lowest accepted one.
        lowest: u64,
    },
}

impl Readers {
    /// What records name a list by: SHA-256 over the recipients, one a line, each line ended by `\n`.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        Self::digest_of(&self.recipients)
    }

    /// The same of recipients alone.
    #[must_use]
    pub fn digest_of(recipients: &[String]) -> [u8; 32] {
        let lines: String =
            recipients.iter().flat_map(|recipient| [recipient.as_str(), "\n"]).collect();
        sha256(lines.as_bytes())
    }

    /// Whether it can be signed, and is taken when it is.
    ///
    /// # Errors
    ///
    /// [`NotReaders`].
    pub fn check(&self) -> Result<(), NotReaders> {
        if !is_group(&self.group) {
            return Err(NotReaders::Group);
        }
        if !(1..=MAX_READERS).contains(&self.recipients.len()) {
            return Err(NotReaders::Number(self.recipients.len()));
        }
        for (at, recipient) in self.recipients.iter().enumerate() {
            if !is_recipient(recipient) {
                return Err(NotReaders::Recipient(at + 1));
            }
            if self.recipients.iter().take(at).any(|earlier| earlier == recipient) {
                return Err(NotReaders::Double(at + 1));
            }
        }
        Ok(())
    }

    /// What the operator signs (RFC 7515 section 5.1, step 8), for a signer with this RFC 7638 thumbprint.
    ///
    /// # Errors
    ///
    /// [`NotReaders`].
    pub fn signing_input(&self, kid: &str) -> Result<String, NotReaders> {
        self.check()?;
        let header = json!({"alg": "ES256", "kid": kid, "typ": READERS_TYPE});
        let Self { group, version, recipients } = self;
        let payload = json!({"v": 1, "group": group, "version": version, "recipients": recipients});
        let parts = [header, payload].map(|part| to_b64u(part.to_string().as_bytes()));
        Ok(parts.join("."))
    }

    /// What a list says, whoever signed it: where somebody else vouches for it, as a record of an attested boot does.
    ///
    /// # Errors
    ///
    /// [`Refusal::Form`], [`Refusal::Readers`].
    pub fn unverified(signed: &str) -> Result<Self, Refusal> {
        Self::of(&parse(signed)?)
    }

    /// Believes what this operator signed, whatever the group and the version.
    ///
    /// # Errors
    ///
    /// [`Refusal::Form`], [`Refusal::Readers`], [`Refusal::Foreign`].
    pub fn signed_by(signed: &str, signer: &Signer) -> Result<Self, Refusal> {
        let jws = parse(signed)?;
        jws.verify(Algorithm::Es256, signer.point()).map_err(Refusal::Foreign)?;
        Self::of(&jws)
    }

    /// Believes what the expected operator signed for the expected group, and nothing else.
    ///
    /// # Errors
    ///
    /// [`Refusal`].
    pub fn open(signed: &str, expected: &Expected) -> Result<Self, Refusal> {
        let readers = Self::signed_by(signed, &expected.signer)?;
        if readers.group != expected.group {
            return Err(Refusal::OtherGroup);
        }
        if readers.version < expected.min_version {
            let (version, lowest) = (readers.version.get(), expected.min_version.get());
            return Err(Refusal::Old { version, lowest });
        }
        Ok(readers)
    }

    fn of(jws: &Jws<'_>) -> Result<Self, Refusal> {
        let payload: Payload = jws.unverified().map_err(|_| Refusal::Form)?;
        let Payload { v, group, version, recipients } = payload;
        if v != 1 {
            return Err(Refusal::Form);
        }
        let readers = Self { group, version, recipients };
        readers.check()?;
        Ok(readers)
    }
}

/// Puts the JWS together. `signature` is r ‖ s.
#[must_use]
pub fn compact_readers(signing_input: &str, signature: &[u8; 64]) -> String {
    [signing_input, &to_b64u(signature)].join(".")
}

fn parse(signed: &str) -> Result<Jws<'_>, Refusal> {
    let jws = Jws::parse(signed, MAX_SIGNED).map_err(|_| Refusal::Form)?;
    let typed = jws.header_text("typ") == Some(READERS_TYPE);
    typed.then_some(jws).ok_or(Refusal::Form)
}

/// Whether a text can be an age recipient: Bech32 in lower case (BIP 173). Its checksum is for who encrypts to it.
pub(super) fn is_recipient(text: &str) -> bool {
    let data = text.strip_prefix("age1");
    text.len() <= MAX_RECIPIENT
        && data.is_some_and(|data| {
            !data.is_empty()
                && data.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
        })
}
