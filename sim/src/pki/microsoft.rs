//! The signer of utility VM images: root, intermediate and the `ContainerPlat` leaf.
//!
//! Must not know: what is signed (see [`crate::uvm`]). Profile and key usage follow the
//! certificates in real UVM endorsements: RSA, SHA-384, and a leaf whose extended key usage says
//! which product it may sign for.

use der::Encode as _;
use der::asn1::ObjectIdentifier;
use rsa::RsaPrivateKey;
use sha2::{Digest as _, Sha256};
use x509_cert::Certificate;
use x509_cert::ext::pkix::KeyUsages;

use super::certificate::{self as x509, Profile, attribute};
use super::signer::Signer;
use super::{KeyRing, PkiError};
use crate::encoding::b64u;

/// The extended key usage of leaves that sign confidential container images.
pub const CONFIDENTIAL_CONTAINERS: ObjectIdentifier =
    ObjectIdentifier::new_unwrap("1.3.6.1.4.1.311.76.59.1.2");
/// The extended key usage that stands before it in Microsoft's leaves.
const SUPPLY_CHAIN: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.311.76.59.1.1");

const BITS: usize = 3072;

/// The chain and the key that sign UVM endorsements.
#[derive(Debug, Clone)]
pub struct UvmSigner {
    pub(crate) key: RsaPrivateKey,
    /// Leaf, intermediate, root.
    pub(crate) chain: Vec<Certificate>,
    did: String,
}

impl UvmSigner {
    /// Derives the three keys and certificates.
    ///
    /// # Errors
    /// [`PkiError`] when a key cannot be derived.
    pub fn derive(keys: &KeyRing) -> Result<Self, PkiError> {
        let root_signer = Signer::RsaSha384(keys.rsa("uvm/root", BITS)?);
        let ca_signer = Signer::RsaSha384(keys.rsa("uvm/intermediate", BITS)?);
        let leaf_signer = Signer::RsaSha384(keys.rsa("uvm/leaf", BITS)?);
        let usages = [KeyUsages::DigitalSignature, KeyUsages::KeyCertSign, KeyUsages::CRLSign];

        let root_name = microsoft_name("Microsoft Supply Chain RSA Root CA (simulated)")?;
        let root_key = root_signer.public_key()?;
        let root = x509::issue(
            Profile {
                serial: 1,
                issuer: root_name.clone(),
                subject: root_name.clone(),
                extensions: vec![
                    x509::key_usage(&usages)?,
                    x509::basic_constraints(true, None)?,
                    x509::subject_key_id(&root_key)?,
                ],
                public_key: root_key.clone(),
            },
            &root_signer,
            keys.seed(),
        )?;
        let ca_name = microsoft_name("Microsoft SCD Products RSA CA (simulated)")?;
        let ca_key = ca_signer.public_key()?;
        let ca = x509::issue(
            Profile {
                serial: 2,
                issuer: root_name,
                subject: ca_name.clone(),
                extensions: vec![
                    x509::key_usage(&usages)?,
                    x509::subject_key_id(&ca_key)?,
                    x509::basic_constraints(true, None)?,
                    x509::authority_key_id(&root_key)?,
                ],
                public_key: ca_key.clone(),
            },
            &root_signer,
            keys.seed(),
        )?;
        let leaf_key = leaf_signer.public_key()?;
        let leaf = x509::issue(
            Profile {
                serial: 3,
                issuer: ca_name,
                subject: leaf_name()?,
                extensions: vec![
                    x509::key_usage(&[KeyUsages::DigitalSignature])?,
                    x509::extended_key_usage(&[SUPPLY_CHAIN, CONFIDENTIAL_CONTAINERS])?,
                    x509::subject_key_id(&leaf_key)?,
                    x509::authority_key_id(&ca_key)?,
                    x509::basic_constraints(false, None)?,
                ],
                public_key: leaf_key,
            },
            &ca_signer,
            keys.seed(),
        )?;
        let did = did_x509(&root, CONFIDENTIAL_CONTAINERS)?;
        let (Signer::RsaSha384(key) | Signer::RsaSha256(key) | Signer::RsaPssSha384 { key, .. }) =
            leaf_signer;
        Ok(Self { key, chain: vec![leaf, ca, root], did })
    }

    /// The decentralised identifier of this signer: the value of `iss`.
    #[must_use]
    pub fn did(&self) -> &str {
        &self.did
    }

    /// Leaf, intermediate, root.
    #[must_use]
    pub fn chain(&self) -> &[Certificate] {
        &self.chain
    }
}

/// did:x509 (version 0): the SHA-256 of a certificate authority and one policy, an extended key
/// usage of the leaf.
pub(crate) fn did_x509(root: &Certificate, usage: ObjectIdentifier) -> Result<String, PkiError> {
    let fingerprint = b64u(&Sha256::digest(root.to_der()?));
    Ok(format!("did:x509:0:sha256:{fingerprint}::eku:{usage}"))
}

fn microsoft_name(common_name: &str) -> Result<x509_cert::name::Name, PkiError> {
    x509::name(&[
        (attribute::COUNTRY, "US"),
        (attribute::ORGANIZATION, "Microsoft Corporation"),
        (attribute::COMMON_NAME, common_name),
    ])
}

fn leaf_name() -> Result<x509_cert::name::Name, PkiError> {
    x509::name(&[
        (attribute::COUNTRY, "US"),
        (attribute::STATE, "Washington"),
        (attribute::LOCALITY, "Redmond"),
        (attribute::ORGANIZATION, "Microsoft Corporation"),
        (attribute::COMMON_NAME, "ContainerPlat"),
    ])
}
