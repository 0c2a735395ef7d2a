//! A certification authority of AMD's shape: ARK, ASK and ASVK with RSA-PSS, leaves on P-384 with AMD's
//! extensions, and revocation lists. Its cryptography is not the verifier's, so that it shares none of its
//! mistakes. RSA keys have 2048 bits, which is what makes them quick to find.

use std::str::FromStr as _;
use std::sync::LazyLock;
use std::time::Duration;

use der::asn1::{BitString, GeneralizedTime, Ia5String, ObjectIdentifier, OctetString};
use der::{Decode as _, Encode as _};
use p384::pkcs8::EncodePublicKey as _;
use rand_chacha::ChaCha20Rng;
use rsa::RsaPrivateKey;
use rsa::pss::SigningKey;
use rsa::rand_core::SeedableRng as _;
use rsa::signature::{RandomizedSigner as _, SignatureEncoding as _};
use sha2::Sha384;
use x509_cert::crl::{CertificateList, RevokedCert, TbsCertList};
use x509_cert::ext::pkix::{BasicConstraints, KeyUsage, KeyUsages};
use x509_cert::ext::{AsExtension, Extension};
use x509_cert::name::Name;
use x509_cert::serial_number::SerialNumber;
use x509_cert::spki::{AlgorithmIdentifierOwned, SubjectPublicKeyInfoOwned};
use x509_cert::time::{Time, Validity};
use x509_cert::{Certificate, TbsCertificate, Version};

/// A long life: from 2020 to 2045.
pub(crate) const LIFE: (u64, u64) = (1_577_836_800, 2_366_841_600);

/// id-RSASSA-PSS with SHA-384, MGF1 with SHA-384 and a salt of 48 bytes.
const PSS_SHA384: &str = "304106092a864886f70d01010a3034a00f300d06096086480165030402020500a11c301a0609\
                          2a864886f70d010108300d06096086480165030402020500a203020130";

static KEYS: LazyLock<[RsaPrivateKey; 3]> = LazyLock::new(|| {
    [1, 2, 3].map(|seed| RsaPrivateKey::new(&mut ChaCha20Rng::seed_from_u64(seed), 2048).unwrap())
});

/// Whose key.
#[derive(Clone, Copy)]
pub(crate) enum Signer {
    Ark,
    Ask,
    Stranger,
}

impl Signer {
    pub(crate) fn key(self) -> &'static RsaPrivateKey {
        let [ark, ask, stranger] = &*KEYS;
        match self {
            Self::Ark => ark,
            Self::Ask => ask,
            Self::Stranger => stranger,
        }
    }

    pub(crate) fn sign(self, message: &[u8]) -> BitString {
        let key = SigningKey::<Sha384>::new(self.key().clone());
        let signature = key.sign_with_rng(&mut ChaCha20Rng::seed_from_u64(0), message);
        BitString::from_bytes(&signature.to_bytes()).unwrap()
    }
}

/// The key that signs reports.
pub(crate) fn report_key() -> p384::SecretKey {
    p384::SecretKey::from_slice(&[7; 48]).unwrap()
}

/// What a certificate says.
#[derive(Clone)]
pub(crate) struct Spec {
    pub(crate) serial: u32,
    pub(crate) issuer: String,
    pub(crate) subject: String,
    pub(crate) life: (u64, u64),
    pub(crate) extensions: Vec<Extension>,
    pub(crate) signer: Signer,
}

impl Spec {
    /// An authority of AMD's: `own` is its key.
    pub(crate) fn authority(serial: u32, issuer: &str, subject: &str) -> Self {
        let extensions = vec![
            extension(&KeyUsage(KeyUsages::KeyCertSign | KeyUsages::CRLSign), subject),
            extension(&BasicConstraints { ca: true, path_len_constraint: None }, subject),
        ];
        let (issuer, subject) = (issuer.to_owned(), subject.to_owned());
        Self { serial, issuer, subject, life: LIFE, extensions, signer: Signer::Ark }
    }

    /// The certificate in DER of an RSA key.
    pub(crate) fn issue_rsa(&self, own: Signer) -> Vec<u8> {
        self.issue(SubjectPublicKeyInfoOwned::from_key(own.key().to_public_key()).unwrap())
    }

