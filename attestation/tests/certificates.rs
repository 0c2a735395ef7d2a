//! Certificates: what is one, which signatures on it count, and what it says of itself.

#![expect(clippy::unwrap_used, reason = "tests")]

#[path = "guest/pki.rs"]
#[expect(dead_code, reason = "for tests of guests")]
mod pki;

use attestation::certificate::{Certificate, CertificateError};
use attestation::crypto::BadSignature;
use der::asn1::{BitString, ObjectIdentifier};
use der::{Any, Decode as _, Encode as _};
use p384::ecdsa::signature::Signer as _;
use pki::{LIFE, Signer, Spec, extension, pem, raw};
use rsa::pkcs1v15::SigningKey;
use rsa::signature::SignatureEncoding as _;
use sha2::{Sha256, Sha384};
use x509_cert::ext::pkix::{BasicConstraints, KeyUsage, KeyUsages};
use x509_cert::spki::AlgorithmIdentifierOwned;

const RSA_SHA256: &str = "1.2.840.113549.1.1.11";
const RSA_SHA384: &str = "1.2.840.113549.1.1.12";
const ECDSA_SHA384: &str = "1.2.840.10045.4.3.3";

fn authority() -> Vec<u8> {
    Spec::authority(1, "root", "root").issue_rsa(Signer::Ark)
}

fn read(der: &[u8]) -> Certificate {
    Certificate::from_der(der).unwrap()
}

// ---- what is one

#[test]
fn a_sequence_has_sixteen_certificates_at_most() {
    let one = authority();
    let number = |count| Certificate::sequence_from_der(&one.repeat(count)).map(|all| all.len());
    assert_eq!((number(0), number(1), number(16)), (Ok(0), Ok(1), Ok(16)));
    assert_eq!(number(17), Err(CertificateError::TooMany));

    let one = pem(&one);
    let number = |count| Certificate::sequence_from_pem(&one.repeat(count)).map(|all| all.len());
    assert_eq!((number(1), number(16)), (Ok(1), Ok(16)));
    assert_eq!(number(0), Err(CertificateError::Pem));
    assert_eq!(number(17), Err(CertificateError::TooMany));
}

#[test]
fn text_around_the_blocks_of_pem_is_passed_over() {
    let text = format!("a root\n{}between\n{}after", pem(&authority()), pem(&authority()));
    let read = Certificate::sequence_from_pem(&text).unwrap();
    assert!(read.iter().all(|one| one.der() == authority()) && read.len() == 2);
    let cut = text.replacen("-----END", "-----AND", 2);
    assert_eq!(Certificate::sequence_from_pem(&cut).unwrap_err(), CertificateError::Pem);
}

#[test]
fn a_certificate_has_sixteen_kibibytes_at_most() {
    let padded = |length| {
        let mut spec = Spec::authority(1, "root", "root");
        spec.extensions.push(raw("1.2.3.4", false, &vec![0; length]));
        spec.issue_rsa(Signer::Ark)
    };
    let room = 16 * 1024 - (padded(15_000).len() - 15_000);
    assert_eq!(padded(room).len(), 16 * 1024);
    assert!(Certificate::from_der(&padded(room)).is_ok());
    let refused = Certificate::from_der(&padded(room + 1)).unwrap_err();
    assert_eq!(refused, CertificateError::TooLong(16 * 1024 + 1));
}

#[test]
fn only_zeros_may_follow_where_zeros_may() {
    let one = authority();
    let followed = |by: &[u8]| Certificate::from_zero_padded(&[&one, by].concat()).map(|_| ());
    assert_eq!((followed(&[]), followed(&[0; 3])), (Ok(()), Ok(())));
    assert_eq!(followed(&[0, 1]), Err(CertificateError::Trailing(2)));
    let strict = Certificate::from_der(&[&one[..], &[0]].concat()).unwrap_err();
    assert_eq!(strict, CertificateError::Trailing(1));
}

// ---- which signatures count

