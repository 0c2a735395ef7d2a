//! The attestation service: genuine evidence gets the real token, everything else an error.

use reqwest::{Method, StatusCode};
use rsa::RsaPublicKey;
use rsa::pkcs8::DecodePublicKey as _;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};
use sim::clock;
use sim::encoding::{b64u, from_b64};
use sim::faults::MaaFault;
use sim::jose::Jws;
use sim::report::{Report, SignatureForm};
use sim::seed::Seed;
use sim::tcb::Product;
use sim::uvm::UvmForm;

use crate::support::{Answer, Evidence, Stage, attest_url, stage, vectors};

const RUNTIME: &[u8] = br#"{"location":"East US","publicKey":"abc"}"#;

async fn attest(stage: &Stage, evidence: &Evidence) -> Answer {
    stage.post(&attest_url(stage), &[], &evidence.body()).await
}

/// The claims of a token that was verified through the service's own metadata.
async fn verified(stage: &Stage, answer: &Answer) -> Map<String, Value> {
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    let token = answer.json()["token"].as_str().unwrap().to_owned();
    let jws = Jws::parse(&token).unwrap();
    jws.verify(&published_key(stage, jws.header_str("kid").unwrap()).await).unwrap();
    jws.payload
}

async fn published_key(stage: &Stage, kid: &str) -> RsaPublicKey {
    use der::{Decode as _, Encode as _};
    let issuer = &stage.world.maa().unwrap().url;
    let discovery = stage.get(&format!("{issuer}/.well-known/openid-configuration")).await.json();
    assert_eq!(discovery["issuer"], json!(issuer));
    let set = stage.get(discovery["jwks_uri"].as_str().unwrap()).await.json();
    let keys = set["keys"].as_array().unwrap().clone();
    let key = keys.iter().find(|key| key["kid"] == kid).unwrap();
    assert_eq!(key.as_object().unwrap().len(), 3);
    let leaf = from_b64(key["x5c"][0].as_str().unwrap()).unwrap();
    let leaf = x509_cert::Certificate::from_der(&leaf).unwrap();
    let spki = leaf.tbs_certificate.subject_public_key_info.to_der().unwrap();
    RsaPublicKey::from_public_key_der(&spki).unwrap()
}

/// JSON type, with the kind of number told apart.
fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_u64() => "integer",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

#[tokio::test]
async fn the_token_has_the_shape_of_the_recorded_one_key_by_key() {
    let Some(folder) = vectors() else { return };
    let recorded = std::fs::read(folder.join("maa-tokens/aci-payload-sharedeus-2023-09.json"));
    let recorded: Map<String, Value> = serde_json::from_slice(&recorded.unwrap()).unwrap();
    // Images of that year were endorsed without the number.
    let stage = stage(|config| config.groups[0].uvm_form = UvmForm::JsonTextSvn).await;
    let evidence = Evidence::of(stage.group(), RUNTIME).await;
    let claims = verified(&stage, &attest(&stage, &evidence).await).await;
    let shape = |claims: &Map<String, Value>| -> Vec<(String, &'static str, usize)> {
        let mut shape: Vec<_> = claims
            .iter()
            .map(|(name, value)| {
                let hex = value.as_str().is_some_and(|text| {
                    text.len() >= 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
                });
                let length = if hex { value.as_str().unwrap().len() } else { 0 };
                (name.clone(), kind(value), length)
            })
            .collect();
        shape.sort();
        shape
    };
    assert_eq!(shape(&claims), shape(&recorded));
    for name in ["x-ms-sevsnpvm-uvm-endorsement", "x-ms-sevsnpvm-uvm-endorsement-headers"] {
        let (own, real) = (claims[name].as_object().unwrap(), recorded[name].as_object().unwrap());
        assert_eq!(shape(own), shape(real), "{name}");
    }
    for name in [
        "nonce",
        "x-ms-attestation-type",
        "x-ms-compliance-status",
        "x-ms-runtime",
        "x-ms-sevsnpvm-authorkeydigest",
        "x-ms-sevsnpvm-familyId",
        "x-ms-sevsnpvm-guestsvn",
        "x-ms-sevsnpvm-imageId",
        "x-ms-sevsnpvm-is-debuggable",
        "x-ms-sevsnpvm-migration-allowed",
        "x-ms-sevsnpvm-smt-allowed",
        "x-ms-sevsnpvm-tee-svn",
        "x-ms-sevsnpvm-vmpl",
        "x-ms-ver",
    ] {
        assert_eq!(claims[name], recorded[name], "{name}");
    }
    let number = |name: &str| claims[name].as_u64().unwrap();
    assert_eq!(number("exp") - number("iat"), 28_800);
    assert_eq!(number("nbf"), number("iat"));
}

