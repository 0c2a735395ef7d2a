//! Every limit of length is exactly where it says: the longest input is read, and one byte more is not looked at.

use attestation::bundle::{self, Bundle, BundleError};
use attestation::cose::{self, CoseError, Sign1};
use attestation::crl::{Crl, CrlError};
use attestation::did_x509::{self, Did, DidError};
use attestation::evidence::{self, EvidenceError};
use attestation::hcl::{self, HclError, HclReport};
use attestation::jws::{Jws, JwsError};
use attestation::maa::{Jwks, MAX_JWKS, MAX_TOKEN, TokenError, verify_token};
use attestation::tpm::{self, Quote, QuoteError};
use attestation::{Evidence, log_record};

#[test]
fn a_cose_message() {
    let refused = |length| Sign1::decode(&vec![0; length]).err().unwrap();
    assert_eq!(cose::MAX_LENGTH, 65_536);
    assert_eq!(refused(65_536), CoseError::Syntax);
    assert_eq!(refused(65_537), CoseError::TooLong(65_537));
}

#[test]
fn a_revocation_list() {
    let refused = |length| Crl::from_der(&vec![0x30; length]).err().unwrap();
    assert!(matches!(refused(65_536), CrlError::Syntax(_)));
    assert_eq!(refused(65_537), CrlError::TooLong(65_537));
}

#[test]
fn an_identifier() {
    let of = |length: usize| {
        let start = format!("did:x509:0:sha256:{}::subject:CN:", "A".repeat(43));
        let text = format!("{start}{}", "a".repeat(length - start.len()));
        text.parse::<Did>().map(|did| did.id().len())
    };
    assert_eq!(did_x509::MAX_LENGTH, 2048);
    assert_eq!((of(2048), of(2049)), (Ok(2048), Err(DidError::Prefix)));
}

#[test]
fn a_collection_of_evidence() {
    let refused = |length| Evidence::from_cbor(&vec![0; length]).err().unwrap();
    assert_eq!(evidence::MAX_LENGTH, 262_144);
    assert_eq!(refused(262_144), EvidenceError::Encoding("CBOR"));
    assert_eq!(refused(262_145), EvidenceError::TooLong(262_145));
}

#[test]
fn a_saved_proof() {
    let refused = |length| Bundle::parse(&vec![b' '; length]).err().unwrap();
    assert_eq!(bundle::MAX_LENGTH, 8_388_608);
    assert_eq!(refused(8_388_608), BundleError::Syntax);
    assert_eq!(refused(8_388_609), BundleError::TooLong(8_388_609));
}

#[test]
fn a_paravisors_report() {
    let refused = |length| HclReport::parse(&vec![0; length]).err().unwrap();
    assert_eq!(hcl::MAX_LENGTH, 4096);
    assert_eq!(refused(4096), HclError::Header);
    assert_eq!(refused(4097), HclError::Length(4097));
}

#[test]
fn a_quote() {
    let refused = |length| Quote::parse(&vec![0; length]).err().unwrap();
    assert_eq!(tpm::MAX_LENGTH, 1024);
    assert_eq!(refused(1024), QuoteError::NotGenerated(0));
    assert_eq!(refused(1025), QuoteError::TooLong(1025));
}

#[test]
fn a_token_and_a_set_of_keys() {
    let refused = |length| verify_token(&"A".repeat(length), &[], 0).err().unwrap();
    assert_eq!(MAX_TOKEN, 65_536);
    assert_eq!(refused(65_536), TokenError::Syntax(JwsError::Syntax));
    assert_eq!(refused(65_537), TokenError::Syntax(JwsError::TooLong(65_537)));

    let set = |length: usize| {
        let empty = r#"{"keys":[]}"#;
        Jwks::parse([empty, &" ".repeat(length - empty.len())].concat().as_bytes())
    };
    assert_eq!(MAX_JWKS, 262_144);
    assert!(set(262_144).is_ok() && set(262_145).is_err());
}

#[test]
fn a_record_of_a_log() {
    assert_eq!(log_record::MAX_LENGTH, 524_288);
    let read = |length| Jws::parse(&"A".repeat(length), log_record::MAX_LENGTH).err().unwrap();
    assert_eq!(read(524_288), JwsError::Syntax);
    assert_eq!(read(524_289), JwsError::TooLong(524_289));
}
