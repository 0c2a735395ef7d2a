//! The role against a simulated machine, certificate sources and attestation service, over its real gRPC.

#![expect(clippy::panic, clippy::unwrap_used, reason = "helpers of tests")]

mod bench;
mod platform;
mod revocation;
mod sources;
mod tokens;

use std::num::NonZeroU32;

use attestation::maa::{
    AciExpectations, GuestExpectations, Issuer, Jwks, UvmExpectations, appraise_aci, verify_token,
};
use attestation::policy::Hex;
use attestation::{Binding, Expect, Trust, crypto, runtime_data};
use proto::attest::evidence_request::Purpose;
use proto::attest::token_request::Runtime;
use proto::attest::{
    CertificateRuntime, CompatibleReportRequest, EvidenceRequest, LogKey, TlsChannel, TokenRequest,
};
use service::outbound::{Call, Limits, Outbound};
use service::roots::Roots;
use sim::faults::{DeviceFault, MaaFault, ThimFault};
use sim::uvm::UvmForm;
use sim::world::WorldConfig;
use tonic::Code;

use crate::bench::{Bench, channel, evidence, inclusion, now};

#[tokio::test]
async fn every_form_of_endorsement_convinces_a_verifier() {
    for form in [UvmForm::JsonTextSvn, UvmForm::CwtClaims] {
        let endorsed =
            |config: &mut WorldConfig| config.groups.first_mut().unwrap().uvm_form = form;
        let bench = Bench::with("context,thim", endorsed, |_| {}).await;
        bench.holds().await;
        bench.stop().await;
    }
}

#[tokio::test]
async fn evidence_is_complete_genuine_and_bound_to_its_purpose() {
    let bench = Bench::start().await;
    bench.holds().await;

    let log_key =
        LogKey { public_key: vec![9; 91], boot_id: vec![6; 16], recipients_sha256: vec![7; 32] };
    let expected =
        Binding::LogKey { public_key: vec![9; 91], boot_id: [6; 16], recipients_sha256: [7; 32] };
    let reply = bench.evidence(Purpose::LogKey(log_key)).await.unwrap();
    let inclusion = inclusion(reply.inclusion.as_ref().unwrap());
    bench.covers(&evidence(reply.evidence.as_ref()), &expected.report_data(&inclusion).unwrap());
    bench.stop().await;
}

#[tokio::test]
async fn one_report_proves_many_connections_and_each_by_its_own_place() {
    let bench = Bench::start().await;
    bench.holds().await;
    let channels: Vec<_> = (0..5).map(|n| TlsChannel { nonce: vec![n; 32], ..channel() }).collect();
    let before = bench.group().processor().reports();
    let reply = bench.prove(channels).await.unwrap();
    assert_eq!(bench.group().processor().reports(), before + 1);
    let evidence = evidence(reply.evidence.as_ref());
    assert_eq!(reply.inclusions.len(), 5);
    for (n, place) in (0..).zip(&reply.inclusions) {
        let place = inclusion(place);
        let connection = |nonce| Binding::TlsChannel {
            nonce: [nonce; 32],
            exporter: [2; 32],
            spki_sha256: [3; 32],
            certificate_sha256: [4; 32],
            manifest_sha256: [5; 32],
        };
        bench.covers(&evidence, &connection(n).report_data(&place).unwrap());
        let other = connection(n + 1).report_data(&place).unwrap();
        assert_ne!(connection(n).report_data(&place).unwrap(), other, "a place is one binding's");
    }
    bench.stop().await;
}

#[tokio::test]
async fn requests_that_are_not_typed_right_are_refused() {
    let bench = Bench::start().await;
    let short = TlsChannel { exporter: vec![2; 31], ..channel() };
    let long =
        LogKey { public_key: vec![1; 129], boot_id: vec![6; 16], recipients_sha256: vec![7; 32] };
    let empty = LogKey { public_key: vec![], ..long.clone() };
    for purpose in [Purpose::LogKey(long), Purpose::LogKey(empty)] {
        let status = bench.evidence(purpose).await.err().unwrap();
        assert_eq!(status.code(), Code::InvalidArgument, "{status}");
    }
    for channels in [vec![], vec![channel(), short], vec![channel(); 4097]] {
        let status = bench.prove(channels).await.err().unwrap();
        assert_eq!(status.code(), Code::InvalidArgument, "{status}");
    }
    let mut client = bench.client.clone();
    let nothing = client.get_evidence(EvidenceRequest { purpose: None }).await.err().unwrap();
    assert_eq!(nothing.code(), Code::InvalidArgument);
    bench.stop().await;
}

