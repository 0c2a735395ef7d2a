//! The vault: who is refused, what is released, and how it is wrapped.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use aes_kw::KekAes256;
use der::Decode as _;
use reqwest::{Method, StatusCode};
use rsa::pkcs8::{DecodePrivateKey as _, DecodePublicKey as _};
use rsa::sha2::{Sha256, Sha384};
use rsa::{Oaep, RsaPrivateKey, RsaPublicKey};
use serde_json::{Map, Value, json};
use sha1::Sha1;
use sim::clock;
use sim::encoding::{b64u, from_b64, from_b64u};
use sim::faults::{MaaFault, VaultFault};
use sim::jose::{self, Jws};
use sim::pki::chain;
use sim::seed::Seed;
use sim::vault::{KeySpec, Permission, Service};
use sim::world::{GroupConfig, VaultServerConfig, WorldConfig, aci_release_policy};
use x509_cert::Certificate;

use crate::support::{Answer, Stage, stage, token, wrapping_key};

fn key(name: &str, kty: &str) -> KeySpec {
    KeySpec {
        name: name.to_owned(),
        kty: kty.to_owned(),
        key_size: None,
        crv: None,
        jwk: None,
        key_ops: None,
        release_policy: Some(aci_release_policy("${MAA}", "${HOST_DATA}")),
        immutable: true,
    }
}

/// Two groups, a debug guest and an impostor against one attestation service and one vault.
fn attack_world(config: &mut WorldConfig) {
    let group =
        |name: &str| GroupConfig { time_per_report: Duration::ZERO, ..GroupConfig::new(name) };
    let policy = || "package policy\n# another\n".to_owned();
    config.groups = vec![
        group("group"),
        GroupConfig { policy: policy(), ..group("stranger") },
        GroupConfig { debug: true, ..group("debug") },
        GroupConfig { machine_seed: Some(Seed::new("another world")), ..group("impostor") },
        GroupConfig { identities: vec!["nobody".to_owned()], ..group("unentitled") },
    ];
    let granted = BTreeSet::from([Permission::Get, Permission::Release]);
    let all = BTreeSet::from([
        Permission::Get,
        Permission::Create,
        Permission::Import,
        Permission::Update,
        Permission::Release,
    ]);
    let vault = config.vault.as_mut().unwrap();
    vault.keys = vec![key("rsa", "RSA-HSM"), key("ec", "EC-HSM")];
    vault.access =
        Some(BTreeMap::from([("group".to_owned(), granted), ("operator".to_owned(), all)]));
}

fn vault_url(stage: &Stage) -> String {
    stage.world.vault().unwrap().url.clone()
}

fn bearer(stage: &Stage, identity: &str) -> String {
    format!("Bearer {}", stage.world.access_token(identity, Service::KeyVault).unwrap())
}

async fn call(
    stage: &Stage,
    method: Method,
    path: &str,
    identity: &str,
    body: Option<&Value>,
) -> Answer {
    let url = format!("{}{path}?api-version=7.4", vault_url(stage));
    let bearer = bearer(stage, identity);
    stage.send(method, &url, &[("authorization", &bearer)], body).await.unwrap()
}

async fn release(stage: &Stage, key: &str, body: &Value) -> Answer {
    call(stage, Method::POST, &format!("/keys/{key}/release"), "group", Some(body)).await
}

/// Verifies an answer as a careful client does and returns its payload.
fn payload(stage: &Stage, answer: &Answer) -> Map<String, Value> {
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    let jws = Jws::parse(answer.json()["value"].as_str().unwrap()).unwrap();
    let chain = certificates(&jws);
    assert_eq!(chain.len(), 3);
    chain::verify(&chain, &[stage.world.foundation().tls.root().clone()], clock::now()).unwrap();
    jws.verify(&leaf_key(&chain[0])).unwrap();
    let names = names(&chain[0]);
    assert!(names.contains(&"localhost".to_owned()), "{names:?}");
    jws.payload
}

fn certificates(jws: &Jws) -> Vec<Certificate> {
    let x5c = jws.header["x5c"].as_array().unwrap();
    x5c.iter()
        .map(|text| Certificate::from_der(&from_b64(text.as_str().unwrap()).unwrap()).unwrap())
        .collect()
}

fn leaf_key(leaf: &Certificate) -> RsaPublicKey {
    use der::Encode as _;
    let spki = leaf.tbs_certificate.subject_public_key_info.to_der().unwrap();
    RsaPublicKey::from_public_key_der(&spki).unwrap()
}