fn algorithm(oid: &str, parameters: Option<&[u8]>) -> AlgorithmIdentifierOwned {
    let parameters = parameters.map(|der| Any::from_der(der).unwrap());
    AlgorithmIdentifierOwned { oid: ObjectIdentifier::new_unwrap(oid), parameters }
}

const NULL: Option<&[u8]> = Some(&[5, 0]);

/// A certificate that names these algorithms inside and outside of what is signed.
fn signed(
    inside: AlgorithmIdentifierOwned,
    outside: AlgorithmIdentifierOwned,
    sign: impl Fn(&[u8]) -> Vec<u8>,
) -> Certificate {
    let mut certificate = x509_cert::Certificate::from_der(&authority()).unwrap();
    certificate.tbs_certificate.signature = inside;
    certificate.signature_algorithm = outside;
    let message = certificate.tbs_certificate.to_der().unwrap();
    certificate.signature = BitString::from_bytes(&sign(&message)).unwrap();
    read(&certificate.to_der().unwrap())
}

fn by_rsa_sha256(message: &[u8]) -> Vec<u8> {
    SigningKey::<Sha256>::new(Signer::Ark.key().clone()).sign(message).to_vec()
}

fn by_rsa_sha384(message: &[u8]) -> Vec<u8> {
    SigningKey::<Sha384>::new(Signer::Ark.key().clone()).sign(message).to_vec()
}

#[test]
fn rsa_signs_with_null_as_parameters_or_none_and_the_same_inside_and_outside() {
    let root = read(&authority());
    let verdict = |inside, outside, sign: fn(&[u8]) -> Vec<u8>| {
        signed(inside, outside, sign).verify_signature(&root)
    };
    for parameters in [NULL, None] {
        for (oid, sign) in
            [(RSA_SHA256, by_rsa_sha256 as fn(&[u8]) -> _), (RSA_SHA384, by_rsa_sha384)]
        {
            let named = || algorithm(oid, parameters);
            assert_eq!(verdict(named(), named(), sign), Ok(()), "{oid}");
        }
    }
    let sha256 = |parameters| algorithm(RSA_SHA256, parameters);
    let other = || algorithm(RSA_SHA384, NULL);
    assert_eq!(verdict(other(), sha256(NULL), by_rsa_sha256), Err(BadSignature), "two algorithms");
    assert_eq!(verdict(sha256(None), sha256(NULL), by_rsa_sha256), Err(BadSignature), "and two");
    let odd: Option<&[u8]> = Some(&[4, 0]);
    assert_eq!(verdict(sha256(odd), sha256(odd), by_rsa_sha256), Err(BadSignature), "parameters");
    let unknown = || algorithm("1.2.840.113549.1.1.5", NULL);
    assert_eq!(verdict(unknown(), unknown(), by_rsa_sha256), Err(BadSignature), "SHA-1");
}

#[test]
fn ecdsa_has_no_parameters() {
    let mut issuer = Spec::authority(1, "root", "root");
    issuer.life = LIFE;
    let issuer = read(&issuer.issue_p384());
    let sign = |message: &[u8]| {
        let key = p384::ecdsa::SigningKey::from(pki::report_key());
        let signature: p384::ecdsa::Signature = key.sign(message);
        signature.to_der().as_bytes().to_vec()
    };
    let verdict = |parameters| {
        let named = || algorithm(ECDSA_SHA384, parameters);
        signed(named(), named(), sign).verify_signature(&issuer)
    };
    assert_eq!((verdict(None), verdict(NULL)), (Ok(()), Err(BadSignature)));
    let rsa = read(&authority());
    let named = || algorithm(ECDSA_SHA384, None);
    assert_eq!(signed(named(), named(), sign).verify_signature(&rsa), Err(BadSignature), "a key");
}

