//! What the role is started in: a machine without a security processor, a folder with less than usual, another process.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use attest_sidecar::AttestSidecar;
use proto::attest::attest_client::AttestClient;
use proto::attest::evidence_request::Purpose;
use proto::attest::token_request::Runtime;
use proto::attest::{
    CompatibleReportRequest, EvidenceRequest, ProveChannelsRequest, TlsCertificate, TokenRequest,
};
use service::env::Environment;
use service::{Process, Role as _};
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::bench::{Bench, channel, until};

/// Without a device the role stays, is not ready, and refuses every call by the known name of what is missing.
#[tokio::test]
async fn without_a_device_every_call_is_refused_and_the_role_stays() {
    let devices = ["/dev/sev-guest", "/dev/sev", "/sys/kernel/config/tsm/report"];
    if devices.iter().any(|device| Path::new(device).exists()) {
        println!("skipped: this machine has a device");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let listen = format!("unix:{}/attest.sock", folder.path().display());
    let environment: Environment =
        [("ATTEST_LISTEN", listen.as_str()), ("LOG_SEALER", "off")].into_iter().collect();
    let (config, process) = Process::embedded::<AttestSidecar>(&environment).await.unwrap();
    let shutdown = process.shutdown.clone();
    let serving = tokio::spawn(AttestSidecar::serve(config, process));

    let channel_to = service::grpc::channel(&listen.parse().unwrap());
    let health = HealthClient::new(channel_to.clone());
    let asked = || async { health.clone().check(HealthCheckRequest::default()).await };
    until(|| async { asked().await.is_ok() }).await;

    let mut client = AttestClient::new(channel_to.clone());
    for _ in 0..2 {
        let purpose =
            Purpose::TlsCertificate(TlsCertificate { spki_sha256: vec![3; 32], not_after: 77 });
        let evidence = EvidenceRequest { purpose: Some(purpose) };
        let channels = ProveChannelsRequest { channels: vec![channel()] };
        let runtime = Some(Runtime::Compatible(b"{}".to_vec()));
        let token = TokenRequest { runtime, ..Default::default() };
        let report = CompatibleReportRequest { runtime_data: b"{}".to_vec() };
        for refused in [
            client.get_evidence(evidence).await.map(|_| ()),
            client.prove_channels(channels).await.map(|_| ()),
            client.get_token(token).await.map(|_| ()),
            client.get_compatible_report(report).await.map(|_| ()),
        ] {
            let status = refused.unwrap_err();
            assert_eq!(status.code(), Code::FailedPrecondition, "{status}");
            assert!(status.message().starts_with("SEV guest driver is missing: "), "{status}");
        }
        assert_eq!(asked().await.unwrap().into_inner().status(), ServingStatus::NotServing);
    }
    assert!(!serving.is_finished(), "the role stays: a driver may be loaded later");
    shutdown.fire();
    serving.await.unwrap().unwrap();
}

/// Kata containers mount the endorsement alone: certificates come from THIM, and there is no policy to show.
#[tokio::test]
async fn with_the_endorsement_alone_mounted_reports_are_complete() {
    let kata = |world: &sim::world::World| {
        let mounted = world.groups().first().unwrap().context_dir();
        for file in ["host-amd-cert-base64", "security-policy-base64"] {
            std::fs::remove_file(mounted.join(file)).unwrap();
        }
    };
    let bench = Bench::with("context,thim", |_| {}, kata).await;
    let request = CompatibleReportRequest { runtime_data: b"{}".to_vec() };
    let reply = bench.client.clone().get_compatible_report(request).await.unwrap().into_inner();
    let mounted = bench.group().context_dir().join("reference-info-base64");
    let endorsement = std::fs::read_to_string(mounted).unwrap();
    assert_eq!(reply.uvm_endorsements, endorsement.trim());
    assert_eq!(reply.certificates.matches("BEGIN CERTIFICATE").count(), 3);
    assert!(bench.group().thim_calls() >= 1, "nothing else knows this machine's certificates");

    let purpose =
        Purpose::TlsCertificate(TlsCertificate { spki_sha256: vec![3; 32], not_after: 77 });
    let evidence = bench.evidence(purpose).await.unwrap().evidence.unwrap();
    assert!(!evidence.uvm.is_empty() && evidence.cce_policy.is_empty());
    bench.stop().await;
}

/// Whoever started it holds its input open, and has gone when that ends, however it went.
#[test]
fn as_a_child_it_ends_with_its_input() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("attest.sock");
    let mut role = Command::new(env!("CARGO_BIN_EXE_attest-sidecar"))
        .arg("child")
        .env_clear()
        .env("ATTEST_LISTEN", format!("unix:{}", socket.display()))
        .env("LOG_SEALER", "off")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let input = role.stdin.take().unwrap();
    let by = Instant::now() + Duration::from_secs(20);
    while !socket.exists() {
        assert!(role.try_wait().unwrap().is_none() && Instant::now() < by, "it serves until then");
        std::thread::yield_now();
    }
    drop(input);
    let status = loop {
        if let Some(status) = role.try_wait().unwrap() {
            break status;
        }
        if Instant::now() >= by {
            role.kill().unwrap();
        }
        std::thread::yield_now();
    };
    assert!(status.success(), "{status}");
}
