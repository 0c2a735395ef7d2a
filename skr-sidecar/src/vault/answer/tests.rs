//! Releases that a vault signed, and every way in which one is refused.

use attestation::encoding::to_b64u;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RsaKeyPair};
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_RSA_SHA256, RsaKeySize, date_time_ymd,
};
use serde_json::json;

use super::*;
use crate::host::Host;
use crate::kid::KeyId;
use crate::vault::Wanted;

const NOW: u64 = 1_735_689_600; // 2025-01-01

/// A root, what it issued for the vault's name, and the request that answers are for.
struct World {
    roots: RootCertStore,
    chain: Vec<CertificateDer<'static>>,
    issuer: Issuer<'static, KeyPair>,
    key: RsaKeyPair,
    vault: Host,
    kid: KeyId,
}

fn certificate(name: &str) -> CertificateParams {
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    params.not_before = date_time_ymd(2024, 1, 1);
    params.not_after = date_time_ymd(2026, 1, 1);
    params
}

fn authority(name: &str) -> CertificateParams {
    let mut params = certificate(name);
    params.subject_alt_names.clear();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params
}

impl World {
    fn new() -> Self {
        Self::with_leaf(|_| {})
    }

    /// With a leaf certificate of one's own: root (P-256) → issuer (P-256) → leaf (RSA).
    fn with_leaf(change: impl FnOnce(&mut CertificateParams)) -> Self {
        let (root_key, issuer_key) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let root = authority("root").self_signed(&root_key).unwrap();
        let root_issuer = Issuer::new(authority("root"), root_key);
        let issuer = authority("issuer").signed_by(&issuer_key, &root_issuer).unwrap();
        let issuing = Issuer::new(authority("issuer"), issuer_key);

        let key = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap();
        let mut leaf = certificate("v.vault.azure.net");
        leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        change(&mut leaf);
        let leaf = leaf.signed_by(&key, &issuing).unwrap();

        let mut roots = RootCertStore::empty();
        roots.add(root.der().clone()).unwrap();
        Self {
            roots,
            chain: [leaf, issuer, root].map(|certificate| certificate.der().clone()).into(),
            issuer: issuing,
            key: RsaKeyPair::from_pkcs8(key.serialized_der()).unwrap(),
            vault: "v.vault.azure.net".parse().unwrap(),
            kid: "tls/1a".parse().unwrap(),
        }
    }

    fn header(&self) -> Value {
        let x5c: Vec<_> = self.chain.iter().map(|der| STANDARD.encode(der)).collect();
        json!({"alg": "RS256", "kid": "whatever", "x5c": x5c})
    }

    fn sign(&self, header: &Value, payload: &Value) -> String {
        self.sign_with(header, payload, &RSA_PKCS1_SHA256)
    }

    fn sign_with(
        &self,
        header: &Value,
        payload: &Value,
        with: &'static dyn aws_lc_rs::signature::RsaEncoding,
    ) -> String {
        let part = |value: &Value| to_b64u(value.to_string().as_bytes());
        let input = format!("{}.{}", part(header), part(payload));
        let mut signature = vec![0; self.key.public_modulus_len()];
        let random = SystemRandom::new();
        self.key.sign(with, &random, input.as_bytes(), &mut signature).unwrap();
        format!("{input}.{}", to_b64u(&signature))
    }

    fn verify(&self, jws: &str) -> Result<Released, AnswerError> {
        self.verify_by(jws, Wrap::Sha256, None)
    }

    fn verify_by(
        &self,
        jws: &str,
        wrap: Wrap,
        policy: Option<&Value>,
    ) -> Result<Released, AnswerError> {
        let wanted = Wanted { vault: &self.vault, kid: &self.kid, policy };
        let asked = Asked { wanted, nonce: "the-nonce", wrap };
        verify(jws, &asked, &self.roots, NOW)
    }

    fn refusal(&self, jws: &str) -> AnswerError {
        self.verify(jws).err().expect("it must be refused")
    }

