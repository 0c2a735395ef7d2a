//! A fake vault: it wraps a key for whom the token names, and signs that it did, with RustCrypto.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use attestation::encoding::{from_b64u, to_b64u};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::Request;
use rcgen::{
    BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, PKCS_RSA_SHA256, RsaKeySize,
};
use rsa::pkcs1v15::SigningKey;
use rsa::pkcs8::DecodePrivateKey as _;
use rsa::signature::{SignatureEncoding as _, Signer as _};
use rsa::{BigUint, Oaep, RsaPrivateKey, RsaPublicKey};
use rustls_pki_types::PrivatePkcs8KeyDer;
use serde_json::{Value, json};
use sha2::{Sha256, Sha384};

use super::http::{Answer, answer, serve};

/// A key that the vault holds.
#[derive(Clone)]
pub(crate) struct Key {
    /// `kty`, `key_ops` and the public half.
    pub(crate) published: Value,
    /// PKCS #8, or the raw bytes.
    pub(crate) secret: Vec<u8>,
    /// What it says about its release policy.
    pub(crate) policy: Option<Value>,
}

/// What the vault does with one request instead of its duty.
pub(crate) enum Misdeed {
    /// It refuses, with these headers.
    Refuse(u16, &'static str, Vec<(&'static str, &'static str)>),
    /// It answers these bytes with 200.
    Answer(Vec<u8>),
    /// It signs another header and payload: `(header, payload)` as they would be, changed.
    Sign(fn(&mut Value, &mut Value)),
    /// It wraps another secret than the one that it publishes.
    Wrap(Vec<u8>),
    /// It cuts the wrapped key to this length.
    Cut(usize),
    /// It answers what it answered last.
    Replay,
    /// It signs as somebody else, under its own chain.
    ForeignChain,
}

struct State {
    key: Option<Key>,
    misdeeds: VecDeque<Misdeed>,
    requests: Vec<Request<Bytes>>,
    last: String,
}

/// A signing leaf under an authority.
struct Signer {
    authority: String,
    leaf: KeyPair,
    chain: Vec<Vec<u8>>,
}

#[derive(Clone)]
pub(crate) struct FakeVault {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    signer: Arc<Signer>,
}

impl FakeVault {
    pub(crate) async fn start() -> Self {
        let signer = Arc::new(Signer::new());
        let state = State {
            key: None,
            misdeeds: VecDeque::new(),
            requests: Vec::new(),
            last: String::new(),
        };
        let state = Arc::new(Mutex::new(state));
        let (shared, with) = (state.clone(), signer.clone());
        let tls = Some(Arc::new(signer.tls()));
        let address = serve(tls, move |request| {
            let (shared, with) = (shared.clone(), with.clone());
            async move {
                let work = move || shared.lock().unwrap().respond(&request, &with);
                tokio::task::spawn_blocking(work).await.unwrap()
            }
        })
        .await;
        Self { address, state, signer }
    }

    /// `host:port`.
    pub(crate) fn host(&self) -> String {
        self.address.to_string()
    }

    /// The authority that vouches for it, in PEM.
    pub(crate) fn authority(&self) -> &str {
        &self.signer.authority
    }

    /// What it shows for TLS: for other fakes at 127.0.0.1.
    pub(crate) fn tls(&self) -> Arc<rustls::ServerConfig> {
        Arc::new(self.signer.tls())
    }

    /// Holds this key, under every name.
    pub(crate) fn hold(&self, key: Key) {
        self.state.lock().unwrap().key = Some(key);
    }

    /// What it does with the next requests, one after the other.
    pub(crate) fn misbehave(&self, misdeeds: impl IntoIterator<Item = Misdeed>) {
        self.state.lock().unwrap().misdeeds.extend(misdeeds);
    }

