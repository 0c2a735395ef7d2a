//! Tokens of an attestation service that does its duty and of one that does not.

use proto::attest::token_request::Runtime;
use proto::attest::{CertificateRuntime, TokenFailure, TokenReply, TokenRequest};
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