/// The machine's firmware is rolled back, then forward again. Each time the certificates at hand stop fitting; the
/// new ones are fetched once, whole, and stay.
#[tokio::test]
async fn certificates_follow_the_tcb_and_stay() {
    let bench = Bench::start().await;
    let current = bench.holds().await;

    let (device, thim) = (bench.group().device_faults(), &bench.group().imds_faults().thim);
    device.until_cleared(DeviceFault::OldTcb);
    thim.until_cleared(ThimFault::StaleCertificate);
    let previous = bench.holds().await;
    assert_ne!(previous, current);

    // The source may go away now: what was fetched is kept, certificate and chain.
    thim.replace(vec![]);
    thim.until_cleared(ThimFault::ServerError);
    for _ in 0..5 {
        assert_eq!(bench.holds().await, previous);
    }
    thim.clear();
    device.clear();
    assert_eq!(bench.holds().await, current);
    bench.stop().await;
}

#[tokio::test]
async fn a_source_that_fails_for_a_while_is_asked_again() {
    let bench = Bench::start().await;
    bench.holds().await;
    let (device, thim) = (bench.group().device_faults(), &bench.group().imds_faults().thim);
    device.until_cleared(DeviceFault::OldTcb);
    thim.next_calls(ThimFault::ServerError, NonZeroU32::new(2).unwrap());
    thim.next_calls(ThimFault::StaleCertificate, NonZeroU32::new(10).unwrap());
    bench.holds().await;
    bench.stop().await;
}

#[tokio::test]
async fn certificates_of_another_tcb_or_machine_are_never_handed_out() {
    let bench = Bench::start().await;
    bench.holds().await;
    // The firmware moved, and the source lags behind: it still has the old certificate.
    bench.group().device_faults().until_cleared(DeviceFault::OldTcb);
    let status = bench.prove(vec![channel()]).await.err().unwrap();
    assert_eq!(status.code(), Code::Unavailable);
    let text = status.message();
    assert!(text.contains("doesn't match Certificate TCB value"), "{text}");
    bench.stop().await;
}

#[tokio::test]
async fn a_device_that_fails_says_so_and_the_next_report_is_fine() {
    let bench = Bench::start().await;
    bench.holds().await;
    for fault in [DeviceFault::Status { status: 0x16 }, DeviceFault::CloseMidAnswer] {
        let device = bench.group().device_faults();
        device.until_cleared(fault.clone());
        let status = bench.prove(vec![channel()]).await.err().unwrap();
        assert_eq!(status.code(), Code::Unavailable, "{fault:?}");
        assert!(status.message().contains("failed to retrieve attestation report"), "{status}");
        device.clear();
        bench.holds().await;
    }
    bench.stop().await;
}

#[tokio::test]
async fn descriptors_do_not_grow_with_reports() {
    let bench = Bench::start().await;
    bench.holds().await;
    // The connections to this one device, so that tests beside this one do not count.
    let path = bench.group().device_path().display().to_string();
    let open = || {
        let sockets = std::fs::read_to_string("/proc/self/net/unix").unwrap();
        sockets.lines().filter(|line| line.ends_with(&path)).count()
    };
    let before = open();
    assert!(before > 1, "the listener and a connection");
    for _ in 0..200 {
        bench.prove(vec![channel()]).await.unwrap();
    }
    assert!(open() <= before, "{before} sockets became {}", open());
    bench.stop().await;
}

