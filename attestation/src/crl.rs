//! AMD's certificate revocation lists: X.509 CRL version 2 (RFC 5280, section 5), signed by the ARK.
//!
//! AMD publishes one for each generation and kind of leaf at its key distribution service (57230, section 4).
//! What a relying party makes of a list's age is for the checks.

use std::ops::Range;

use der::Decode as _;
use der::asn1::ObjectIdentifier;
use x509_cert::crl::{CertificateList, RevokedCert};

use crate::certificate::{Certificate, same_name};
use crate::checks::chain::Chain;
use crate::crypto;
use crate::report::SigningKey;
use crate::signed::{check_lengths, has_long_set, is_pss_sha384, signed_part};

/// The longest list that is looked at, in bytes. AMD's have about 900.
const MAX_LENGTH: usize = 64 * 1024;

/// The most entries. AMD's have one or none.
const MAX_ENTRIES: usize = 1024;

/// deltaCRLIndicator and issuingDistributionPoint: such a list does not speak of every certificate.
const PARTIAL: [ObjectIdentifier; 2] =
    [ObjectIdentifier::new_unwrap("2.5.29.27"), ObjectIdentifier::new_unwrap("2.5.29.28")];

/// A decoded list. Nothing about it is verified.
#[derive(Clone)]
pub struct Crl {
    der: Vec<u8>,
    signed: Range<usize>,
    inner: CertificateList,
    next_update: u64,
}

impl std::fmt::Debug for Crl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Crl").field("updates", &self.updates()).finish_non_exhaustive()
    }
}

/// Why bytes are no list that counts.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CrlError {
    /// Longer than any that is meant here.
    #[error("{0} bytes are too many for a revocation list")]
    TooLong(usize),
    /// An issuer whose name has more attributes than any that is meant here.
    #[error("its issuer's name has too many parts")]
    LongName,
    /// No X.509 CRL in DER.
    #[error("not an X.509 revocation list in DER")]
    Syntax(#[from] der::Error),
    /// More entries than any that is meant here.
    #[error("{0} entries are too many for a revocation list")]
    TooMany(usize),
    /// It promises no next list, or one from before itself.
    #[error("the revocation list does not say when the next one comes")]
    NoNextUpdate,
    /// It speaks of some certificates only, or in a way that this code does not understand.
    #[error("the revocation list has extension {0}, which is not understood")]
    Extension(ObjectIdentifier),
    /// Another issuer's.
    #[error("the revocation list is not one of this root")]
    Issuer,
    /// Not signed by the root, or the root may not sign lists.
    #[error("the revocation list is not signed by its root")]
    Signature,
}

impl Crl {
    /// Decodes exactly one list.
    ///
    /// # Errors
    ///
    /// [`CrlError`], but neither `Issuer` nor `Signature`.
    pub fn from_der(bytes: &[u8]) -> Result<Self, CrlError> {
        if bytes.len() > MAX_LENGTH {
            return Err(CrlError::TooLong(bytes.len()));
        }
        check_lengths(bytes)?;
        if has_long_set(bytes) {
            return Err(CrlError::LongName);
        }
        let inner = CertificateList::from_der(bytes)?;
        let list = &inner.tbs_cert_list;
        let entries = list.revoked_certificates.as_deref().unwrap_or_default();
        if entries.len() > MAX_ENTRIES {
            return Err(CrlError::TooMany(entries.len()));
        }
        let of_entries = entries.iter().filter_map(|entry| entry.crl_entry_extensions.as_ref());
        let strange = list
            .crl_extensions
            .iter()
            .chain(of_entries)
            .flatten()
            .find(|extension| extension.critical || PARTIAL.contains(&extension.extn_id));
        if let Some(extension) = strange {
            return Err(CrlError::Extension(extension.extn_id));
        }
        let this_update = list.this_update.to_unix_duration();
        let next_update = list.next_update.map(|time| time.to_unix_duration());
        let next_update = next_update.filter(|next| *next >= this_update);
        let next_update = next_update.ok_or(CrlError::NoNextUpdate)?.as_secs();
        Ok(Self { der: bytes.to_vec(), signed: signed_part(bytes)?, inner, next_update })
    }

    /// Whether it names `root` as its issuer.
    #[must_use]
    pub fn names_as_issuer(&self, root: &Certificate) -> bool {
        same_name(&self.inner.tbs_cert_list.issuer, root.subject())
    }

    /// Whether `root` issued it: by its name, with its key (RSASSA-PSS as in certificates), and allowed to.
    ///
    /// # Errors
    ///
    /// `Issuer` or `Signature`.
    pub fn verify(&self, root: &Certificate) -> Result<(), CrlError> {
        if !self.names_as_issuer(root) {
            return Err(CrlError::Issuer);
        }
        let list = &self.inner;
        let as_amd_does = is_pss_sha384(&list.signature_algorithm, &list.tbs_cert_list.signature);
        let parts = (root.rsa_key(), self.der.get(self.signed.clone()), list.signature.as_bytes());
        match parts {
            (Some(key), Some(signed), Some(signature)) if as_amd_does && root.may_sign_lists() => {
                crypto::verify_pss_sha384(key, signed, signature).map_err(|_| CrlError::Signature)
            }
            _ => Err(CrlError::Signature),
        }
    }

    /// First second for which it speaks, and the one for which the next list is promised, in Unix time.
    #[must_use]
    pub fn updates(&self) -> (u64, u64) {
        (self.inner.tbs_cert_list.this_update.to_unix_duration().as_secs(), self.next_update)
    }

    /// Whether it revokes a serial number: the content of its INTEGER.
    #[must_use]
    pub fn revokes(&self, serial: &[u8]) -> bool {
        let same = |entry: &RevokedCert| entry.serial_number.as_bytes() == serial;
        self.inner.tbs_cert_list.revoked_certificates.iter().flatten().any(same)
    }
}

/// What an authentic list says about one chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// First second for which it speaks, in Unix time.
    pub this_update: u64,
    /// The second for which the next list is promised.
    pub next_update: u64,
    /// The certificates of the chain that it revokes.
    pub revoked: Vec<&'static str>,
}

/// Holds a chain against a list.
///
/// VCEKs are all of serial number 0: AMD takes their issuer back, not them. A VLEK may be named.
///
/// # Errors
///
/// [`CrlError`], if the list is not an authentic one of the chain's root.
pub(crate) fn held_against(list: &Crl, chain: &Chain) -> Result<Listed, CrlError> {
    list.verify(&chain.ark)?;
    let mut named = vec![("ARK", &chain.ark), ("ASK", &chain.ask)];
    if chain.vek.kind == SigningKey::Vlek {
        named.push(("VLEK", &chain.leaf));
    }
    let revoked = named.into_iter().filter(|(_, certificate)| list.revokes(certificate.serial()));
    let (this_update, next_update) = list.updates();
    Ok(Listed { this_update, next_update, revoked: revoked.map(|(name, _)| name).collect() })
}