fn names(leaf: &Certificate) -> Vec<String> {
    use x509_cert::ext::pkix::SubjectAltName;
    use x509_cert::ext::pkix::name::GeneralName;
    let (_, names) = leaf.tbs_certificate.get::<SubjectAltName>().unwrap().unwrap();
    names
        .0
        .iter()
        .filter_map(|name| match name {
            GeneralName::DnsName(name) => Some(name.to_string()),
            _ => None,
        })
        .collect()
}

/// The released secret, unwrapped with RustCrypto alone.
fn unwrap(payload: &Map<String, Value>, kek: &RsaPrivateKey) -> Vec<u8> {
    let text = payload["response"]["key"]["key"]["key_hsm"].as_str().unwrap();
    let blob: Value = serde_json::from_slice(&from_b64u(text).unwrap()).unwrap();
    assert_eq!(blob["schema_version"], "1.0");
    assert_eq!(blob["header"]["alg"], "dir");
    assert_eq!(blob["header"]["kid"], "test-kek");
    let enc = payload["request"]["enc"].as_str().unwrap();
    assert_eq!(blob["header"]["enc"], enc);
    let ciphertext = from_b64u(blob["ciphertext"].as_str().unwrap()).unwrap();
    let (under_rsa, under_aes) = ciphertext.split_at(256);
    let oaep = match enc {
        "CKM_RSA_AES_KEY_WRAP" => Oaep::new::<Sha1>(),
        "RSA_AES_KEY_WRAP_256" => Oaep::new::<Sha256>(),
        "RSA_AES_KEY_WRAP_384" => Oaep::new::<Sha384>(),
        other => panic!("{other}"),
    };
    let aes: [u8; 32] = kek.decrypt(oaep, under_rsa).unwrap().try_into().unwrap();
    KekAes256::from(aes).unwrap_with_padding_vec(under_aes).unwrap()
}

#[tokio::test]
async fn a_genuine_guest_gets_its_key_under_every_wrapping() {
    let stage = stage(attack_world).await;
    let (kek, runtime) = wrapping_key();
    let target = token(&stage, stage.group(), &runtime).await;
    for enc in [None, Some("RSA_AES_KEY_WRAP_256"), Some("RSA_AES_KEY_WRAP_384")] {
        let mut body = json!({"target": target, "nonce": "n-1"});
        if let Some(enc) = enc {
            body["enc"] = json!(enc);
        }
        let payload = payload(&stage, &release(&stage, "rsa", &body).await);
        let secret = RsaPrivateKey::from_pkcs8_der(&unwrap(&payload, &kek)).unwrap();
        let key = &payload["response"]["key"];
        let public = jose::rsa_from_jwk(&{
            let mut jwk = key["key"].as_object().unwrap().clone();
            jwk.insert("kty".to_owned(), json!("RSA"));
            jwk
        });
        assert_eq!(RsaPublicKey::from(&secret), public.unwrap());
        assert_eq!(key["key"]["kty"], "RSA-HSM");
        assert_eq!(key["attributes"]["exportable"], json!(true));
        assert_eq!(key["release_policy"]["immutable"], json!(true));
        let request = &payload["request"];
        assert_eq!(request["api-version"], "7.4");
        assert_eq!(request["nonce"], "n-1");
        assert_eq!(request["enc"], json!(enc.unwrap_or("CKM_RSA_AES_KEY_WRAP")));
        assert_eq!(request["kid"], json!(format!("{}/keys/rsa", vault_url(&stage))));
    }
}

#[tokio::test]
async fn elliptic_and_symmetric_keys_are_released_too() {
    let stage = stage(|config| {
        attack_world(config);
        let mut hsm = VaultServerConfig::new(Service::ManagedHsm);
        let k = b64u(&[0x42; 32]);
        let jwk = json!({"kty": "oct-HSM", "k": k}).as_object().unwrap().clone();
        hsm.keys = vec![KeySpec { jwk: Some(jwk), ..key("oct", "oct-HSM") }];
        config.managed_hsm = Some(hsm);
    })
    .await;
    let (kek, runtime) = wrapping_key();
    let target = token(&stage, stage.group(), &runtime).await;
    let body = json!({"target": target});
    let released = payload(&stage, &release(&stage, "ec", &body).await);
    let secret = p256::SecretKey::from_pkcs8_der(&unwrap(&released, &kek)).unwrap();
    let jwk = &released["response"]["key"]["key"];
    let x = from_b64u(jwk["x"].as_str().unwrap()).unwrap();
    assert_eq!(secret.public_key().to_sec1_bytes()[1..33], x[..]);
    assert_eq!((&jwk["kty"], &jwk["crv"]), (&json!("EC-HSM"), &json!("P-256")));

    let hsm = &stage.world.managed_hsm().unwrap().url;
    let url = format!("{hsm}/keys/oct/release?api-version=7.4");
    let token = stage.world.access_token("group", Service::ManagedHsm).unwrap();
    let bearer = format!("Bearer {token}");
    let answer = stage.post(&url, &[("authorization", &bearer)], &body).await;
    let released = payload(&stage, &answer);
    assert_eq!(unwrap(&released, &kek), [0x42; 32]);
    let jwk = &released["response"]["key"]["key"];
    assert!(jwk.get("k").is_none() && jwk["kty"] == "oct-HSM");
}