#[tokio::test]
async fn claims_are_computed_from_the_report() {
    let stage = stage(|_| {}).await;
    let group = stage.group();
    let evidence = Evidence::of(group, RUNTIME).await;
    let claims = verified(&stage, &attest(&stage, &evidence).await).await;
    let report = Report::parse(&evidence.report).unwrap();
    for (name, expected) in [
        ("hostdata", json!(hex::encode(group.host_data()))),
        ("launchmeasurement", json!(hex::encode(report.measurement))),
        ("reportid", json!(hex::encode(report.report_id))),
        ("idkeydigest", json!(hex::encode(report.id_key_digest))),
        ("bootloader-svn", json!(4)),
        ("tee-svn", json!(0)),
        ("snpfw-svn", json!(24)),
        ("microcode-svn", json!(219)),
        ("vmpl", json!(0)),
    ] {
        assert_eq!(claims[&format!("x-ms-sevsnpvm-{name}")], expected, "{name}");
    }
    let hash = hex::encode(Sha256::digest(RUNTIME));
    assert_eq!(claims["x-ms-sevsnpvm-reportdata"], json!(format!("{hash}{}", "0".repeat(64))));
    let endorsement = &claims["x-ms-sevsnpvm-uvm-endorsement"];
    assert_eq!(endorsement["x-ms-sevsnpvm-guestsvn"], "104");
    assert_eq!(endorsement["x-ms-sevsnpvm-guestsvn-int"], 104);
    assert_eq!(claims["iss"], json!(stage.world.maa().unwrap().url));
}

#[tokio::test]
async fn header_paths_and_api_versions_are_azures() {
    let stage = stage(|_| {}).await;
    let evidence = Evidence::of(stage.group(), RUNTIME).await;
    let url = &stage.world.maa().unwrap().url;
    for path in [
        "/attest/SevSnpVm?api-version=2022-08-01",
        "/attest/SevSnpVM?api-version=2020-10-01",
        "/Attest/sevsnpvm?api-version=2022-08-01",
    ] {
        let answer = stage.post(&format!("{url}{path}"), &[], &evidence.body()).await;
        assert_eq!(answer.status, StatusCode::OK, "{path}");
        let token = answer.json()["token"].as_str().unwrap().to_owned();
        let header = Jws::parse(&token).unwrap().header;
        assert_eq!(header["alg"], "RS256");
        assert_eq!(header["typ"], "JWT");
        assert_eq!(header["jku"], json!(format!("{url}/certs")));
        assert_eq!(from_b64(header["kid"].as_str().unwrap()).unwrap().len(), 32);
    }
    for path in ["/attest/SevSnpVm", "/attest/SevSnpVm?api-version=1999-01-01"] {
        let answer = stage.post(&format!("{url}{path}"), &[], &evidence.body()).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST);
        assert_eq!(answer.error().0, "InvalidParameter");
    }
    let answer = stage.get(&format!("{url}/attest/SevSnpVm?api-version=2022-08-01")).await;
    assert_eq!(answer.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn padded_base64url_is_taken_and_runtime_data_may_be_left_out() {
    let stage = stage(|_| {}).await;
    let evidence = Evidence::of(stage.group(), RUNTIME).await;
    let mut body = evidence.body();
    let pad = |text: &Value| {
        let text = text.as_str().unwrap();
        format!("{text}{}", "=".repeat((4 - text.len() % 4) % 4))
    };
    body["report"] = json!(pad(&body["report"]));
    body["runtimeData"]["data"] = json!(pad(&body["runtimeData"]["data"]));
    let answer = stage.post(&attest_url(&stage), &[], &body).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());

    let body = json!({"report": body["report"]});
    let claims = verified(&stage, &stage.post(&attest_url(&stage), &[], &body).await).await;
    assert!(!claims.contains_key("x-ms-runtime") && !claims.contains_key("nonce"));
}