    fn refusal_of_header(&self, change: impl FnOnce(&mut Value)) -> AnswerError {
        let mut header = self.header();
        change(&mut header);
        self.refusal(&self.sign(&header, &payload()))
    }

    fn refusal_of_payload(&self, change: impl FnOnce(&mut Value)) -> AnswerError {
        let mut payload = payload();
        change(&mut payload);
        self.refusal(&self.sign(&self.header(), &payload))
    }
}

fn payload() -> Value {
    let key_hsm = json!({
        "schema_version": "1.0",
        "header": {"kid": "k", "alg": "dir", "enc": "RSA_AES_KEY_WRAP_256"},
        "ciphertext": to_b64u(b"wrapped"),
    });
    json!({
        "request": {
            "api-version": "7.4",
            "enc": "RSA_AES_KEY_WRAP_256",
            "kid": "https://v.vault.azure.net/keys/tls/1a",
            "nonce": "the-nonce",
        },
        "response": {"key": {
            "key": {
                "kid": "https://v.vault.azure.net/keys/tls/1a",
                "kty": "RSA-HSM",
                "key_ops": ["sign", "export"],
                "n": "AQ",
                "e": "AQAB",
                "key_hsm": to_b64u(key_hsm.to_string().as_bytes()),
            },
            "attributes": {"enabled": true, "exportable": true},
            "release_policy": {"data": "e30"},
        }},
    })
}

#[test]
fn a_release_is_believed_and_taken_out() {
    let world = World::new();
    let released = world.verify(&world.sign(&world.header(), &payload())).ok().unwrap();
    assert_eq!(released.wrapped, b"wrapped");
    assert_eq!(released.published.kty, "RSA-HSM");
    assert_eq!(released.published.key_ops, ["sign", "export"]);
}

#[test]
fn a_chain_may_come_without_its_root() {
    let mut world = World::new();
    world.chain.pop();
    assert!(world.verify(&world.sign(&world.header(), &payload())).is_ok());
}

#[test]
fn other_algorithms_are_refused_whatever_signed() {
    let world = World::new();
    for alg in ["RS384", "PS256", "HS256", "none", ""] {
        let error = world.refusal_of_header(|header| header["alg"] = json!(alg));
        assert!(
            matches!(error, AnswerError::Jws(JwsError::Algorithm("RS256"))),
            "{alg}: {error:?}"
        );
    }
    let mut header = world.header();
    let jws = world.sign_with(&header, &payload(), &RSA_PKCS1_SHA384);
    assert!(matches!(world.refusal(&jws), AnswerError::Jws(JwsError::Signature(_))));
    header["alg"] = json!("RS384");
    let jws = world.sign_with(&header, &payload(), &RSA_PKCS1_SHA384);
    assert!(matches!(world.refusal(&jws), AnswerError::Jws(JwsError::Algorithm("RS256"))));
}

#[test]
fn keys_in_the_header_are_not_followed() {
    let world = World::new();
    for member in ["jwk", "x5u", "crit", "b64"] {
        let error = world.refusal_of_header(|header| header[member] = json!([]));
        assert!(matches!(error, AnswerError::Jws(JwsError::Header(_))), "{member}: {error:?}");
    }
}

#[test]
fn a_changed_payload_is_refused() {
    let world = World::new();
    let jws = world.sign(&world.header(), &payload());
    let other = to_b64u(payload().to_string().replace("tls/1a", "tls/1b").as_bytes());
    let parts: Vec<_> = jws.split('.').collect();
    let forged = [parts[0], &other, parts[2]].join(".");
    assert!(matches!(world.refusal(&forged), AnswerError::Jws(JwsError::Signature(_))));
}

