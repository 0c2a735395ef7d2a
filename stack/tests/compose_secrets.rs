//! The envelope in `compose.yaml` against the vault's key and the literals beside it: what the containers of a laptop open,
//! without containers, and with another implementation than theirs.

#![expect(clippy::indexing_slicing, clippy::unwrap_used, reason = "helpers of tests")]

use std::path::Path;

use aes_gcm::Aes256Gcm;
use aes_gcm::aead::{Aead as _, KeyInit as _, Payload};
use attestation::encoding::from_b64u;
use attestation::secrets::{Envelope, Expected, Secrets, open};
use rsa::{BigUint, Oaep, RsaPrivateKey};
use serde_json::Value;
use sha2::Sha256;

fn file(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)).unwrap()
}

/// The key of the simulated vault that has this name.
fn vault_key(name: &str) -> RsaPrivateKey {
    let config: Value = serde_json::from_str(&file("deploy/compose/vault.json")).unwrap();
    let keys = config["keys"].as_array().unwrap();
    let jwk = &keys.iter().find(|key| key["name"] == name).unwrap()["jwk"];
    let number =
        |name: &str| BigUint::from_bytes_be(&from_b64u(jwk[name].as_str().unwrap()).unwrap());
    let primes = vec![number("p"), number("q")];
    RsaPrivateKey::from_components(number("n"), number("e"), number("d"), primes).unwrap()
}

fn opened(environment: &Value) -> Secrets {
    let text = |name: &str| environment[name].as_str().unwrap();
    let envelope = Envelope::parse(text("SECRETS_ENVELOPE")).ok().unwrap();
    let key = vault_key(text("SECRETS_KID"));
    let content_key = key.decrypt(Oaep::new::<Sha256>(), &envelope.encrypted_key).unwrap();
    let payload = Payload { msg: &envelope.sealed, aad: envelope.aad() };
    let cipher = Aes256Gcm::new_from_slice(&content_key).unwrap();
    let statement = cipher.decrypt(&envelope.nonce.into(), payload).unwrap();
    let expected = Expected {
        signer: text("SECRETS_SIGNER").parse().unwrap(),
        group: text("SECRETS_GROUP").to_owned(),
        min_version: text("SECRETS_MIN_VERSION").parse().unwrap(),
    };
    open(&String::from_utf8(statement).unwrap(), &expected).ok().unwrap()
}

#[test]
fn the_envelope_opens_and_holds_what_the_model_and_the_client_expect() {
    let compose: Value = serde_yaml_ng::from_str(&file("compose.yaml")).unwrap();
    let services = &compose["services"];
    let secrets = opened(&services["skr-sidecar"]["environment"]);
    let value = |name: &str| secrets.values[name].as_str();
    let model: Vec<&str> = services["model"]["command"]
        .as_array()
        .unwrap()
        .iter()
        .map(|word| word.as_str().unwrap())
        .collect();
    assert!(model.contains(&value("PRIVATEMODE_API_KEY")), "{model:?}");
    assert!(file("deploy/try").contains(&format!("--api-key {}", value("API_KEYS"))));
    assert_eq!(services["proxy"]["environment"]["PROXY_SECRETS"], "sealed");
}
