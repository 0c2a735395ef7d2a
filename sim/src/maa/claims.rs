//! The claims of a token, computed from verified evidence.
//!
//! Must not know: keys. The names are those of tokens that Azure gives to confidential container
//! groups; all stand at the top level.

use rand::RngCore as _;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use super::appraise::Evidence;
use crate::encoding::b64u;
use crate::report::policy;

/// Seconds that a token lives.
pub(super) const TOKEN_LIFE: u64 = 28_800;

/// The service's attestation policy. Only its hash is visible, as `x-ms-policy-hash`.
const ATTESTATION_POLICY: &str = "version= 1.0;\nauthorizationrules\n{\n\t=> permit();\n};\n\
                                  issuancerules\n{\n};\n";

/// `exp`, `iat`, `x-ms-sevsnpvm-…` and the rest.
pub(super) fn claims(evidence: &Evidence, issuer: &str, now: u64) -> Map<String, Value> {
    let mut id = [0; 32];
    rand::thread_rng().fill_bytes(&mut id);
    let mut claims = Map::new();
    let mut put = |name: &str, value: Value| claims.insert(name.to_owned(), value);
    put("iss", json!(issuer));
    put("iat", json!(now));
    put("nbf", json!(now));
    put("exp", json!(now + TOKEN_LIFE));
    put("jti", json!(hex::encode(id)));
    put("x-ms-ver", json!("1.0"));
    put("x-ms-attestation-type", json!("sevsnpvm"));
    put("x-ms-policy-hash", json!(b64u(&Sha256::digest(ATTESTATION_POLICY))));
    if let Some(nonce) = &evidence.nonce {
        put("nonce", json!(nonce));
    }
    if let Some(runtime) = &evidence.runtime {
        put("x-ms-runtime", runtime.clone());
    }
    if let Some(init_time) = &evidence.init_time {
        put("x-ms-inittime", init_time.clone());
    }
    if let Some(endorsement) = &evidence.endorsement {
        put("x-ms-compliance-status", json!("azure-compliant-uvm"));
        put("x-ms-sevsnpvm-uvm-endorsement", endorsement.claim());
        put(
            "x-ms-sevsnpvm-uvm-endorsement-headers",
            json!({"feed": endorsement.feed, "iss": endorsement.issuer}),
        );
    }
    for (name, value) in report_claims(evidence) {
        put(&format!("x-ms-sevsnpvm-{name}"), value);
    }
    claims
}

/// Turin's extra TCB component has no claim of its own in the tokens seen so far.
fn report_claims(evidence: &Evidence) -> [(&'static str, Value); 17] {
    let (report, tcb) = (&evidence.report, evidence.tcb);
    [
        ("authorkeydigest", json!(hex::encode(report.author_key_digest))),
        ("bootloader-svn", json!(tcb.bootloader)),
        ("familyId", json!(hex::encode(report.family_id))),
        ("guestsvn", json!(report.guest_svn)),
        ("hostdata", json!(hex::encode(report.host_data))),
        ("idkeydigest", json!(hex::encode(report.id_key_digest))),
        ("imageId", json!(hex::encode(report.image_id))),
        ("is-debuggable", json!(report.policy_has(policy::DEBUG))),
        ("launchmeasurement", json!(hex::encode(report.measurement))),
        ("microcode-svn", json!(tcb.microcode)),
        ("migration-allowed", json!(report.policy_has(policy::MIGRATE_MA))),
        ("reportdata", json!(hex::encode(report.report_data))),
        ("reportid", json!(hex::encode(report.report_id))),
        ("smt-allowed", json!(report.policy_has(policy::SMT))),
        ("snpfw-svn", json!(tcb.snp)),
        ("tee-svn", json!(tcb.tee)),
        ("vmpl", json!(report.vmpl)),
    ]
}
