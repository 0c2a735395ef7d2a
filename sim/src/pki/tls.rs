//! The certificate authority of the simulated HTTPS servers, and what it issues.
//!
//! Must not know: the servers. Clients get one root, `tls-ca.pem`; servers send leaf and issuing
//! CA. The leaf that signs key releases hangs under the same root, since that is what clients of
//! Key Vault check: a chain to a public root, and the vault's host name.

use std::net::IpAddr;

use der::asn1::{Ia5String, ObjectIdentifier, OctetString};
use rsa::RsaPrivateKey;
use x509_cert::Certificate;
use x509_cert::ext::pkix::KeyUsages;
use x509_cert::ext::pkix::name::GeneralName;

use super::certificate::{self as x509, Profile, attribute};
use super::signer::{Signer, public_key_info};
use super::{KeyRing, PkiError};

const SERVER_AUTH: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.1");
const CLIENT_AUTH: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.2");
const BITS: usize = 2048;

/// Root and issuing CA.
#[derive(Debug)]
pub struct TlsAuthority {
    root: Certificate,
    issuing: Certificate,
    issuing_signer: Signer,
}

/// A server's key and chain.
#[derive(Debug, Clone)]
pub struct ServerIdentity {
    /// The P-256 private key.
    pub key: p256::SecretKey,
    /// Leaf, issuing CA.
    pub chain: Vec<Certificate>,
}

/// The key that signs JSON Web Signatures, with its chain.
#[derive(Debug, Clone)]
pub struct JwsIdentity {
    /// The RSA-2048 private key.
    pub key: RsaPrivateKey,
    /// Leaf, issuing CA, root.
    pub chain: Vec<Certificate>,
}

impl TlsAuthority {
    /// Derives root and issuing CA.
    ///
    /// # Errors
    /// [`PkiError`] when a key cannot be derived.
    pub fn derive(keys: &KeyRing) -> Result<Self, PkiError> {
        let root_signer = Signer::RsaSha256(keys.rsa("tls/root", BITS)?);
        let issuing_signer = Signer::RsaSha384(keys.rsa("tls/issuing", BITS)?);
        let usages = [KeyUsages::DigitalSignature, KeyUsages::KeyCertSign, KeyUsages::CRLSign];
        let root_name = organization_name("Simulated Global Root G2")?;
        let root_key = root_signer.public_key()?;
        let root = x509::issue(
            Profile {
                serial: 1,
                issuer: root_name.clone(),
                subject: root_name.clone(),
                extensions: vec![
                    x509::basic_constraints(true, None)?,
                    x509::key_usage(&usages)?,
                    x509::subject_key_id(&root_key)?,
                ],
                public_key: root_key.clone(),
            },
            &root_signer,
            keys.seed(),
        )?;
        let issuing_key = issuing_signer.public_key()?;
        let issuing = x509::issue(
            Profile {
                serial: 2,
                issuer: root_name,
                subject: organization_name("Simulated RSA TLS Issuing CA 01")?,
                extensions: vec![
                    x509::subject_key_id(&issuing_key)?,
                    x509::authority_key_id(&root_key)?,
                    x509::key_usage(&usages)?,
                    x509::extended_key_usage(&[SERVER_AUTH, CLIENT_AUTH])?,
                    x509::basic_constraints(true, Some(0))?,
                ],
                public_key: issuing_key,
            },
            &root_signer,
            keys.seed(),
        )?;
        Ok(Self { root, issuing, issuing_signer })
    }

    /// The root that clients trust.
    #[must_use]
    pub fn root(&self) -> &Certificate {
        &self.root
    }

    /// The root as PEM.
    ///
    /// # Errors
    /// [`PkiError`] when it does not encode.
    pub fn root_pem(&self) -> Result<String, PkiError> {
        x509::to_pem(&self.root)
    }

