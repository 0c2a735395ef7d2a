//! Evidence of confidential VMs. Report and quote are signed anew, by a security processor and an attestation key of
//! these tests.

use std::collections::BTreeMap;

use attestation::crypto::sha256;
use attestation::encoding::to_b64u;
use attestation::policy::Hex;
use attestation::vtpm::{AkCertificate, VtpmEvidence, VtpmExpectations, verify_and_appraise};
use attestation::{Expect, Policy, Trust, report};
use rsa::pkcs1v15::SigningKey;
use rsa::signature::{SignatureEncoding as _, Signer as _};
use rsa::traits::PublicKeyParts as _;
use serde_json::json;
use sha2::Sha256;

use super::case::{NOW, at};
use super::pki::Signer;
use super::{Entry, endorsements, guests, joined, parts, world};

pub(super) const ENTRIES: &[Entry] = &[Entry { name: "vtpm", read: read_vtpm, seeds: evidence }];

const NONCE: &[u8] = b"nonce";

/// The paravisor's report around JSON that it binds.
fn hcl(json: &[u8]) -> Vec<u8> {
    let mut report = world().case.report.clone();
    let data = report.iter_mut().skip(at::REPORT_DATA).take(64);
    data.zip(sha256(json).into_iter().chain([0; 32])).for_each(|(place, byte)| *place = byte);
    let host_data = report.iter_mut().skip(at::HOST_DATA).take(32);
    host_data.for_each(|byte| *byte = 0);
    let length = u32::try_from(json.len()).unwrap_or_default();
    let before = 32 + u32::try_from(report::LENGTH).unwrap_or_default() + 20;
    let header = [u32::from_le_bytes(*b"HCLA"), 2, before + length, 2, 0, 0, 0, 0];
    let numbers = [20 + length, 1, 2, 1, length];
    let bytes = |numbers: &[u32]| numbers.iter().flat_map(|n| n.to_le_bytes()).collect::<Vec<_>>();
    [bytes(&header), guests::signed(&report), bytes(&numbers), json.to_vec()].concat()
}

fn runtime_data() -> Vec<u8> {
    let key = Signer::Stranger.key();
    let number = |number: &rsa::BigUint| to_b64u(&number.to_bytes_be());
    let key = json!({"kid": "HCLAkPub", "kty": "RSA", "n": number(key.n()), "e": number(key.e())});
    json!({"keys": [key], "vm-configuration": {"secure-boot": true}}).to_string().into_bytes()
}

pub(super) fn hcl_reports() -> Vec<Vec<u8>> {
    vec![hcl(&runtime_data()), [hcl(b"{}"), vec![0; 100]].concat()]
}

fn registers() -> Vec<u8> {
    [7; 24 * 32].to_vec()
}

/// `TPMS_ATTEST` of all registers.
fn quote(digest: &[u8]) -> Vec<u8> {
    let sized = |bytes: &[u8]| {
        [&u16::try_from(bytes.len()).unwrap_or_default().to_be_bytes()[..], bytes].concat()
    };
    let mut out = [&0xff54_4347_u32.to_be_bytes()[..], &0x8018_u16.to_be_bytes()].concat();
    out.extend([sized(&[0xaa; 34]), sized(NONCE)].concat());
    out.extend([0; 16]);
    out.extend([1, 0, 0, 0, 0, 0, 0, 0, 9]);
    out.extend([0, 0, 0, 1, 0, 0x0b, 3, 0xff, 0xff, 0xff]);
    out.extend(sized(digest));
    out
}

pub(super) fn quotes() -> Vec<Vec<u8>> {
    let marked = [&[0, 0x14, 0, 0x0b, 1, 0][..], &[7; 256]].concat();
    vec![quote(&sha256(&registers())), quote(b""), marked]
}

fn read_vtpm(bytes: &[u8]) {
    let Some([runtime_data, quote, pcrs, leaf, issuers]) = parts(bytes) else { return };
    let signature = SigningKey::<Sha256>::new(Signer::Stranger.key().clone()).sign(quote);
    let evidence = VtpmEvidence {
        hcl_report: hcl(runtime_data),
        quote: quote.to_vec(),
        signature: signature.to_vec(),
        pcrs: pcrs.chunks(32).filter_map(|pcr| pcr.try_into().ok()).collect(),
        vek: world().evidence.vek.clone(),
        chain: world().evidence.chain.clone(),
        ak_certificate: Some(leaf.to_vec()).filter(|leaf| !leaf.is_empty()),
        ak_issuers: issuers.to_vec(),
    };
    let expected = VtpmExpectations {
        nonce: Expect::Value(NONCE.to_vec()),
        registers: Expect::Value((0..24).collect()),
        values: Expect::Value(BTreeMap::from([(0, vec![Hex([7; 32])])])),
        ak_certificate: Expect::Value(AkCertificate::Believed),
    };
    let host_data = Expect::Value(vec![Hex([0; 32])]);
    let policy = Policy { host_data, ..world().case.policy.clone() };
    match verify_and_appraise(&evidence, &world().anchors, &policy, &expected, NOW) {
        Ok(vm) => assert_eq!(vm.trust(), Trust::NotProduction),
        Err(rejected) => assert!(rejected.failures().next().is_some()),
    }
}

fn evidence() -> Vec<Vec<u8>> {
    let (data, pcrs) = (runtime_data(), registers());
    let quote = quote(&sha256(&pcrs));
    let [leaf, intermediate, root] = endorsements::chain();
    let issuers = [intermediate, root].concat();
    let padded = [leaf.as_slice(), &[0; 5]].concat();
    vec![
        joined([&data, &quote, &pcrs, &padded, &issuers]),
        joined([&data, &quote, &pcrs, &[], &[]]),
    ]
}
