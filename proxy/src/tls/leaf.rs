//! A leaf certificate with what proves it: made here with evidence in it, or read from files.

use std::io;
use std::path::Path;
use std::sync::Arc;

use attestation::certificate::Certificate;
use attestation::evidence::ID_PE_CMW;
use attestation::{Evidence, crypto};
use rcgen::{CertificateParams, CustomExtension, DistinguishedName, DnType, PublicKeyData as _};
use rustls::ServerConfig;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use service::plain_file;
use service::roots::provider;
use time::OffsetDateTime;

use super::key::LeafKey;
use super::{Versions, server_config};

/// The longest chain file that is read.
const MAX_CHAIN: u64 = 256 * 1024;

/// How far before now it begins, for clients whose clock is behind.
const BACKDATED: u64 = 300;

/// A certificate that connections are served with.
pub(crate) struct Leaf {
    /// To accept connections with.
    pub(crate) config: Arc<ServerConfig>,
    /// The certificate (DER).
    pub(crate) certificate: CertificateDer<'static>,
    /// SHA-256 of its SubjectPublicKeyInfo (DER).
    pub(crate) spki_sha256: [u8; 32],
    /// SHA-256 of the certificate (DER).
    pub(crate) certificate_sha256: [u8; 32],
    /// End of its life, in Unix seconds.
    pub(crate) not_after: u64,
}