#[tokio::test]
async fn the_release_is_refused_to_everyone_else() {
    let stage = stage(attack_world).await;
    let (_, runtime) = wrapping_key();
    let refused = async |what: &str, target: String, expected: &str| {
        let answer = release(&stage, "rsa", &json!({"target": target})).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{what}: {}", answer.text());
        let (code, message) = answer.error();
        assert_eq!(code, "Forbidden", "{what}");
        assert!(message.contains(expected), "{what}: {message}");
    };
    let policy = "does not meet key release policy";
    let unverified = "cannot be verified";
    for name in ["stranger", "debug"] {
        let group = stage.world.group(name).unwrap();
        refused(name, token(&stage, group, &runtime).await, policy).await;
    }
    let maa = stage.world.maa().unwrap();
    for fault in [MaaFault::ForeignKey, MaaFault::WrongIssuer, MaaFault::Expired, MaaFault::AlgNone]
    {
        maa.faults.once(fault.clone());
        let target = token(&stage, stage.group(), &runtime).await;
        refused(&format!("{fault:?}"), target, unverified).await;
    }
    refused("no token", "nonsense".to_owned(), unverified).await;
    let good = token(&stage, stage.group(), &runtime).await;
    refused("a cut token", good[..good.len() - 8].to_owned(), unverified).await;
    assert_eq!(release(&stage, "rsa", &json!({"target": good})).await.status, StatusCode::OK);
}

#[tokio::test]
async fn callers_without_token_permission_or_audience_are_refused_first() {
    let stage = stage(attack_world).await;
    let url = format!("{}/keys/rsa/release?api-version=7.4", vault_url(&stage));
    let body = json!({"target": "x"});
    let answer = stage.post(&url, &[], &body).await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    assert!(answer.error().1.contains("AKV10000"));
    let challenge = answer.header("www-authenticate");
    assert!(challenge.starts_with("Bearer authorization=\"https://login.microsoftonline.com/"));
    assert!(challenge.ends_with("resource=\"https://vault.azure.net\""));

    let hsm = stage.world.access_token("group", Service::ManagedHsm).unwrap();
    for wrong in [format!("Bearer {hsm}"), "Bearer nonsense".to_owned(), "Basic eDp5".to_owned()] {
        let answer = stage.post(&url, &[("authorization", &wrong)], &body).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{wrong}");
    }
    let path = "/keys/rsa/release";
    let answer = call(&stage, Method::POST, path, "nobody", Some(&body)).await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
    assert_eq!(answer.json()["error"]["innererror"]["code"], "ForbiddenByRbac");

    let bearer = bearer(&stage, "group");
    let without_version = format!("{}/keys/rsa/release", vault_url(&stage));
    let answer = stage.post(&without_version, &[("authorization", &bearer)], &body).await;
    assert_eq!(
        (answer.status, answer.error().0),
        (StatusCode::BAD_REQUEST, "BadParameter".to_owned(),)
    );
    let answer = release(&stage, "absent", &body).await;
    assert_eq!(
        (answer.status, answer.error().0),
        (StatusCode::NOT_FOUND, "KeyNotFound".to_owned(),)
    );
}