    /// Every request so far.
    pub(crate) fn requests(&self) -> Vec<Request<Bytes>> {
        self.state.lock().unwrap().requests.clone()
    }
}

impl State {
    fn respond(&mut self, request: &Request<Bytes>, signer: &Signer) -> Answer {
        self.requests.push(request.clone());
        let mut foreign = None;
        let mut cut = usize::MAX;
        let mut change: fn(&mut Value, &mut Value) = |_, _| {};
        let Some(Key { published, mut secret, policy }) = self.key.clone() else {
            return answer(404, r#"{"error":{"code":"KeyNotFound","message":"no key"}}"#);
        };
        match self.misdeeds.pop_front() {
            None => {}
            Some(Misdeed::Refuse(status, body, headers)) => {
                let mut refusal = answer(status, body);
                for (name, value) in headers {
                    refusal.headers_mut().insert(name, value.parse().unwrap());
                }
                return refusal;
            }
            Some(Misdeed::Answer(bytes)) => return answer(200, bytes),
            Some(Misdeed::Replay) => return self.value(),
            Some(Misdeed::Sign(with)) => change = with,
            Some(Misdeed::Wrap(other)) => secret = other,
            Some(Misdeed::Cut(length)) => cut = length,
            Some(Misdeed::ForeignChain) => foreign = Some(Signer::new()),
        }
        let body: Value = serde_json::from_slice(request.body()).unwrap();
        let of_384 = body["enc"] == "RSA_AES_KEY_WRAP_384";
        let padding = if of_384 { Oaep::new::<Sha384>() } else { Oaep::new::<Sha256>() };
        let mut wrapped = wrap_for(body["target"].as_str().unwrap(), padding, &secret);
        wrapped.truncate(cut);
        let signer = foreign.as_ref().unwrap_or(signer);
        let (mut header, mut payload) =
            (signer.header(), payload(request, &body, &published, &wrapped));
        if let Some(policy) = policy {
            payload["response"]["key"]["release_policy"] = policy;
        }
        change(&mut header, &mut payload);
        self.last = signer.sign(&header, &payload);
        self.value()
    }

    fn value(&self) -> Answer {
        answer(200, json!({"value": self.last}).to_string())
    }
}

/// RSA-OAEP around an AES key, AES-KWP with that around the secret.
fn wrap_for(target: &str, padding: Oaep, secret: &[u8]) -> Vec<u8> {
    let claims = from_b64u(target.split('.').nth(1).unwrap()).unwrap();
    let claims: Value = serde_json::from_slice(&claims).unwrap();
    let number =
        |name: &str| BigUint::from_bytes_be(&from_b64u(claims[name].as_str().unwrap()).unwrap());
    let key = RsaPublicKey::new(number("n"), number("e")).unwrap();
    let aes_key: [u8; 32] = rand::random();
    let mut wrapped = key.encrypt(&mut rand::thread_rng(), padding, &aes_key).unwrap();
    wrapped.extend(aes_kw::KekAes256::from(aes_key).wrap_with_padding_vec(secret).unwrap());
    wrapped
}

fn payload(request: &Request<Bytes>, body: &Value, published: &Value, wrapped: &[u8]) -> Value {
    let path = request.uri().path().strip_suffix("/release").unwrap();
    let kid = format!("https://{}{path}", request.headers()["host"].to_str().unwrap());
    let key_hsm = json!({
        "schema_version": "1.0",
        "header": {"kid": "k", "alg": "dir", "enc": body["enc"]},
        "ciphertext": to_b64u(wrapped),
    });
    let mut key = published.clone();
    key["kid"] = json!(kid);
    key["key_hsm"] = json!(to_b64u(key_hsm.to_string().as_bytes()));
    json!({
        "request": {"api-version": "7.4", "enc": body["enc"], "kid": kid, "nonce": body["nonce"]},
        "response": {"key": {"key": key, "attributes": {"exportable": true}}},
    })
}

impl Signer {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let root = params.self_signed(&key).unwrap();
        let issuer = Issuer::new(params, key);
        let leaf = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap();
        let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        let certificate = params.signed_by(&leaf, &issuer).unwrap();
        let chain = vec![certificate.der().to_vec(), root.der().to_vec()];
        Self { authority: root.pem(), leaf, chain }
    }

    fn tls(&self) -> rustls::ServerConfig {
        let chain = self.chain.iter().cloned().map(Into::into).collect();
        let key = PrivatePkcs8KeyDer::from(self.leaf.serialize_der());
        rustls::ServerConfig::builder_with_provider(service::roots::provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key.into())
            .unwrap()
    }

    fn header(&self) -> Value {
        let x5c: Vec<_> = self.chain.iter().map(|der| STANDARD.encode(der)).collect();
        json!({"alg": "RS256", "kid": "leaf", "x5c": x5c})
    }

    fn sign(&self, header: &Value, payload: &Value) -> String {
        let part = |value: &Value| to_b64u(value.to_string().as_bytes());
        let input = format!("{}.{}", part(header), part(payload));
        let key = RsaPrivateKey::from_pkcs8_der(self.leaf.serialized_der()).unwrap();
        let signature = SigningKey::<Sha256>::new(key).sign(input.as_bytes());
        format!("{input}.{}", to_b64u(&signature.to_bytes()))
    }
}