#[tokio::test]
async fn a_debug_or_migratable_guest_gets_a_token_that_says_so() {
    let stage = stage(|config| {
        config.groups[0].debug = true;
        config.groups[0].amend = |report| report.policy |= 1 << 18;
    })
    .await;
    let evidence = Evidence::of(stage.group(), RUNTIME).await;
    let claims = verified(&stage, &attest(&stage, &evidence).await).await;
    assert_eq!(claims["x-ms-sevsnpvm-is-debuggable"], json!(true));
    assert_eq!(claims["x-ms-sevsnpvm-migration-allowed"], json!(true));
    assert_eq!(claims["x-ms-compliance-status"], "azure-compliant-uvm");
}

#[tokio::test]
async fn without_a_good_endorsement_the_guest_is_not_compliant() {
    let stage = stage(|config| {
        let mut other = config.groups[0].clone();
        other.name = "other-image".to_owned();
        other.endorsed_measurement = Some([0x11; 48]);
        config.groups.push(other);
    })
    .await;
    let absent = ["x-ms-compliance-status", "x-ms-sevsnpvm-uvm-endorsement"];

    let mut evidence = Evidence::of(stage.group(), RUNTIME).await;
    let good = evidence.endorsement.clone().unwrap();
    let mut forged = good.clone();
    *forged.last_mut().unwrap() ^= 1;
    for endorsement in [None, Some(forged), Some(b"nonsense".to_vec())] {
        evidence.endorsement = endorsement;
        let claims = verified(&stage, &attest(&stage, &evidence).await).await;
        assert!(absent.iter().all(|name| !claims.contains_key(*name)));
    }
    let evidence = Evidence::of(stage.world.group("other-image").unwrap(), RUNTIME).await;
    let claims = verified(&stage, &attest(&stage, &evidence).await).await;
    assert!(absent.iter().all(|name| !claims.contains_key(*name)));
}

#[tokio::test]
async fn both_forms_of_endorsement_and_every_product_are_understood() {
    for (product, form) in [
        (Product::Milan, UvmForm::CwtClaims),
        (Product::Genoa, UvmForm::Json),
        (Product::Turin, UvmForm::Json),
    ] {
        let stage = stage(|config| {
            config.groups[0].product = product;
            config.groups[0].uvm_form = form;
        })
        .await;
        let evidence = Evidence::of(stage.group(), RUNTIME).await;
        let claims = verified(&stage, &attest(&stage, &evidence).await).await;
        assert_eq!(claims["x-ms-compliance-status"], "azure-compliant-uvm");
        let svn = u64::from(product.current_tcb().microcode);
        assert_eq!(claims["x-ms-sevsnpvm-microcode-svn"], json!(svn));
    }
}

#[tokio::test]
async fn evidence_that_does_not_hold_together_is_refused() {
    let stage = stage(|config| {
        let mut impostor = config.groups[0].clone();
        impostor.name = "impostor".to_owned();
        impostor.machine_seed = Some(Seed::new("another world"));
        config.groups.push(impostor);
        let mut neighbour = config.groups[0].clone();
        neighbour.name = "neighbour".to_owned();
        neighbour.machine = "neighbour".to_owned();
        config.groups.push(neighbour);
    })
    .await;
    let group = stage.group();
    let machine = group.machine();
    let vcek = machine.vcek(machine.tcb()).unwrap();
    let good = async || Evidence::of(group, RUNTIME).await;
    let refused = async |what: &str, evidence: &Evidence| {
        let answer = attest(&stage, evidence).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{what}");
        assert_eq!(answer.error().0, "AttestationFailed", "{what}: {}", answer.text());
    };

    let impostor = stage.world.group("impostor").unwrap();
    refused("another root", &Evidence::of(impostor, RUNTIME).await).await;

    let mut evidence = good().await;
    evidence.report[0x90] ^= 1;
    refused("a flipped bit", &evidence).await;

    let mut evidence = good().await;
    evidence.runtime_data = b"{\"other\":1}".to_vec();
    refused("other runtime data", &evidence).await;

    let mut evidence = good().await;
    evidence.report.push(0);
    refused("a trailing byte", &evidence).await;

    let mut evidence = good().await;
    evidence.chain = Evidence::of(stage.world.group("neighbour").unwrap(), RUNTIME).await.chain;
    refused("the neighbour's certificate", &evidence).await;

    let report = Report::parse(&good().await.report).unwrap();
    let spoil = async |what: &str, change: &dyn Fn(&mut Report)| {
        let mut evidence = good().await;
        let mut report = report.clone();
        change(&mut report);
        evidence.report = report.sign(&vcek.key).unwrap().to_vec();
        refused(what, &evidence).await;
    };
    spoil("another TCB version", &|report| report.reported_tcb[7] -= 1).await;
    spoil("another chip", &|report| report.chip_id[0] ^= 1).await;
    spoil("another product", &|report| report.cpuid = Product::Genoa.cpuid()).await;
    spoil("a masked chip", &|report| report.key_info = 2).await;
    spoil("signed by a VLEK", &|report| report.key_info = 4).await;
    spoil("another algorithm", &|report| report.signature_algo = 2).await;
    spoil("an unknown version", &|report| report.version = 6).await;
    spoil("report data behind the hash", &|report| report.report_data[63] = 1).await;

    let mut evidence = good().await;
    let bytes = report.sign_as(&vcek.key, SignatureForm::BigEndian).unwrap();
    evidence.report = bytes.to_vec();
    refused("a big-endian signature", &evidence).await;
}