#[tokio::test]
async fn a_token_without_a_key_for_encryption_releases_nothing() {
    let stage = stage(attack_world).await;
    let (key, _) = wrapping_key();
    let small = sim::pki::KeyRing::new(Seed::new("tests"), Some(crate::support::state()))
        .rsa("small", 1024)
        .unwrap();
    let jwk = |key: &RsaPrivateKey, extra: Value| {
        let mut jwk = jose::rsa_jwk(&RsaPublicKey::from(key));
        jwk.extend(extra.as_object().unwrap().clone());
        jwk
    };
    for runtime in [
        json!({}),
        json!({"keys": []}),
        json!({"keys": [jwk(&key, json!({"kid": "a", "key_ops": ["sign"]}))]}),
        json!({"keys": [jwk(&key, json!({"key_ops": ["encrypt"]}))]}),
        json!({"keys": [jwk(&small, json!({"kid": "a", "key_ops": ["encrypt"]}))]}),
    ] {
        let target = token(&stage, stage.group(), runtime.to_string().as_bytes()).await;
        let answer = release(&stage, "rsa", &json!({"target": target})).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{runtime}");
    }
    let usage = json!({"keys": [jwk(&key, json!({"kid": "test-kek", "key_use": "enc"}))]});
    let target = token(&stage, stage.group(), usage.to_string().as_bytes()).await;
    assert_eq!(release(&stage, "rsa", &json!({"target": target})).await.status, StatusCode::OK);
}

