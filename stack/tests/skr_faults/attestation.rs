//! Attestation over both protocols with the real `attest-sidecar`: encodings, what a platform may leave out, and what a
//! device that fails is called (contract `skr.md` parts 1.1, 1.2 and 1.4).

use attestation::crypto::sha256;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::StatusCode;
use proto::key_provider::{
    KeyProviderGetAttestationDataInput, KeyProviderGetAttestationDataOutput,
    KeyProviderGetReportInput,
};
use serde_json::{Value, json};
use sim::faults::DeviceFault;
use sim::world::World;
use tonic::{Code, Status};

use crate::bench::Bench;

/// What callers attest to: the three bytes 1, 2, 3.
const RUNTIME_DATA: &str = "AQID";

fn body() -> Value {
    json!({"runtime_data": RUNTIME_DATA})
}

impl Bench {
    async fn attestation_data(&self) -> Result<KeyProviderGetAttestationDataOutput, Status> {
        let b64_runtime_data_string = RUNTIME_DATA.to_owned();
        let input = KeyProviderGetAttestationDataInput { b64_runtime_data_string };
        let data = self.provider.clone().get_attestation_data(input).await?;
        Ok(data.into_inner())
    }

    async fn report(&self, text: &str) -> Result<Vec<u8>, Status> {
        let input = KeyProviderGetReportInput { report_data_hex_string: text.to_owned() };
        let report = self.provider.clone().get_report(input).await?.into_inner();
        Ok(hex::decode(report.report_hex_string).unwrap())
    }

    /// The file of the endorsement, as the platform wrote it.
    fn mounted_endorsement(&self) -> String {
        let mounted = self.world.groups().first().unwrap().context_dir();
        std::fs::read_to_string(mounted.join("reference-info-base64")).unwrap()
    }
}

/// A world whose platform did not mount these files.
fn without(files: &[&str]) -> impl FnOnce(&World) {
    move |world| {
        let mounted = world.groups().first().unwrap().context_dir();
        for file in files {
            std::fs::remove_file(mounted.join(file)).unwrap();
        }
    }
}

/// REPORT_DATA of a report: 64 bytes at offset 80.
fn covers(report: &[u8], runtime_data: &[u8]) {
    assert_eq!(report.len(), 1184);
    assert_eq!(report[80..144], [sha256(runtime_data), [0; 32]].concat());
}

/// What `/attest/combined` and `GetAttestationData` say alike, whatever else the platform mounted.
async fn attests(bench: &Bench) {
    let combined = bench.post("/attest/combined", &body()).await.unwrap();
    let text = |member: &str| combined[member].as_str().unwrap().to_owned();
    covers(&STANDARD.decode(text("evidence")).unwrap(), &[1, 2, 3]);
    let tcb = text("endorsed_tcb");
    assert_eq!(hex::decode(&tcb).unwrap().len(), 8, "{tcb}");
    let chain = String::from_utf8(STANDARD.decode(text("endorsements")).unwrap()).unwrap();
    assert_eq!(chain.matches("BEGIN CERTIFICATE").count(), 3);
    assert_eq!(text("uvm_endorsements"), bench.mounted_endorsement().trim());

    let data = bench.attestation_data().await.unwrap();
    covers(&STANDARD.decode(&data.attestation_report).unwrap(), &[1, 2, 3]);
    assert_eq!((data.endorsed_tcb, data.certs), (tcb, text("endorsements")));
    assert_eq!(data.uvm_reference_info, text("uvm_endorsements"));
}

#[tokio::test]
async fn fields_have_the_encodings_of_the_contract() {
    let bench = Bench::start().await;
    attests(&bench).await;
    let raw = bench.post("/attest/raw", &body()).await.unwrap();
    let raw = raw["report"].as_str().unwrap();
    assert_eq!(raw, raw.to_lowercase());
    covers(&hex::decode(raw).unwrap(), &[1, 2, 3]);
    // The text itself, although the field is called hexadecimal.
    for text in ["", "0a0b", "no hexadecimal"] {
        covers(&bench.report(text).await.unwrap(), text.as_bytes());
    }
    bench.stop().await;
}