    /// The certificate in DER of the key that signs reports.
    pub(crate) fn issue_p384(&self) -> Vec<u8> {
        let der = report_key().public_key().to_public_key_der().unwrap();
        self.issue(SubjectPublicKeyInfoOwned::from_der(der.as_bytes()).unwrap())
    }

    fn issue(&self, subject_public_key_info: SubjectPublicKeyInfoOwned) -> Vec<u8> {
        let tbs_certificate = TbsCertificate {
            version: Version::V3,
            serial_number: serial(self.serial),
            signature: algorithm(),
            issuer: name(&self.issuer),
            validity: Validity { not_before: time(self.life.0), not_after: time(self.life.1) },
            subject: name(&self.subject),
            subject_public_key_info,
            issuer_unique_id: None,
            subject_unique_id: None,
            extensions: Some(self.extensions.clone()),
        };
        let signature = self.signer.sign(&tbs_certificate.to_der().unwrap());
        let signature_algorithm = algorithm();
        Certificate { tbs_certificate, signature_algorithm, signature }.to_der().unwrap()
    }
}

/// A revocation list of an ARK.
#[derive(Clone)]
pub(crate) struct List {
    pub(crate) issuer: String,
    pub(crate) revoked: Vec<u32>,
    pub(crate) this_update: u64,
    pub(crate) next_update: Option<u64>,
    pub(crate) extensions: Vec<Extension>,
    pub(crate) entry_extensions: Option<Vec<Extension>>,
    pub(crate) signer: Signer,
}

impl List {
    /// The list in DER.
    pub(crate) fn issue(&self) -> Vec<u8> {
        let entry = |number: &u32| RevokedCert {
            serial_number: serial(*number),
            revocation_date: time(self.this_update),
            crl_entry_extensions: self.entry_extensions.clone(),
        };
        let revoked: Vec<RevokedCert> = self.revoked.iter().map(entry).collect();
        let tbs_cert_list = TbsCertList {
            version: Version::V2,
            signature: algorithm(),
            issuer: name(&self.issuer),
            this_update: time(self.this_update),
            next_update: self.next_update.map(time),
            revoked_certificates: (!revoked.is_empty()).then_some(revoked),
            crl_extensions: (!self.extensions.is_empty()).then(|| self.extensions.clone()),
        };
        let signature = self.signer.sign(&tbs_cert_list.to_der().unwrap());
        let signature_algorithm = algorithm();
        CertificateList { tbs_cert_list, signature_algorithm, signature }.to_der().unwrap()
    }
}

/// An extension of a certificate with that subject.
pub(crate) fn extension(value: &impl AsExtension, subject: &str) -> Extension {
    value.to_extension(&name(subject), &[]).unwrap()
}

/// An extension below AMD's 1.3.6.1.4.1.3704.1.
pub(crate) fn amd(suffix: &str, value: &[u8]) -> Extension {
    raw(&format!("1.3.6.1.4.1.3704.1.{suffix}"), false, value)
}

/// Any extension.
pub(crate) fn raw(oid: &str, critical: bool, value: &[u8]) -> Extension {
    let extn_value = OctetString::new(value).unwrap();
    Extension { extn_id: ObjectIdentifier::new_unwrap(oid), critical, extn_value }
}

/// An IA5String in DER.
pub(crate) fn ia5(text: &str) -> Vec<u8> {
    Ia5String::new(text).unwrap().to_der().unwrap()
}

/// A certificate as PEM.
pub(crate) fn pem(der: &[u8]) -> String {
    use der::EncodePem as _;
    Certificate::from_der(der).unwrap().to_pem(der::pem::LineEnding::LF).unwrap()
}

fn name(common_name: &str) -> Name {
    Name::from_str(&format!("CN={common_name},O=Advanced Micro Devices,C=US")).unwrap()
}

fn serial(number: u32) -> SerialNumber {
    SerialNumber::from(number)
}

fn algorithm() -> AlgorithmIdentifierOwned {
    AlgorithmIdentifierOwned::from_der(&hex::decode(PSS_SHA384).unwrap()).unwrap()
}

fn time(seconds: u64) -> Time {
    Time::GeneralTime(GeneralizedTime::from_unix_duration(Duration::from_secs(seconds)).unwrap())
}