#[tokio::test]
async fn keys_are_made_imported_and_versioned_under_the_services_rules() {
    let stage = stage(attack_world).await;
    let maa = stage.world.maa().unwrap().url.clone();
    let data = aci_release_policy(&maa, &hex::encode(stage.group().host_data())).to_string();
    let policy = json!({"data": b64u(data.as_bytes()), "immutable": true});
    let create = async |body: Value| {
        call(&stage, Method::POST, "/keys/made/create", "operator", Some(&body)).await
    };
    for (body, code) in [
        (json!({"kty": "RSA-HSM", "attributes": {"exportable": true}}), "AKV.SKR.1004"),
        (json!({"kty": "RSA-HSM", "release_policy": policy}), "AKV.SKR.1005"),
        (
            json!({"kty": "RSA", "attributes": {"exportable": true}, "release_policy": policy}),
            "AKV.SKR.1006",
        ),
        (json!({"kty": "oct-HSM"}), "Managed HSM"),
        (json!({"kty": "RSA-HSM", "key_size": 1000}), "1000"),
        (
            json!({"kty": "EC-HSM", "attributes": {"exportable": true},
                "release_policy": {"data": b64u(b"{}")}}),
            "grammar",
        ),
    ] {
        let answer = create(body.clone()).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{body}");
        assert!(answer.error().1.contains(code), "{body}: {}", answer.text());
    }
    let exportable = json!({
        "kty": "EC-HSM", "crv": "P-384", "attributes": {"exportable": true},
        "release_policy": policy,
    });
    let first = create(exportable.clone()).await.json();
    let second = create(exportable).await.json();
    let kid = |bundle: &Value| bundle["key"]["kid"].as_str().unwrap().to_owned();
    assert_ne!(kid(&first), kid(&second));
    let newest = call(&stage, Method::GET, "/keys/made", "operator", None).await.json();
    assert_eq!(kid(&newest), kid(&second));
    let version = kid(&first).rsplit('/').next().unwrap().to_owned();
    let path = format!("/keys/made/{version}");
    assert_eq!(kid(&call(&stage, Method::GET, &path, "operator", None).await.json()), kid(&first));

    let change = json!({"release_policy": policy});
    let answer = call(&stage, Method::PATCH, "/keys/made", "operator", Some(&change)).await;
    assert!(answer.error().1.contains("AKV.SKR.1020"), "{}", answer.text());
    let change = json!({"attributes": {"enabled": false}});
    let answer = call(&stage, Method::PATCH, "/keys/made", "operator", Some(&change)).await;
    assert_eq!(answer.json()["attributes"]["enabled"], json!(false));
    let answer = release(&stage, "made", &json!({"target": "x"})).await;
    assert!(answer.error().1.contains("disabled"), "{}", answer.text());

    let answer = call(&stage, Method::POST, "/keys/made/create", "group", Some(&change)).await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn an_imported_key_comes_back_as_it_went_in() {
    let stage = stage(attack_world).await;
    let maa = stage.world.maa().unwrap().url.clone();
    let data = aci_release_policy(&maa, &hex::encode(stage.group().host_data())).to_string();
    let d = [0x17; 32];
    let body = json!({
        "key": {"kty": "EC", "crv": "P-256", "d": b64u(&d)},
        "Hsm": true,
        "attributes": {"exportable": true},
        "release_policy": {"data": b64u(data.as_bytes())},
    });
    let answer = call(&stage, Method::PUT, "/keys/imported", "operator", Some(&body)).await;
    let bundle = answer.json();
    assert_eq!(bundle["key"]["kty"], "EC-HSM", "{bundle}");
    assert!(bundle["key"].get("d").is_none());
    // Key Vault does not keep the text of a policy: it writes it anew, in its own order.
    let kept = from_b64u(bundle["release_policy"]["data"].as_str().unwrap()).unwrap();
    assert_ne!(kept, data.as_bytes());
    assert!(kept.starts_with(br#"{"version":"1.0.0","anyOf":[{"authority":"#));

    let (kek, runtime) = wrapping_key();
    let target = token(&stage, stage.group(), &runtime).await;
    let answer = release(&stage, "imported", &json!({"target": target})).await;
    let secret = unwrap(&payload(&stage, &answer), &kek);
    assert_eq!(p256::SecretKey::from_pkcs8_der(&secret).unwrap().to_bytes()[..], d);
}

#[tokio::test]
async fn a_restarted_vault_has_the_same_keys_in_the_same_versions() {
    let mut seen = Vec::new();
    for _ in 0..2 {
        let stage = stage(attack_world).await;
        let bundle = call(&stage, Method::GET, "/keys/ec", "operator", None).await.json();
        let kid = bundle["key"]["kid"].as_str().unwrap().to_owned();
        seen.push((kid.rsplit('/').next().unwrap().to_owned(), bundle["key"]["x"].clone()));
    }
    assert_eq!(seen[0], seen[1]);
}

#[tokio::test]
async fn every_fault_shows() {
    let stage = stage(attack_world).await;
    let (kek, runtime) = wrapping_key();
    let body = json!({"target": token(&stage, stage.group(), &runtime).await});
    let faults = &stage.world.vault().unwrap().faults;
    let once = async |fault: VaultFault| {
        faults.once(fault);
        release(&stage, "rsa", &body).await
    };
    for (fault, status) in [
        (VaultFault::Unauthorized, StatusCode::UNAUTHORIZED),
        (VaultFault::Forbidden, StatusCode::FORBIDDEN),
        (VaultFault::NotFound, StatusCode::NOT_FOUND),
        (VaultFault::TooManyRequests { retry_after: 1 }, StatusCode::TOO_MANY_REQUESTS),
        (VaultFault::ServerError, StatusCode::INTERNAL_SERVER_ERROR),
    ] {
        assert_eq!(once(fault.clone()).await.status, status, "{fault:?}");
    }
    let bearer = bearer(&stage, "group");
    let url = format!("{}/keys/rsa/release?api-version=7.4", vault_url(&stage));
    for fault in [VaultFault::Truncated, VaultFault::Oversized] {
        faults.once(fault);
        let headers = [("authorization", bearer.as_str())];
        assert!(stage.send(Method::POST, &url, &headers, Some(&body)).await.is_err());
    }

    let jws = |answer: &Answer| Jws::parse(answer.json()["value"].as_str().unwrap()).unwrap();
    assert_eq!(jws(&once(VaultFault::EmptyX5c).await).header["x5c"], json!([]));
    let foreign = jws(&once(VaultFault::ForeignX5c).await);
    let chain = certificates(&foreign);
    foreign.verify(&leaf_key(&chain[0])).unwrap();
    let root = stage.world.foundation().tls.root().clone();
    assert!(chain::verify(&chain, &[root], clock::now()).is_err());

    let answer = payload(&stage, &once(VaultFault::WrongEnc).await);
    assert_eq!(answer["request"]["enc"], "RSA_AES_KEY_WRAP_256");
    let answer = payload(&stage, &once(VaultFault::WrongKid).await);
    assert!(answer["request"]["kid"].as_str().unwrap().ends_with("/keys/another-key"));
    let answer = payload(&stage, &once(VaultFault::ShortCiphertext).await);
    let text = answer["response"]["key"]["key"]["key_hsm"].as_str().unwrap();
    let blob: Value = serde_json::from_slice(&from_b64u(text).unwrap()).unwrap();
    assert_eq!(from_b64u(blob["ciphertext"].as_str().unwrap()).unwrap().len(), 100);

    let good = once_without(&stage, &body).await;
    let secret = unwrap(&payload(&stage, &good), &kek);
    let swapped = payload(&stage, &once(VaultFault::KeySwapped).await);
    assert_ne!(unwrap(&swapped, &kek), secret);
    let previous = payload(&stage, &once_without(&stage, &body).await);
    let replayed = payload(&stage, &once(VaultFault::ReplayPrevious).await);
    assert_eq!(previous, replayed);
    assert_ne!(previous, payload(&stage, &once_without(&stage, &body).await));
}

async fn once_without(stage: &Stage, body: &Value) -> Answer {
    release(stage, "rsa", body).await
}
