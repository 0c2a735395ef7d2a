//! did:x509 against the test vectors of its specification (`ms-did-x509/test-vectors.json`), and Microsoft's old
//! code signer. The files are read from `$VECTORS_DIR`, by default `../shared/vectors` beside the workspace; without
//! them these tests say so and pass, unless `VECTORS_REQUIRED=1`.

#![expect(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "helpers of tests"
)]

mod recorded;

use attestation::certificate::Certificate;
use attestation::did_x509::{Did, DidError, Resolved};
use attestation::encoding::{from_b64u, to_b64u};
use attestation::path::{self, ConstraintError, PathError};
use serde_json::{Value, json};

fn vector(name: &str) -> Option<String> {
    Some(recorded::vectors()?.text(&format!("ms-did-x509/{name}")))
}

fn chain(input: &Value) -> Vec<Certificate> {
    let certificates = input["chain"].as_array().unwrap();
    let decode = |text: &Value| Certificate::from_der(&from_b64u(text.as_str().unwrap()).unwrap());
    certificates.iter().map(|text| decode(text).unwrap()).collect()
}

/// The document that the specification makes of what we resolve.
fn document(did: &Did, resolved: Resolved, leaf: &Certificate) -> Value {
    let point = leaf.p256_key().unwrap();
    let key = format!("{}#0", did.id());
    let mut document = json!({
        "@context": "https://www.w3.org/ns/cid/v1",
        "id": did.id(),
        "verificationMethod": [{
            "id": key,
            "type": "JsonWebKey",
            "controller": did.id(),
            "publicKeyJwk": {
                "kty": "EC",
                "crv": "P-256",
                "x": to_b64u(&point[1..33]),
                "y": to_b64u(&point[33..]),
            },
        }],
    });
    let mut may = |what: &str, allowed| {
        if allowed {
            document[what] = json!([key]);
        }
    };
    may("authentication", resolved.signs);
    may("assertionMethod", resolved.signs);
    may("keyAgreement", resolved.agrees);
    document
}

/// Which of our refusals each of the vectors' messages stands for.
fn means(message: &str, error: &DidError) -> bool {
    use PathError as P;
    let path = match error {
        DidError::Path(path) => Some(path),
        _ => None,
    };
    let path_is = |wanted: fn(&P) -> bool| path.is_some_and(wanted);
    match message {
        "Certificate chain verification failed: certificate signature failure." => {
            path_is(|e| matches!(e, P::Signature(_)))
        }
        "Certificate chain must contain at least two certificates." => {
            path_is(|e| *e == P::Length(1))
        }
        "Certificate chain verification failed: unhandled critical extension." => {
            path_is(|e| matches!(e, P::Critical { .. }))
        }
        "Certificate chain verification failed: invalid CA certificate." => {
            path_is(|e| matches!(e, P::Authority(_)))
        }
        "Certificate chain verification failed: path length constraint exceeded." => {
            path_is(|e| matches!(e, P::PathLength(_)))
        }
        "Certificate chain verification failed: permitted subtree violation." => {
            path_is(|e| matches!(e, P::Constraint { source: ConstraintError::NotPermitted(_), .. }))
        }
        "Certificate chain verification failed: excluded subtree violation." => {
            path_is(|e| matches!(e, P::Constraint { source: ConstraintError::Excluded(_), .. }))
        }
        "Supplied chain does not match the verified chain." => path_is(|e| matches!(e, P::Name(_))),
        "Certificate name contains duplicate attributes." => *error == DidError::Name,
        "Certificate does not contain a Fulcio issuer extension." => {
            *error == DidError::Missing("Fulcio issuer")
        }
        "Leaf certificate key usage does not support DID operations." => {
            *error == DidError::KeyUsage
        }
        "Certificate contains an unsupported SAN type." => *error == DidError::AlternativeName,
        "DID URL paths are not supported." | "DID URL queries are not supported." => {
            *error == DidError::Url
        }
        "DID must contain at least one predicate." => *error == DidError::NoPolicy,
        "EKU predicate does not match the certificate." => *error == DidError::Unmet("EKU"),
        "Certificate does not contain an EKU extension." => *error == DidError::Missing("EKU"),
        "Fulcio issuer predicate does not match the certificate." => {
            *error == DidError::Unmet("Fulcio issuer")
        }
        "DID prefix is invalid." => *error == DidError::Prefix,
        "SAN predicate does not match the certificate." => *error == DidError::Unmet("SAN"),
        "SAN predicate requires exactly one type and value." => *error == DidError::San,
        "Subject predicate contains duplicate fields." => *error == DidError::SubjectTwice,
        "Subject predicate does not match the certificate." => *error == DidError::Unmet("subject"),
        "Subject predicate contains an unknown key." => *error == DidError::SubjectKey,
        "Subject predicate requires key-value pairs." => *error == DidError::SubjectPairs,
        "DID contains an unknown predicate." => *error == DidError::UnknownPolicy,
        "Fingerprint algorithm is not supported." => *error == DidError::Algorithm,
        "CA fingerprint does not match the certificate chain." => *error == DidError::Fingerprint,
        other => panic!("a message that this test does not know: {other}"),
    }
}

#[test]
fn every_vector_of_the_specification_ends_as_it_says() {
    let Some(text) = vector("test-vectors.json") else { return };
    let vectors: Vec<Value> = serde_json::from_str(&text).unwrap();
    assert_eq!(vectors.len(), 58);
    let mut wrong = Vec::new();
    for vector in &vectors {
        let chain = chain(&vector["input"]);
        let did = vector["input"]["did"].as_str().unwrap().parse::<Did>();
        let found = did.and_then(|did| Ok((did.resolve(&chain)?, did)));
        let right = match (&found, vector["output"]["error"].as_str()) {
            (Err(error), Some(message)) => means(message, error),
            (Ok((resolved, did)), None) => {
                document(did, *resolved, &chain[0]) == vector["output"]["document"]
            }
            _ => false,
        };
        if !right {
            wrong.push(format!("{}: {:?}, not {}", vector["id"], found, vector["output"]["error"]));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn microsofts_old_code_signer_is_a_path_in_its_time() {
    let Some(pem) = vector("ms-code-signing.pem") else { return };
    let chain = Certificate::sequence_from_pem(&pem).unwrap();
    assert_eq!(path::verify(&chain, 1_660_000_000), Ok(()), "2022-08-08");
    let later = path::verify(&chain, 1_795_305_600);
    assert!(matches!(later, Err(PathError::Validity { position: 0, .. })), "{later:?}");

    let root = to_b64u(&chain[2].fingerprint());
    let resolves = |rest: &str| {
        format!("did:x509:0:sha256:{root}::{rest}").parse::<Did>().unwrap().resolve(&chain)
    };
    assert!(resolves("eku:1.3.6.1.5.5.7.3.3").is_ok());
    assert!(resolves("subject:C:US:ST:Washington:L:Redmond:O:Microsoft%20Corporation").is_ok());
    assert_eq!(resolves("subject:O:Microsoft"), Err(DidError::Unmet("subject")));
    assert_eq!(resolves("eku:1.3.6.1.4.1.311.76.59.1.2"), Err(DidError::Unmet("EKU")));
}