    /// Key and chain of one HTTPS server, valid for `names` (DNS names and IP addresses).
    ///
    /// # Errors
    /// [`PkiError`] when a name cannot stand in a certificate.
    pub fn server(&self, keys: &KeyRing, names: &[String]) -> Result<ServerIdentity, PkiError> {
        let key = keys.p256(&format!("tls/server/{}", names.join(",")));
        let common_name = names.first().map_or("localhost", String::as_str);
        let leaf = self.leaf(keys, common_name, names, public_key_info(&key.public_key())?, 16)?;
        Ok(ServerIdentity { key, chain: vec![leaf, self.issuing.clone()] })
    }

    /// Key and chain that sign key releases of the vault with these names. `common_name` is the
    /// service's (`vault.azure.net`), as in Azure; what clients match are the names.
    ///
    /// # Errors
    /// [`PkiError`] when a key cannot be derived.
    pub fn jws_signer(
        &self,
        keys: &KeyRing,
        common_name: &str,
        names: &[String],
    ) -> Result<JwsIdentity, PkiError> {
        let signer = Signer::RsaSha256(keys.rsa("vault/jws", BITS)?);
        let leaf = self.leaf(keys, common_name, names, signer.public_key()?, 17)?;
        let (Signer::RsaSha256(key) | Signer::RsaSha384(key) | Signer::RsaPssSha384 { key, .. }) =
            signer;
        Ok(JwsIdentity { key, chain: vec![leaf, self.issuing.clone(), self.root.clone()] })
    }

    fn leaf(
        &self,
        keys: &KeyRing,
        common_name: &str,
        names: &[String],
        public_key: x509_cert::spki::SubjectPublicKeyInfoOwned,
        serial: u32,
    ) -> Result<Certificate, PkiError> {
        let issuing = &self.issuing.tbs_certificate;
        let names = names.iter().map(|name| general_name(name)).collect::<Result<Vec<_>, _>>()?;
        x509::issue(
            Profile {
                serial,
                issuer: issuing.subject.clone(),
                subject: x509::name(&[(attribute::COMMON_NAME, common_name)])?,
                extensions: vec![
                    x509::key_usage(&[KeyUsages::DigitalSignature, KeyUsages::KeyEncipherment])?,
                    x509::extended_key_usage(&[SERVER_AUTH, CLIENT_AUTH])?,
                    x509::subject_alt_name(names)?,
                    x509::basic_constraints(false, None)?,
                    x509::subject_key_id(&public_key)?,
                    x509::authority_key_id(&issuing.subject_public_key_info)?,
                ],
                public_key,
            },
            &self.issuing_signer,
            keys.seed(),
        )
    }
}

/// A self-signed RSA leaf, as Azure Attestation publishes for its signing keys.
pub(crate) fn self_signed(
    keys: &KeyRing,
    label: &str,
    bits: usize,
    common_name: &str,
) -> Result<(RsaPrivateKey, Certificate), PkiError> {
    let key = keys.rsa(label, bits)?;
    let signer = Signer::RsaSha256(key.clone());
    let name = x509::name(&[(attribute::COMMON_NAME, common_name)])?;
    let public_key = signer.public_key()?;
    let certificate = x509::issue(
        Profile {
            serial: 1,
            issuer: name.clone(),
            subject: name,
            extensions: vec![
                x509::raw_extension(
                    ObjectIdentifier::new_unwrap("2.5.29.19"),
                    false,
                    &[0x30, 0x00],
                )?,
                x509::subject_key_id(&public_key)?,
                x509::authority_key_id(&public_key)?,
            ],
            public_key,
        },
        &signer,
        keys.seed(),
    )?;
    Ok((key, certificate))
}

fn organization_name(common_name: &str) -> Result<x509_cert::name::Name, PkiError> {
    x509::name(&[
        (attribute::COUNTRY, "US"),
        (attribute::ORGANIZATION, "Simulated World"),
        (attribute::COMMON_NAME, common_name),
    ])
}

fn general_name(name: &str) -> Result<GeneralName, PkiError> {
    Ok(match name.parse::<IpAddr>() {
        Ok(IpAddr::V4(ip)) => GeneralName::IpAddress(OctetString::new(ip.octets())?),
        Ok(IpAddr::V6(ip)) => GeneralName::IpAddress(OctetString::new(ip.octets())?),
        Err(_) => GeneralName::DnsName(Ia5String::new(name)?),
    })
}