#[test]
fn x5c_must_hold_one_to_eight_certificates() {
    let world = World::new();
    let leaf = STANDARD.encode(&world.chain[0]);
    for x5c in [
        Value::Null,
        json!([]),
        json!("text"),
        json!([7]),
        json!(["!"]),
        json!([to_b64u(&world.chain[0])]),
        json!(vec![leaf; 9]),
    ] {
        let error = world.refusal_of_header(|header| header["x5c"] = x5c.clone());
        assert!(matches!(error, AnswerError::X5c), "{x5c}: {error:?}");
    }
    let error = world.refusal_of_header(|header| header["x5c"] = json!(["AAAA"]));
    assert!(matches!(error, AnswerError::Chain(_)), "{error:?}");
}

#[test]
fn a_foreign_chain_is_refused() {
    let (world, foreign) = (World::new(), World::new());
    let jws = foreign.sign(&foreign.header(), &payload());
    let error = world.refusal(&jws);
    assert!(matches!(error, AnswerError::Chain(_)), "{error:?}");
}

#[test]
fn a_good_chain_with_a_foreign_signature_is_refused() {
    let (world, foreign) = (World::new(), World::new());
    let jws = foreign.sign(&world.header(), &payload());
    assert!(matches!(world.refusal(&jws), AnswerError::Jws(JwsError::Signature(_))));
}

#[test]
fn a_chain_with_a_gap_is_refused() {
    let mut world = World::new();
    world.chain.remove(1);
    let error = world.refusal(&world.sign(&world.header(), &payload()));
    assert!(matches!(error, AnswerError::Chain(webpki::Error::UnknownIssuer)), "{error:?}");
}

#[test]
fn no_root_believes_nobody() {
    let mut world = World::new();
    world.roots = RootCertStore::empty();
    let error = world.refusal(&world.sign(&world.header(), &payload()));
    assert!(matches!(error, AnswerError::Chain(webpki::Error::UnknownIssuer)), "{error:?}");
}

#[test]
fn a_leaf_for_another_name_purpose_or_time_is_refused() {
    type Change = fn(&mut CertificateParams);
    let changes: [(&str, Change); 4] = [
        ("name", |leaf| {
            leaf.subject_alt_names = certificate("w.vault.azure.net").subject_alt_names;
        }),
        ("purpose", |leaf| leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth]),
        ("too late", |leaf| leaf.not_after = date_time_ymd(2024, 12, 31)),
        ("too early", |leaf| leaf.not_before = date_time_ymd(2025, 1, 2)),
    ];
    for (what, change) in changes {
        let world = World::with_leaf(change);
        let error = world.refusal(&world.sign(&world.header(), &payload()));
        assert!(matches!(error, AnswerError::Chain(_)), "{what}: {error:?}");
    }
}

#[test]
fn the_vaults_port_is_no_part_of_its_name() {
    let mut world = World::new();
    world.vault = "v.vault.azure.net:8443".parse().unwrap();
    assert!(world.verify(&world.sign(&world.header(), &payload())).is_ok());
}

#[test]
fn every_echo_must_be_of_this_request() {
    let world = World::new();
    let of_request = |member: &'static str, value: Value| {
        world.refusal_of_payload(|payload| payload["request"][member] = value)
    };
    let other_key = json!("https://v.vault.azure.net/keys/other/1a");
    for (what, error) in [
        ("enc", of_request("enc", json!("CKM_RSA_AES_KEY_WRAP"))),
        ("enc", of_request("enc", json!("RSA_AES_KEY_WRAP_384"))),
        ("nonce", of_request("nonce", json!("another"))),
        ("nonce", of_request("nonce", Value::Null)),
        ("kid", of_request("kid", other_key.clone())),
        ("kid", of_request("kid", json!("https://v.vault.azure.net/keys/tls/1b"))),
        ("kid", world.refusal_of_payload(|all| all["response"]["key"]["key"]["kid"] = other_key)),
    ] {
        assert!(matches!(error, AnswerError::Echo(echo) if echo == what), "{what}: {error:?}");
    }
}