#[test]
fn pss_is_amds_inside_and_outside() {
    let root = read(&authority());
    assert_eq!(root.verify_signature(&root), Ok(()));
    let decoded = x509_cert::Certificate::from_der(&authority()).unwrap();
    let pss = || decoded.signature_algorithm.clone();
    let sign = |message: &[u8]| Signer::Ark.sign(message).raw_bytes().to_vec();
    assert_eq!(signed(pss(), pss(), sign).verify_pss_sha384(&root), Ok(()));
    let other = || algorithm(RSA_SHA384, NULL);
    let bare = || AlgorithmIdentifierOwned { parameters: None, ..pss() };
    for (inside, outside) in
        [(other(), pss()), (pss(), other()), (bare(), pss()), (pss(), bare()), (bare(), bare())]
    {
        let certificate = signed(inside, outside, sign);
        assert_eq!(certificate.verify_pss_sha384(&root), Err(BadSignature));
        assert_eq!(certificate.verify_signature(&root), Err(BadSignature));
    }
}

// ---- what it says of itself

#[test]
fn a_key_is_of_one_kind() {
    let (rsa, p384) = (read(&authority()), read(&Spec::authority(1, "a", "b").issue_p384()));
    assert!(rsa.rsa_key().is_some() && rsa.p384_key().is_none() && rsa.p256_key().is_none());
    assert!(p384.rsa_key().is_none() && p384.p256_key().is_none());
    assert_eq!(p384.p384_key().map(<[u8]>::len), Some(97));
    assert!(rsa.spki().is_ok_and(|spki| rsa.der().windows(spki.len()).any(|part| part == spki)));
}

#[test]
fn names_and_times_are_those_inside() {
    let spec = Spec { subject: "subject".to_owned(), ..Spec::authority(7, "issuer", "") };
    let certificate = read(&spec.issue_rsa(Signer::Ark));
    assert_eq!(certificate.subject_cn().as_deref(), Some("subject"));
    assert_eq!(certificate.issuer_cn().as_deref(), Some("issuer"));
    assert_eq!(certificate.validity(), LIFE);
    assert!(!certificate.names_as_issuer(&certificate));
    let several = Spec { subject: "a,CN=b".to_owned(), ..spec };
    assert_eq!(read(&several.issue_rsa(Signer::Ark)).subject_cn(), None, "two common names");
}

#[test]
fn authorities_say_so_critically() {
    let with = |constraints: Option<bool>, usage: Option<(bool, KeyUsages)>| {
        let mut spec = Spec::authority(1, "root", "root");
        spec.extensions.clear();
        if let Some(ca) = constraints {
            let value = BasicConstraints { ca, path_len_constraint: None };
            spec.extensions.push(extension(&value, "root"));
        }
        if let Some((critical, usage)) = usage {
            let usage = extension(&KeyUsage(usage.into()), "root");
            spec.extensions.push(x509_cert::ext::Extension { critical, ..usage });
        }
        let made = read(&spec.issue_rsa(Signer::Ark));
        (made.is_authority(), made.may_sign_lists())
    };
    let (certificates, lists) = (KeyUsages::KeyCertSign, KeyUsages::CRLSign);
    assert_eq!(with(Some(true), Some((true, certificates))), (true, false));
    assert_eq!(with(Some(true), Some((true, lists))), (false, true));
    assert_eq!(with(Some(false), Some((true, certificates))), (false, false));
    assert_eq!(with(None, Some((true, certificates))), (false, false));
    assert_eq!(with(Some(true), None), (false, false));
    for usage in [certificates, lists] {
        assert_eq!(with(Some(true), Some((false, usage))), (false, false), "not critical");
    }
}

#[test]
fn an_extension_that_stands_twice_says_nothing() {
    let oid = ObjectIdentifier::new_unwrap("1.2.3.4");
    let with = |values: &[&[u8]]| {
        let mut spec = Spec::authority(1, "root", "root");
        spec.extensions.extend(values.iter().map(|value| raw("1.2.3.4", false, value)));
        read(&spec.issue_rsa(Signer::Ark)).extension(&oid).map(<[u8]>::to_vec)
    };
    assert_eq!((with(&[]), with(&[b"x"]), with(&[b"x", b"x"])), (None, Some(b"x".to_vec()), None));
}