#[tokio::test]
async fn tokens_of_the_attestation_service_verify_and_are_about_what_was_asked() {
    let bench = Bench::start().await;
    let runtime = CertificateRuntime {
        spki_sha256: vec![3; 32],
        not_after: 77,
        manifest_sha256: vec![5; 32],
    };
    let request =
        TokenRequest { runtime: Some(Runtime::Certificate(runtime)), ..Default::default() };
    let reply = bench.client.clone().get_token(request.clone()).await.unwrap().into_inner();
    assert_eq!(reply.failure, "");

    let url = bench.world.maa().unwrap().url.trim_end_matches('/').to_owned();
    assert_eq!(reply.maa_endpoint, url);
    let roots = Roots::from_file(&bench.world.folder().join("tls-ca.pem")).unwrap();
    let certs = Call::get(format!("{url}/certs").parse().unwrap());
    let keys = Outbound::new("MAA", &roots, Limits::default()).once(&certs).await.unwrap();
    let issuer =
        Issuer { url, keys: Jwks::parse(&keys.body).unwrap(), trust: Trust::NotProduction };
    let uvm_issuer = bench.world.foundation().uvm.did().to_owned();
    let expectations = |host_data| AciExpectations {
        guest: GuestExpectations {
            host_data: Expect::Value(vec![Hex(host_data)]),
            measurement: Expect::unchecked("the endorsement stands for it"),
            minimum_tcb: Expect::unchecked("a simulated machine"),
            runtime_data: Expect::Value(runtime_data::certificate(&[3; 32], &[5; 32], 77)),
            policy_hashes: Expect::unchecked("a simulated instance"),
        },
        nonce: Expect::unchecked("freshness is in the runtime data"),
        endorsement: Expect::Value(UvmExpectations {
            issuers: vec![uvm_issuer.clone()],
            ..UvmExpectations::default()
        }),
    };
    let issuers = [issuer];
    let claims = || verify_token(&reply.token, &issuers, now()).unwrap();
    let host_data = *bench.group().host_data();
    assert!(appraise_aci(claims(), &expectations(host_data)).is_ok());
    let rejected = appraise_aci(claims(), &expectations([0; 32])).err().unwrap();
    assert_eq!(rejected.failures().map(|one| one.check.id).collect::<Vec<_>>(), ["J8.P9"]);

    // Without a token, the request that anybody may send to the service is still there.
    bench.world.maa().unwrap().faults.until_cleared(MaaFault::BadRequest);
    let reply = bench.client.clone().get_token(request).await.unwrap().into_inner();
    assert!(reply.token.is_empty() && !reply.request.is_empty());
    assert!(reply.failure.contains("http response status equal to 400"), "{}", reply.failure);
    bench.stop().await;
}

#[tokio::test]
async fn only_instances_of_azure_attestation_are_asked() {
    let bench = Bench::start().await;
    for elsewhere in [
        "https://evil.example",
        "http://sharedeus.eus.attest.azure.net",
        "https://sharedeus.eus.attest.azure.net.evil.example",
        "https://sharedeus.eus.attest.azure.net:8443",
        "https://sharedeus.eus.attest.azure.net/other",
        "https://user@sharedeus.eus.attest.azure.net",
        "https://169.254.169.254",
        "nonsense",
    ] {
        let request = TokenRequest {
            runtime: Some(Runtime::Compatible(b"{}".to_vec())),
            maa_endpoint: elsewhere.to_owned(),
            ..Default::default()
        };
        let status = bench.client.clone().get_token(request).await.err().unwrap();
        assert_eq!(status.code(), Code::InvalidArgument, "{elsewhere}");
    }
    let runtime = Some(Runtime::Compatible(b"{}".to_vec()));
    let user_agent = "a\r\nAuthorization: b".to_owned();
    let request = TokenRequest { runtime, user_agent, ..Default::default() };
    let status = bench.client.clone().get_token(request).await.err().unwrap();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.message().contains("user_agent"), "{status}");
    bench.stop().await;
}

/// What the compatibility routes can have signed is of the MAA shape, which no proof of ours has.
#[tokio::test]
async fn a_callers_own_bytes_are_hashed_into_the_maa_shape() {
    let bench = Bench::start().await;
    let forged =
        Binding::LogKey { public_key: vec![9; 91], boot_id: [6; 16], recipients_sha256: [7; 32] }
            .leaf();
    let request = CompatibleReportRequest { runtime_data: forged.clone() };
    let reply = bench.client.clone().get_compatible_report(request).await.unwrap().into_inner();
    let report = attestation::report::Report::parse(&reply.report).unwrap();
    let (digest, zeros) = (crypto::sha256(&forged), [0; 32]);
    assert_eq!(report.report_data(), [digest, zeros].concat()[..]);
    assert_eq!(reply.endorsed_tcb.len(), 16);
    assert_eq!(reply.certificates.matches("BEGIN CERTIFICATE").count(), 3);
    bench.stop().await;
}
