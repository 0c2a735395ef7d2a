//! Sealed secrets. Statements are signed anew, so that what a stranger would have to forge is read.

use std::hint::black_box;
use std::num::NonZeroU64;

use attestation::encoding::to_b64u;
use attestation::secrets::{
    Envelope, Expected, Signer, compact_envelope, compact_statement, open, protected_header,
};
use p256::ecdsa::signature::Signer as _;
use p256::ecdsa::{Signature, SigningKey};
use p256::pkcs8::EncodePublicKey as _;

use super::{Entry, text};

pub(super) const ENTRIES: &[Entry] = &[
    Entry { name: "secrets-envelope", read: read_envelope, seeds: envelopes },
    Entry { name: "secrets-statement", read: read_statement, seeds: statements },
    Entry { name: "secrets-payload", read: read_payload, seeds: payloads },
    Entry { name: "secrets-signer", read: read_signer, seeds: signers },
];

fn operator() -> (SigningKey, Expected) {
    let key = SigningKey::from_slice(&[7; 32]).expect("a scalar");
    let spki = key.verifying_key().to_public_key_der().expect("a key");
    let signer = Signer::from_spki(spki.as_bytes()).expect("a key on P-256");
    let group = "group".to_owned();
    (key, Expected { signer, group, min_version: NonZeroU64::MIN })
}

fn signed(payload: &[u8]) -> String {
    let (key, Expected { signer, .. }) = operator();
    let header = format!(r#"{{"alg":"ES256","kid":"{}"}}"#, signer.kid());
    let input = format!("{}.{}", to_b64u(header.as_bytes()), to_b64u(payload));
    let signature: Signature = key.sign(input.as_bytes());
    compact_statement(&input, &signature.to_bytes().into()).to_string()
}

fn read_envelope(bytes: &[u8]) {
    let Ok(envelope) = Envelope::parse(text(bytes)) else { return };
    black_box((envelope.kid(), envelope.aad(), envelope.sealed.len()));
    let protected = std::str::from_utf8(envelope.aad()).expect("base64url");
    let Envelope { encrypted_key, nonce, sealed, .. } = &envelope;
    let again = compact_envelope(protected, encrypted_key, nonce, sealed);
    assert_eq!(again.as_deref(), Ok(text(bytes)), "an envelope has one form");
}

fn envelopes() -> Vec<Vec<u8>> {
    let protected = protected_header("NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs");
    let envelope = compact_envelope(&protected, &[7; 256], &[8; 12], &[9; 64]);
    vec![envelope.expect("not too long").into_bytes()]
}

fn read_statement(bytes: &[u8]) {
    black_box(open(text(bytes), &operator().1).is_ok());
}

fn statements() -> Vec<Vec<u8>> {
    payloads().iter().map(|payload| signed(payload).into_bytes()).collect()
}

fn read_payload(bytes: &[u8]) {
    let Ok(secrets) = open(&signed(bytes), &operator().1) else { return };
    assert_eq!(secrets.check(), Ok(()), "what is opened can be sealed");
}

fn payloads() -> Vec<Vec<u8>> {
    [
        r#"{"v":1,"version":1,"group":"group","values":{}}"#,
        r#"{"v":1,"version":18446744073709551615,"group":"group","values":{"A":"x\"\\\u00fc","B":"y"}}"#,
        r#"{"v":2,"version":1,"group":"other","values":{"A":"x"}}"#,
    ]
    .map(|payload| payload.as_bytes().to_vec())
    .into()
}

fn read_signer(bytes: &[u8]) {
    let Ok(signer) = text(bytes).parse::<Signer>() else { return };
    assert_eq!(signer.to_text(), text(bytes));
}

fn signers() -> Vec<Vec<u8>> {
    vec![operator().1.signer.to_text().into_bytes()]
}