#[tokio::test]
async fn malformed_requests_are_refused_and_bodies_are_bounded() {
    let stage = stage(|_| {}).await;
    let good = Evidence::of(stage.group(), RUNTIME).await.body();
    let url = attest_url(&stage);
    let spoilt = |change: &dyn Fn(&mut Value)| {
        let mut body = good.clone();
        change(&mut body);
        body
    };
    for body in [
        json!([]),
        json!({}),
        spoilt(&|body| body["report"] = json!("!")),
        spoilt(&|body| body["report"] = json!(b64u(b"{}"))),
        spoilt(&|body| body["runtimeData"]["dataType"] = json!("Binary")),
        spoilt(&|body| body["runtimeData"]["data"] = json!(b64u(b"no json"))),
        spoilt(&|body| body["nonce"] = json!(-1)),
    ] {
        let answer = stage.post(&url, &[], &body).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{body}");
        assert_eq!(answer.error().0, "InvalidParameter");
    }
    let huge = spoilt(&|body| body["nonce"] = json!("x".repeat(600 * 1024)));
    assert_eq!(stage.post(&url, &[], &huge).await.status, StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test]
async fn every_fault_shows() {
    let stage = stage(|_| {}).await;
    let evidence = Evidence::of(stage.group(), RUNTIME).await;
    let maa = stage.world.maa().unwrap();
    let once = async |fault: MaaFault| {
        maa.faults.once(fault);
        let body = evidence.body();
        stage.send(Method::POST, &attest_url(&stage), &[], Some(&body)).await
    };
    let status = async |fault| once(fault).await.unwrap().status;
    assert_eq!(status(MaaFault::BadRequest).await, StatusCode::BAD_REQUEST);
    assert_eq!(status(MaaFault::ServerError).await, StatusCode::INTERNAL_SERVER_ERROR);
    let throttled = once(MaaFault::TooManyRequests { retry_after: 5 }).await.unwrap();
    assert_eq!(throttled.status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(throttled.header("retry-after"), "5");
    assert!(once(MaaFault::Truncated).await.is_err());
    assert_eq!(once(MaaFault::Oversized).await.unwrap_err(), "too long");

    let token = async |fault| {
        let answer = once(fault).await.unwrap();
        Jws::parse(answer.json()["token"].as_str().unwrap()).unwrap()
    };
    let foreign = token(MaaFault::ForeignKey).await;
    let key = published_key(&stage, foreign.header_str("kid").unwrap()).await;
    assert!(foreign.verify(&key).is_err());
    assert_eq!(token(MaaFault::AlgNone).await.header["alg"], "none");
    let other = token(MaaFault::WrongIssuer).await;
    other.verify(&key).unwrap();
    assert_ne!(other.payload["iss"], json!(maa.url));
    let expired = token(MaaFault::Expired).await;
    assert!(expired.payload["exp"].as_u64().unwrap() < clock::now());
    let other = token(MaaFault::OtherRuntimeData).await;
    assert_ne!(other.payload["x-ms-runtime"], serde_json::from_slice::<Value>(RUNTIME).unwrap());
    token(MaaFault::Stall).await_when_cleared(&stage).await;
}

/// The last fault: nothing comes until the schedule is cleared.
trait AwaitWhenCleared: Future + Sized {
    async fn await_when_cleared(self, stage: &Stage) -> Self::Output {
        let faults = stage.world.maa().unwrap().faults.clone();
        tokio::pin!(let stalled = self;);
        let wait = std::time::Duration::from_millis(100);
        assert!(tokio::time::timeout(wait, stalled.as_mut()).await.is_err());
        faults.clear();
        stalled.await
    }
}

impl<F: Future> AwaitWhenCleared for F {}
