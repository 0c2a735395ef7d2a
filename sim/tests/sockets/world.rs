//! The whole world: its files, its names, its end.

use std::time::{Duration, Instant};

use reqwest::{Method, StatusCode};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use sim::encoding::from_b64;
use sim::faults::{MaaFault, ModelFault};
use sim::uvm;
use sim::vault::KeySpec;
use sim::world::{HttpsConfig, StartError, World, WorldConfig};

use crate::support::{PATIENCE, context_file, stage, state};

#[tokio::test]
async fn the_folder_holds_the_anchors_and_each_groups_context() {
    let stage = stage(|_| {}).await;
    let folder = stage.world.folder();
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap();
    assert_eq!(read("amd-root.pem").matches("BEGIN CERTIFICATE").count(), 1);
    assert_eq!(read("anchors.pem").matches("BEGIN CERTIFICATE").count(), 3);
    assert_eq!(read("amd-chain.pem").matches("BEGIN CERTIFICATE").count(), 2);
    assert_eq!(read("tls-ca.pem"), stage.world.foundation().tls.root_pem().unwrap());
    assert_eq!(read("uvm-did.txt"), stage.world.foundation().uvm.did());
    assert_eq!(read("host-data.txt"), hex::encode(stage.group().host_data()));

    let group = stage.group();
    let policy = context_file(group, "security-policy-base64");
    assert_eq!(Sha256::digest(&policy)[..], group.host_data()[..]);
    let did = stage.world.foundation().uvm.did();
    let cose = context_file(group, "reference-info-base64");
    let endorsement = uvm::verify(&cose, did, sim::clock::now()).unwrap();
    assert_eq!((endorsement.svn, endorsement.feed.as_str()), (Some(104), "ContainerPlat-AMD-UVM"));
    for name in ["security-policy-base64", "reference-info-base64", "host-amd-cert-base64"] {
        let text = std::fs::read_to_string(group.context_dir().join(name)).unwrap();
        assert!(from_b64(&text).is_ok() && !text.ends_with('\n'), "{name}");
    }
}

/// The files have the form of the recorded ones, byte for byte where that can be said.
#[tokio::test]
async fn the_context_reads_like_a_recorded_one() {
    let Some(vectors) = crate::support::vectors() else { return };
    let recorded = vectors.join("ms-confidential-sidecar/security-context");
    let stage = stage(|_| {}).await;
    let members = |json: &[u8]| -> Vec<String> {
        let host: Value = serde_json::from_slice(json).unwrap();
        host.as_object().unwrap().keys().cloned().collect()
    };
    let real = std::fs::read_to_string(recorded.join("host-amd-cert-base64")).unwrap();
    let real = from_b64(&real).unwrap();
    let own = context_file(stage.group(), "host-amd-cert-base64");
    assert_eq!(members(&own), members(&real));
    assert_eq!(own[..40], real[..40]);
    let real = std::fs::read_to_string(recorded.join("reference-info-base64")).unwrap();
    let own = stage.group().context_dir().join("reference-info-base64");
    assert_eq!(std::fs::read_to_string(own).unwrap()[..4], real[..4]);
}

#[tokio::test]
async fn a_host_name_stands_in_url_certificate_and_tokens() {
    let stage = stage(|config| {
        let maa = HttpsConfig { host: "maa.sim.internal".to_owned(), ..HttpsConfig::default() };
        config.maa = Some(maa);
    })
    .await;
    let maa = stage.world.maa().unwrap();
    assert_eq!(maa.url, format!("https://maa.sim.internal:{}", maa.address().port()));
    let tls = sim::http::tls::client(stage.world.foundation().tls.root()).unwrap();
    let client = reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .resolve("maa.sim.internal", maa.address())
        .no_proxy()
        .build()
        .unwrap();
    let url = format!("{}/.well-known/openid-configuration", maa.url);
    let answer = crate::support::read(client.get(url).send().await.unwrap()).await.unwrap();
    assert_eq!(answer.json()["issuer"], Value::from(maa.url.as_str()));
}

#[tokio::test]
async fn a_stop_ends_stalled_calls_within_a_second() {
    let stage = stage(|_| {}).await;
    stage.world.maa().unwrap().faults.until_cleared(MaaFault::Stall);
    stage.world.model().unwrap().faults.until_cleared(ModelFault::StallBeforeFirstByte);
    let attest = crate::support::attest_url(&stage);
    let chat = format!("{}/v1/models", stage.world.model().unwrap().url);
    let client = stage.client.clone();
    let calls = tokio::spawn(async move {
        tokio::join!(client.post(attest).body("{}").send(), client.get(chat).send())
    });
    let asked = stage.world.records().wait_for(|record| record.target == "/v1/models");
    tokio::time::timeout(PATIENCE, asked).await.unwrap();
    let (model, started) = (stage.world.model().unwrap().address(), Instant::now());
    stage.world.stop().await;
    assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
    let (attested, listed) = calls.await.unwrap();
    assert!(attested.is_err() && listed.is_err());
    assert!(tokio::net::TcpStream::connect(model).await.is_err());
}

#[tokio::test]
async fn a_taken_port_and_an_unknown_placeholder_are_told() {
    let stage = stage(|_| {}).await;
    let folder = tempfile::tempdir().unwrap();
    let mut config = WorldConfig::empty(folder.path());
    config.state = Some(state());
    let listen = stage.world.maa().unwrap().address();
    config.maa = Some(HttpsConfig { listen, ..HttpsConfig::default() });
    assert!(matches!(World::start(config).await, Err(StartError::Listen { .. })));

    let mut config = WorldConfig::new(folder.path());
    config.state = Some(state());
    let key: KeySpec = serde_json::from_value(serde_json::json!({
        "name": "key", "kty": "EC-HSM",
        "release_policy": sim::world::aci_release_policy("${NOBODY}", "00"),
    }))
    .unwrap();
    config.vault.as_mut().unwrap().keys.push(key);
    assert!(matches!(World::start(config).await, Err(StartError::Template { .. })));
}

#[tokio::test]
async fn plain_http_on_a_tls_port_gets_no_answer() {
    let stage = stage(|_| {}).await;
    let address = stage.world.maa().unwrap().address();
    let answer = stage.send(Method::GET, &format!("http://{address}/certs"), &[], None).await;
    assert!(answer.is_err());
    let health = format!("https://{address}/_sim/health");
    assert_eq!(stage.get(&health).await.status, StatusCode::OK);
}
