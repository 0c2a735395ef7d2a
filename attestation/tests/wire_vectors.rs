//! Our formats against `vectors/wire.json`, which `vectors/wire.py` computes from the contract alone.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use attestation::binding::{self, Binding};
use attestation::merkle::Tree;
use attestation::secrets::{self, Secrets};
use serde_json::Value;

fn vectors() -> Value {
    serde_json::from_str(include_str!("../vectors/wire.json")).unwrap()
}

fn bytes(value: &Value) -> Vec<u8> {
    hex::decode(value.as_str().unwrap()).unwrap()
}

fn array<const N: usize>(value: &Value) -> [u8; N] {
    bytes(value).try_into().unwrap()
}

#[test]
fn bindings() {
    let all = &vectors()["bindings"];
    let f = &all["tls-channel"]["fields"];
    let channel = Binding::TlsChannel {
        nonce: array(&f["nonce"]),
        exporter: array(&f["exporter"]),
        spki_sha256: array(&f["spki_sha256"]),
        certificate_sha256: array(&f["certificate_sha256"]),
        manifest_sha256: array(&f["manifest_sha256"]),
    };
    assert_eq!(channel.leaf(), bytes(&all["tls-channel"]["leaf"]));

    let f = &all["client-channel"]["fields"];
    let client = Binding::ClientChannel {
        nonce: array(&f["nonce"]),
        exporter: array(&f["exporter"]),
        server_spki_sha256: array(&f["server_spki_sha256"]),
        key_id_sha256: array(&f["key_id_sha256"]),
    };
    assert_eq!(client.leaf(), bytes(&all["client-channel"]["leaf"]));

    let f = &all["log-key"]["fields"];
    let log = Binding::LogKey {
        public_key: bytes(&f["public_key"]),
        boot_id: array(&f["boot_id"]),
        recipients_sha256: array(&f["recipients_sha256"]),
    };
    assert_eq!(log.leaf(), bytes(&all["log-key"]["leaf"]));
}

#[test]
fn merkle_trees() {
    for vector in vectors()["merkle"].as_array().unwrap() {
        let leaves: Vec<Vec<u8>> = vector["leaves"].as_array().unwrap().iter().map(bytes).collect();
        let tree = Tree::new(&leaves).unwrap();
        assert_eq!(tree.root, array(&vector["root"]));
        assert_eq!(binding::batch(&tree.root), array(&vector["report_data"]));
        for (inclusion, path) in tree.inclusions.iter().zip(vector["paths"].as_array().unwrap()) {
            let path: Vec<[u8; 32]> = path.as_array().unwrap().iter().map(array).collect();
            assert_eq!(inclusion.path, path);
        }
    }
}

#[test]
fn report_data_shapes() {
    let all = vectors();
    let certificate = &all["tls-certificate"];
    assert_eq!(
        binding::tls_certificate(
            &array(&certificate["spki_sha256"]),
            certificate["not_after"].as_u64().unwrap()
        ),
        array(&certificate["report_data"])
    );
    let maa = &all["maa"];
    assert_eq!(binding::maa(&bytes(&maa["runtime_data"])), array(&maa["report_data"]));
}

#[test]
fn owner_message() {
    let owner = &vectors()["owner"];
    assert_eq!(
        binding::owner_message(
            &array(&owner["report_data"]),
            &attestation::crypto::sha256(&bytes(&owner["manifest"]))
        ),
        bytes(&owner["message"])
    );
}

#[test]
fn sealed_secrets() {
    let v = &vectors()["secrets"];
    let text = |name: &str| v[name].as_str().unwrap();
    let values = v["values"].as_object().unwrap().iter();
    let values =
        values.map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned().into()));
    let secrets = Secrets {
        version: v["version"].as_u64().unwrap().try_into().unwrap(),
        group: text("group").to_owned(),
        values: values.collect(),
    };
    let input = secrets::signing_input(&secrets, text("signer_kid")).unwrap();
    assert_eq!(input.as_str(), text("signing_input"));
    assert_eq!(secrets::protected_header(text("vault_kid")), text("aad"));
}