/// AKS and Kata. The reference's `GetAttestationData` always fails there.
#[tokio::test]
async fn with_the_endorsement_alone_mounted_both_protocols_attest() {
    let kata = without(&["host-amd-cert-base64", "security-policy-base64"]);
    let bench = Bench::start_in(kata).await;
    attests(&bench).await;
    let thim = bench.world.groups().first().unwrap().thim_calls();
    assert!(thim >= 1, "nothing else knows this machine's certificates");
    bench.stop().await;
}

#[tokio::test]
async fn without_an_endorsement_attestation_data_says_so_and_combined_leaves_it_empty() {
    let bench = Bench::start_in(without(&["reference-info-base64"])).await;
    let combined = bench.post("/attest/combined", &body()).await.unwrap();
    assert_eq!(combined["uvm_endorsements"], "");
    let status = bench.attestation_data().await.err().unwrap();
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert!(status.message().starts_with("uvmInfo is not set"), "{status}");
    bench.stop().await;
}

/// Different from the reference, which refuses: the policy is no part of a report.
#[tokio::test]
async fn a_policy_that_is_no_base64_stops_no_report() {
    let broken = |world: &World| {
        let mounted = world.groups().first().unwrap().context_dir();
        std::fs::write(mounted.join("security-policy-base64"), "-_-_").unwrap();
    };
    let bench = Bench::start_in(broken).await;
    attests(&bench).await;
    assert!(bench.post("/attest/raw", &body()).await.is_ok());
    bench.stop().await;
}

#[tokio::test]
async fn what_a_device_did_is_told_by_every_route_in_the_known_words() {
    let bench = Bench::start().await;
    attests(&bench).await;
    let faults = bench.world.groups().first().unwrap().device_faults();
    for (fault, cause) in [
        (DeviceFault::Status { status: 0x16 }, "fetching attestation report failed. status: 22"),
        (DeviceFault::CloseMidAnswer, "failed to retrieve attestation report: ioctl failed: "),
        (DeviceFault::OldTcb, "doesn't match Certificate TCB value: "),
    ] {
        faults.until_cleared(fault.clone());
        for (path, status, prefix) in [
            ("/attest/raw", StatusCode::FORBIDDEN, "failure to fetch attestation report hex\n"),
            (
                "/attest/combined",
                StatusCode::INTERNAL_SERVER_ERROR,
                "failure to fetch attestation report bytes\n",
            ),
        ] {
            let (told, text) = bench.post(path, &body()).await.err().unwrap();
            assert_eq!(told, status, "{fault:?} {path}: {text}");
            assert!(text.starts_with(prefix) && text.contains(cause), "{fault:?} {path}: {text}");
        }
        let [report, data] =
            [bench.report("").await.err().unwrap(), bench.attestation_data().await.err().unwrap()];
        for status in [report, data] {
            assert_eq!(status.code(), Code::Internal, "{fault:?}: {status}");
            let prefix = "failed to retrieve attestation report, ";
            let text = status.message();
            assert!(text.starts_with(prefix) && text.contains(cause), "{fault:?}: {text}");
        }
        faults.clear();
        attests(&bench).await;
    }
    bench.stop().await;
}

#[tokio::test]
async fn a_device_that_cannot_be_opened_is_named() {
    let closed = |world: &World| {
        std::fs::remove_file(world.groups().first().unwrap().device_path()).unwrap();
    };
    let bench = Bench::start_in(closed).await;
    let cause = "error opening SNP device /";
    let (status, text) = bench.post("/attest/raw", &body()).await.err().unwrap();
    assert!(status == StatusCode::FORBIDDEN && text.contains(cause), "{status} {text}");
    let status = bench.report("").await.err().unwrap();
    assert!(status.code() == Code::Internal && status.message().contains(cause), "{status}");
    bench.stop().await;
}
