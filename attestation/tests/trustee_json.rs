//! A recorded machine whose report another project keeps as JSON, field by field (`trustee/snp/as-e2e-evidence.json`):
//! put back into the 1184 bytes that were signed, it verifies. The layout here is written from the specification
//! (56860, table "ATTESTATION_REPORT"), not taken from the code under test.

#![expect(clippy::indexing_slicing, clippy::unwrap_used, reason = "helpers of tests")]

mod recorded;

use attestation::{Anchors, Evidence, verify};
use serde_json::Value;

/// 2026-11-22, the day that the vectors' index judges at.
const NOW: u64 = 1_795_305_600;

fn bytes(list: &Value) -> Vec<u8> {
    list.as_array().unwrap().iter().map(|byte| byte_of(byte.as_u64().unwrap())).collect()
}

fn byte_of(number: u64) -> u8 {
    u8::try_from(number).unwrap()
}

/// The layout of Milan and Genoa.
fn tcb(levels: &Value) -> [u8; 8] {
    let level = |name: &str| byte_of(levels[name].as_u64().unwrap());
    [level("bootloader"), level("tee"), 0, 0, 0, 0, level("snp"), level("microcode")]
}

fn raw(report: &Value) -> Vec<u8> {
    let mut raw = vec![0; 1184];
    let mut put = |at: usize, bytes: &[u8]| raw[at..at + bytes.len()].copy_from_slice(bytes);
    let number = |name: &str| report[name].as_u64().unwrap().to_le_bytes();
    for (at, name) in [(0, "version"), (4, "guest_svn"), (0x30, "vmpl"), (0x34, "sig_algo")] {
        put(at, &number(name)[..4]);
    }
    put(0x08, &number("policy"));
    put(0x40, &number("plat_info"));
    put(0x48, &number("key_info")[..4]);
    for (at, name) in [
        (0x10, "family_id"),
        (0x20, "image_id"),
        (0x50, "report_data"),
        (0x90, "measurement"),
        (0xc0, "host_data"),
        (0xe0, "id_key_digest"),
        (0x110, "author_key_digest"),
        (0x140, "report_id"),
        (0x160, "report_id_ma"),
        (0x1a0, "chip_id"),
    ] {
        put(at, &bytes(&report[name]));
    }
    for (at, name) in [
        (0x38, "current_tcb"),
        (0x180, "reported_tcb"),
        (0x1e0, "committed_tcb"),
        (0x1f0, "launch_tcb"),
    ] {
        put(at, &tcb(&report[name]));
    }
    for (at, name) in [(0x188, "cpuid_fam_id"), (0x189, "cpuid_mod_id"), (0x18a, "cpuid_step")] {
        put(at, &number(name)[..1]);
    }
    for (at, name) in [(0x1e8, "current"), (0x1ec, "committed")] {
        let part = |part: &str| byte_of(report[name][part].as_u64().unwrap());
        put(at, &[part("build"), part("minor"), part("major")]);
    }
    put(0x2a0, &bytes(&report["signature"]["r"]));
    put(0x2e8, &bytes(&report["signature"]["s"]));
    raw
}

#[test]
fn a_report_that_was_kept_as_json_verifies_in_its_own_bytes() {
    let Some(vectors) = recorded::vectors() else { return };
    let document = vectors.text("trustee/snp/as-e2e-evidence.json");
    let document: Value = serde_json::from_str(&document).unwrap();
    let report = raw(&document["attestation_report"]);
    let vek = bytes(&document["cert_chain"][0]["data"]);
    let evidence = Evidence { report, vek, ..Evidence::default() };
    let verified = verify(&evidence, &Anchors::production(), NOW).ok().unwrap();
    assert_eq!(verified.value().vek.product.name(), "Genoa");
    assert_eq!(verified.value().report.cpuid(), Some((25, 160, 2)), "another model of it");

    let mut changed = evidence;
    changed.report[0xc0] ^= 1;
    let refused = verify(&changed, &Anchors::production(), NOW).err().unwrap();
    let failed: Vec<&str> = refused.failures().map(|finding| finding.check.id).collect();
    assert_eq!(failed, ["S2"]);
}