#[test]
fn the_mechanism_that_was_asked_for_is_the_one_that_counts() {
    let world = World::new();
    let of_384 = |payload: &mut Value| payload["request"]["enc"] = json!("RSA_AES_KEY_WRAP_384");
    let mut payload = payload();
    let jws = world.sign(&world.header(), &payload);
    let error = world.verify_by(&jws, Wrap::Sha384, None).err().unwrap();
    assert!(matches!(error, AnswerError::Echo("enc")), "{error:?}");
    of_384(&mut payload);
    let jws = world.sign(&world.header(), &payload);
    assert_eq!(world.verify_by(&jws, Wrap::Sha384, None).ok().unwrap().by, Wrap::Sha384);
}

#[test]
fn a_policy_that_is_expected_must_be_the_keys_own() {
    let world = World::new();
    let policy = json!({"version": "1.0.0", "anyOf": [{"authority": "https://m", "allOf": []}]});
    let with = |released: Value| {
        let mut payload = payload();
        payload["response"]["key"]["release_policy"] = released;
        let jws = world.sign(&world.header(), &payload);
        world.verify_by(&jws, Wrap::Sha256, Some(&policy)).map(|_| ())
    };
    let data = |text: &str| json!({"data": to_b64u(text.as_bytes()), "immutable": true});
    let rewritten =
        r#"{ "anyOf": [ {"allOf": [], "authority": "https://m"} ], "version": "1.0.0" }"#;
    for same in [policy.to_string(), rewritten.to_owned()] {
        assert!(with(data(&same)).is_ok(), "{same}");
    }
    let weaker = policy.to_string().replace("https://m", "https://evil");
    let twice = policy.to_string().replacen('{', r#"{"anyOf": [], "#, 1);
    for other in [
        Value::Null,
        json!({}),
        json!("e30"),
        json!({"data": policy}),
        json!({"data": "!"}),
        data("{}"),
        data("not JSON"),
        data(&weaker),
        data(&twice),
    ] {
        let refused = with(other.clone());
        assert!(matches!(refused, Err(AnswerError::Policy)), "{other}: {refused:?}");
    }
    let mut silent = payload();
    silent["response"]["key"]["release_policy"] = json!(7);
    assert!(world.verify(&world.sign(&world.header(), &silent)).is_ok(), "nobody asked");
}

#[test]
fn a_payload_of_another_form_is_refused() {
    let world = World::new();
    let no_ciphertext = to_b64u(b"{}");
    let no_base64 = to_b64u(br#"{"ciphertext":"a b"}"#);
    for key_hsm in [json!(7), json!("!"), json!("e30="), json!(no_ciphertext), json!(no_base64)] {
        let error =
            world.refusal_of_payload(|all| all["response"]["key"]["key"]["key_hsm"] = key_hsm);
        assert!(matches!(error, AnswerError::Payload), "{error:?}");
    }
    let error = world.refusal_of_payload(|all| *all = json!([]));
    assert!(matches!(error, AnswerError::Payload), "{error:?}");
}

#[test]
fn what_is_no_jws_is_refused() {
    let world = World::new();
    for text in ["", "a", "a.b", "a.b.c", "e30.e30.", "e30.e30.e30.e30"] {
        let error = world.refusal(text);
        assert!(matches!(error, AnswerError::Jws(_) | AnswerError::X5c), "{text}: {error:?}");
    }
    let error = world.refusal(&"a".repeat(LONGEST + 1));
    assert!(matches!(error, AnswerError::Jws(JwsError::TooLong(_))), "{error:?}");
}

#[test]
fn a_leaf_without_an_rsa_key_is_refused() {
    let mut world = World::new();
    let key = KeyPair::generate().unwrap();
    let leaf = certificate("v.vault.azure.net").signed_by(&key, &world.issuer).unwrap();
    world.chain[0] = leaf.der().clone();
    let error = world.refusal(&world.sign(&world.header(), &payload()));
    assert!(matches!(error, AnswerError::LeafKey), "{error:?}");
}
