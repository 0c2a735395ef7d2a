//! An issuer of this test, and tokens that it signs.

use std::sync::OnceLock;

use attestation::maa::{Claims, Issuer, Jwks, TokenError, verify_token};
use attestation::{Rejected, Trust, Verified};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use rcgen::{CertificateParams, KeyPair, PKCS_RSA_SHA256, SigningKey as _};
use serde_json::{Value, json};

pub(crate) const URL: &str = "https://sharedeus.eus.attest.azure.net";
pub(crate) const NOW: u64 = 1_795_305_600;
pub(crate) const RUNTIME: &[u8] =
    br#"{"keys":[{"kty":"RSA","kid":"k"}],"vm-configuration":{"vmUniqueId":"V"}}"#;

/// A key of this test and a set that holds it.
pub(crate) struct Mint {
    pub(crate) key: KeyPair,
    pub(crate) certificate: Vec<u8>,
}

pub(crate) fn mint() -> &'static Mint {
    static MINT: OnceLock<Mint> = OnceLock::new();
    MINT.get_or_init(|| {
        let key = KeyPair::generate_for(&PKCS_RSA_SHA256).unwrap();
        let certificate = CertificateParams::default().self_signed(&key).unwrap().der().to_vec();
        Mint { key, certificate }
    })
}

impl Mint {
    pub(crate) fn jwks(&self, kid: &str) -> Jwks {
        let x5c = STANDARD.encode(&self.certificate);
        let set = json!({"keys": [{"kid": kid, "kty": "RSA", "x5c": [x5c]}]});
        Jwks::parse(set.to_string().as_bytes()).unwrap()
    }

    pub(crate) fn issuer(&self) -> Issuer {
        Issuer { url: URL.to_owned(), keys: self.jwks("ours"), trust: Trust::NotProduction }
    }

    pub(crate) fn sign(&self, header: &str, payload: &str) -> String {
        let b64 = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let input = format!("{}.{}", b64(header.as_bytes()), b64(payload.as_bytes()));
        let signature = self.key.sign(input.as_bytes()).unwrap();
        format!("{input}.{}", b64(&signature))
    }

    pub(crate) fn token(&self, claims: &Value) -> String {
        self.sign(&header().to_string(), &claims.to_string())
    }
}

pub(crate) fn header() -> Value {
    json!({"alg": "RS256", "typ": "JWT", "kid": "ours", "jku": format!("{URL}/certs")})
}

pub(crate) fn failures(rejected: &Rejected) -> Vec<&'static str> {
    rejected.failures().map(|finding| finding.check.id).collect()
}

pub(crate) fn verified(token: &str) -> Result<Verified<Claims>, Vec<&'static str>> {
    match verify_token(token, &[mint().issuer()], NOW) {
        Ok(verified) => Ok(verified),
        Err(TokenError::Rejected(rejected)) => Err(failures(&rejected)),
        Err(other) => panic!("{other}"),
    }
}

pub(crate) fn refused(header: &Value, claims: &Value) -> Vec<&'static str> {
    let token = mint().sign(&header.to_string(), &claims.to_string());
    verified(&token).err().unwrap_or_default()
}

pub(crate) fn times() -> Value {
    json!({"iss": URL, "iat": NOW, "nbf": NOW, "exp": NOW + 28_800})
}

pub(crate) fn with(mut claims: Value, pointer: &str, value: Value) -> Value {
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    let parent = claims.pointer_mut(parent).unwrap().as_object_mut().unwrap();
    if value.is_null() {
        parent.remove(name);
    } else {
        parent.insert(name.to_owned(), value);
    }
    claims
}
