//! Tokens of an attestation service that does its duty and of one that does not.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE;
use proto::attest::token_request::Runtime;
use proto::attest::{CertificateRuntime, TokenFailure, TokenReply, TokenRequest};
use serde_json::Value;
use sim::faults::MaaFault;

use crate::bench::Bench;

async fn token(bench: &Bench, runtime: Runtime) -> TokenReply {
    let request = TokenRequest { runtime: Some(runtime), ..Default::default() };
    bench.client.clone().get_token(request).await.unwrap().into_inner()
}

fn certificate() -> Runtime {
    let spki_sha256 = vec![3; 32];
    Runtime::Certificate(CertificateRuntime {
        spki_sha256,
        not_after: 77,
        manifest_sha256: vec![5; 32],
    })
}

/// Whatever the service says, no token leaves this role that the service did not sign, now, about what was sent.
#[tokio::test]
async fn a_token_that_is_not_the_answer_is_not_handed_out() {
    let bench = Bench::start().await;
    let faults = &bench.world.maa().unwrap().faults;
    for (fault, check) in [
        (MaaFault::ForeignKey, "J4"),
        (MaaFault::WrongIssuer, "J1"),
        (MaaFault::Expired, "J5"),
        (MaaFault::AlgNone, "J3"),
        (MaaFault::OtherRuntimeData, "J9"),
    ] {
        for runtime in [certificate(), Runtime::Compatible(b"{\"n\":1.0}".to_vec())] {
            faults.once(fault.clone());
            let reply = token(&bench, runtime).await;
            assert!(reply.token.is_empty(), "{fault:?}");
            assert!(reply.failure_kind() == TokenFailure::Unverified, "{fault:?}");
            let text = &reply.failure;
            assert!(text.starts_with("MAA's token is not believed: "), "{fault:?}: {text}");
            assert!(text.contains(&format!("{check} (")), "{fault:?}: {text}");
        }
    }
    let reply = token(&bench, certificate()).await;
    assert!(!reply.token.is_empty() && reply.failure.is_empty());
    assert!(reply.failure_kind() == TokenFailure::None);
    bench.stop().await;
}

#[tokio::test]
async fn a_callers_own_json_is_spoken_of_as_it_was_sent() {
    let bench = Bench::start().await;
    for data in ["{}", "{\"n\":1.0,\"e\":1e2}", "{ \"a\" : [1,  2] }"] {
        let reply = token(&bench, Runtime::Compatible(data.into())).await;
        assert_eq!(reply.failure, "", "{data}");
        assert!(!reply.token.is_empty(), "{data}");
    }
    bench.stop().await;
}

#[tokio::test]
async fn kinds_of_failures_are_told_apart_with_status_and_pause() {
    let bench = Bench::start().await;
    let faults = &bench.world.maa().unwrap().faults;
    for (fault, kind, status, pause, text) in [
        (MaaFault::BadRequest, TokenFailure::Refused, 400, 0, "status equal to 400 Bad Request"),
        (
            MaaFault::TooManyRequests { retry_after: 60 },
            TokenFailure::Throttled,
            429,
            60,
            "status equal to 429 Too Many Requests",
        ),
        (MaaFault::Truncated, TokenFailure::Unreachable, 0, 0, "MAA cannot be reached"),
        (MaaFault::Oversized, TokenFailure::BadAnswer, 0, 0, "more than 262144 bytes"),
        (MaaFault::ServerError, TokenFailure::ServerError, 500, 0, "status equal to 500"),
    ] {
        faults.until_cleared(fault.clone());
        let reply = token(&bench, certificate()).await;
        assert!(reply.failure_kind() == kind, "{fault:?}: {}", reply.failure_kind().as_str_name());
        assert_eq!((reply.failure_status, reply.retry_after), (status, pause), "{fault:?}");
        assert!(reply.failure.contains(text), "{fault:?}: {}", reply.failure);
        assert!(!reply.failure.contains("Retrieving"), "the cause alone: {}", reply.failure);
    }
    faults.clear();
    assert!(!token(&bench, certificate()).await.token.is_empty());
    bench.stop().await;
}

/// Base64url with padding, one in the other, with the members that the service knows; the policy stays here.
#[tokio::test]
async fn the_service_is_asked_as_the_contract_writes_it() {
    let bench = Bench::start().await;
    bench.world.maa().unwrap().faults.until_cleared(MaaFault::BadRequest);
    let reply = token(&bench, Runtime::Compatible(b"{\"a\":1}".to_vec())).await;
    let text = |value: &Value| URL_SAFE.decode(value.as_str().unwrap()).unwrap();
    let members = |value: &Value| {
        let mut members: Vec<_> = value.as_object().unwrap().keys().cloned().collect();
        members.sort();
        members
    };
    let request: Value = serde_json::from_slice(&reply.request).unwrap();
    assert_eq!(members(&request), ["nonce", "report", "runtimeData"]);
    assert!(request["nonce"].is_u64());
    assert_eq!(request["runtimeData"]["dataType"], "JSON");
    assert_eq!(text(&request["runtimeData"]["data"]), b"{\"a\":1}");

    let report: Value = serde_json::from_slice(&text(&request["report"])).unwrap();
    assert_eq!(members(&report), ["Endorsements", "SnpReport", "VcekCertChain"]);
    assert_eq!(text(&report["SnpReport"]).len(), 1184);
    let chain = String::from_utf8(text(&report["VcekCertChain"])).unwrap();
    assert_eq!(chain.matches("BEGIN CERTIFICATE").count(), 3);
    let endorsements: Value = serde_json::from_slice(&text(&report["Endorsements"])).unwrap();
    let mounted = bench.group().context_dir().join("reference-info-base64");
    let mounted = std::fs::read_to_string(mounted).unwrap();
    let standard = base64::engine::general_purpose::STANDARD;
    assert_eq!(text(&endorsements["Uvm"][0]), standard.decode(mounted.trim()).unwrap());
    bench.stop().await;
}