/// A certificate could not be made or read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LeafError {
    #[error("the key could not be made")]
    Key(#[from] aws_lc_rs::error::Unspecified),
    #[error("the certificate could not be made")]
    Make(#[from] rcgen::Error),
    #[error("the certificate's times are out of range")]
    Time(#[from] time::error::ComponentRange),
    #[error("TLS cannot be set up with this certificate and key")]
    Tls(#[from] rustls::Error),
    #[error("cannot read {file} in PEM")]
    File { file: String, source: rustls_pki_types::pem::Error },
    #[error("cannot read {file}")]
    Unopened { file: String, source: std::io::Error },
    #[error("{0} is longer than {MAX_CHAIN} bytes: a chain is not")]
    TooLong(String),
    #[error("{0} holds no certificate")]
    Empty(String),
    #[error("the first certificate of {0} cannot be read")]
    Unreadable(String),
}

/// A key that waits for its evidence.
pub(crate) struct Draft {
    key: LeafKey,
    /// SHA-256 of the key's SubjectPublicKeyInfo (DER).
    pub(crate) spki_sha256: [u8; 32],
    /// End of the certificate's life, in Unix seconds.
    pub(crate) not_after: u64,
    now: u64,
}

impl Draft {
    /// A new key for a certificate that begins about now and lives for so many seconds.
    pub(crate) fn new(now: u64, lifetime: u64) -> Result<Self, LeafError> {
        let key = LeafKey::generate()?;
        let spki_sha256 = crypto::sha256(&key.subject_public_key_info());
        Ok(Self { key, spki_sha256, not_after: now.saturating_add(lifetime), now })
    }

    /// The certificate, self-signed, with evidence for its key and its end of life in the extension id-pe-cmw.
    pub(crate) fn finish(
        self,
        hostnames: &[String],
        evidence: &Evidence,
    ) -> Result<Leaf, LeafError> {
        let mut params = CertificateParams::new(hostnames)?;
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "privatemode-confidential");
        params.not_before = instant(self.now.saturating_sub(BACKDATED))?;
        params.not_after = instant(self.not_after)?;
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![rcgen::KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
        let oid: Vec<u64> = ID_PE_CMW.arcs().map(u64::from).collect();
        let value = evidence.to_certificate_extension();
        params.custom_extensions = vec![CustomExtension::from_oid_content(&oid, value)];
        let certificate: CertificateDer<'static> = params.self_signed(&self.key)?.into();

        let certified = CertifiedKey::new(vec![certificate.clone()], Arc::new(self.key));
        Ok(Leaf {
            config: Arc::new(server_config(certified, Versions::Tls13)?),
            spki_sha256: self.spki_sha256,
            certificate_sha256: crypto::sha256(&certificate),
            not_after: self.not_after,
            certificate,
        })
    }
}

fn instant(unix: u64) -> Result<OffsetDateTime, time::error::ComponentRange> {
    OffsetDateTime::from_unix_timestamp(i64::try_from(unix).unwrap_or(i64::MAX))
}

impl Leaf {
    /// A certificate from files: whoever can read the key can pose as this server, so its proofs are bound to
    /// connections, never to the key alone.
    pub(crate) fn from_files(certificate: &Path, key: &Path) -> Result<Self, LeafError> {
        let name = |path: &Path| path.display().to_string();
        let chain = Chain::read(certificate)?;
        let key = PrivateKeyDer::from_pem_file(key)
            .map_err(|source| LeafError::File { file: name(key), source })?;
        let certified = CertifiedKey::from_der(chain.certificates.clone(), key, &provider())?;
        let config = server_config(certified, Versions::Tls12AndUp)?;
        Ok(chain.into_leaf(config))
    }
}

/// A certificate chain, read from a file: its first certificate is the leaf.
pub(crate) struct Chain {
    /// Every certificate, as the file has them.
    pub(crate) certificates: Vec<CertificateDer<'static>>,
    /// The leaf's SubjectPublicKeyInfo (DER).
    pub(crate) spki: Vec<u8>,
    leaf: CertificateDer<'static>,
    not_after: u64,
}

impl Chain {
    /// Reads a file in PEM.
    pub(crate) fn read(path: &Path) -> Result<Self, LeafError> {
        let file = || path.display().to_string();
        let pem = plain_file::read(path, MAX_CHAIN).map_err(|source| match source.kind() {
            io::ErrorKind::FileTooLarge => LeafError::TooLong(file()),
            _ => LeafError::Unopened { file: file(), source },
        })?;
        let certificates: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&pem)
            .collect::<Result<_, _>>()
            .map_err(|source| LeafError::File { file: file(), source })?;
        let leaf = certificates.first().ok_or_else(|| LeafError::Empty(file()))?.clone();
        let parsed = Certificate::from_der(&leaf).map_err(|_| LeafError::Unreadable(file()))?;
        let spki = parsed.spki().map_err(|_| LeafError::Unreadable(file()))?;
        let (_, not_after) = parsed.validity();
        Ok(Self { spki, not_after, leaf, certificates })
    }

    /// SHA-256 of the leaf.
    pub(crate) fn leaf_sha256(&self) -> [u8; 32] {
        crypto::sha256(&self.leaf)
    }

    /// What connections are served with by this configuration, which shows this chain.
    pub(crate) fn into_leaf(self, config: ServerConfig) -> Leaf {
        Leaf {
            config: Arc::new(config),
            spki_sha256: crypto::sha256(&self.spki),
            certificate_sha256: self.leaf_sha256(),
            not_after: self.not_after,
            certificate: self.leaf,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_certificate_carries_the_evidence_for_its_own_key() {
        let draft = Draft::new(1_700_000_000, 600).unwrap();
        let (spki_sha256, not_after) = (draft.spki_sha256, draft.not_after);
        let evidence =
            Evidence { report: vec![1; 1184], vek: vec![2; 1300], ..Evidence::default() };
        let leaf = draft.finish(&["localhost".to_owned()], &evidence).unwrap();

        let shown = Certificate::from_der(&leaf.certificate).unwrap();
        assert_eq!(crypto::sha256(&shown.spki().unwrap()), spki_sha256);
        assert_eq!(shown.validity().1, not_after);
        assert_eq!(not_after, 1_700_000_600);
        assert_eq!(leaf.certificate_sha256, crypto::sha256(shown.der()));
        let value = shown.extension(&ID_PE_CMW).unwrap();
        assert!(Evidence::from_certificate_extension(value).unwrap() == evidence);
    }
}
