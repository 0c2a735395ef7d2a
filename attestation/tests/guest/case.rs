//! One synthetic guest with everything that a verifier sees of it. A test changes one thing and lists the
//! checks that refuse it.

use std::collections::BTreeSet;

use attestation::crypto::sha256;
use attestation::owner::OwnerStatement;
use attestation::policy::{Expect, Hex, OwnerKey, Policy};
use attestation::wire::OwnerSignature;
use attestation::{Anchors, Demand, Evidence, Finding, Outcome, appraise, binding, danger, verify};
use der::Encode as _;
use p256::pkcs8::EncodePublicKey as _;
use p384::ecdsa::SigningKey;
use p384::ecdsa::signature::Signer as _;
use x509_cert::ext::Extension;

use super::pki::{self, List, Signer, Spec, amd, ia5};

/// A time in every certificate's life.
pub(crate) const NOW: u64 = 1_795_305_600;

/// Offsets of a report's fields.
pub(crate) mod at {
    pub(crate) const VERSION: usize = 0x00;
    pub(crate) const GUEST_SVN: usize = 0x04;
    pub(crate) const POLICY: usize = 0x08;
    pub(crate) const FAMILY_ID: usize = 0x10;
    pub(crate) const VMPL: usize = 0x30;
    pub(crate) const SIGNATURE_ALGO: usize = 0x34;
    pub(crate) const CURRENT_TCB: usize = 0x38;
    pub(crate) const PLATFORM_INFO: usize = 0x40;
    pub(crate) const KEY_INFO: usize = 0x48;
    pub(crate) const REPORT_DATA: usize = 0x50;
    pub(crate) const MEASUREMENT: usize = 0x90;
    pub(crate) const HOST_DATA: usize = 0xc0;
    pub(crate) const ID_KEY: usize = 0xe0;
    pub(crate) const AUTHOR_KEY: usize = 0x110;
    pub(crate) const REPORT_ID: usize = 0x140;
    pub(crate) const REPORTED_TCB: usize = 0x180;
    pub(crate) const CPUID: usize = 0x188;
    pub(crate) const CHIP_ID: usize = 0x1a0;
    pub(crate) const COMMITTED_TCB: usize = 0x1e0;
    pub(crate) const CURRENT_BUILD: usize = 0x1e8;
    pub(crate) const COMMITTED_BUILD: usize = 0x1ec;
    pub(crate) const LAUNCH_TCB: usize = 0x1f0;
    pub(crate) const LAUNCH_MITIGATIONS: usize = 0x1f8;
    pub(crate) const CURRENT_MITIGATIONS: usize = 0x200;
    pub(crate) const SIGNED: usize = 0x2a0;
    pub(crate) const LENGTH: usize = 1184;
}

/// The enforcement policy of the group.
pub(crate) const CCE_POLICY: &[u8] = b"package policy";

/// What the leaf says.
#[derive(Clone)]
pub(crate) struct Leaf {
    pub(crate) subject: &'static str,
    pub(crate) product: &'static str,
    /// Suffix of the extension and its level.
    pub(crate) levels: Vec<(&'static str, u8)>,
    pub(crate) hardware_id: Vec<u8>,
    pub(crate) life: (u64, u64),
}

/// A guest, its machine, its certificates, and whoever judges them.
#[derive(Clone)]
pub(crate) struct Case {
    pub(crate) report: Vec<u8>,
    /// A last change, after signing.
    pub(crate) tamper: fn(&mut Vec<u8>),
    pub(crate) leaf: Leaf,
    pub(crate) leaf_signer: Signer,
    pub(crate) ask: Spec,
    pub(crate) ark: Spec,
    pub(crate) cce_policy: Vec<u8>,
    pub(crate) crl: Option<List>,
    /// The ARK that the verifier believes; `None`: the case's own.
    pub(crate) believed: Option<Spec>,
    pub(crate) policy: Policy,
    pub(crate) demand: Demand,
    pub(crate) at: u64,
}

impl Case {
    /// A container group of Azure on Milan.
    pub(crate) fn milan() -> Self {
        Self::old_layout("Milan", "Milan-B0", [4, 0, 0, 0, 0, 0, 24, 219], [0x19, 0x01, 0x01])
    }

    /// The same on Genoa.
    pub(crate) fn genoa() -> Self {
        Self::old_layout("Genoa", "Genoa", [10, 0, 0, 0, 0, 0, 23, 84], [0x19, 0x11, 0x01])
    }

    fn old_layout(name: &str, product: &'static str, tcb: [u8; 8], cpuid: [u8; 3]) -> Self {
        let [bootloader, tee, .., snp, microcode] = tcb;
        let levels = vec![("3.1", bootloader), ("3.2", tee), ("3.3", snp), ("3.8", microcode)];
        Self::new(name, product, tcb, cpuid, levels, 64)
    }

    /// The same on Turin, which has its own layouts.
    pub(crate) fn turin() -> Self {
        let tcb = [1, 2, 3, 4, 0, 0, 0, 200];
        let levels = vec![("3.9", 1), ("3.1", 2), ("3.2", 3), ("3.3", 4), ("3.8", 200)];
        let mut case = Self::new("Turin", "Turin", tcb, [0x1a, 0x02, 0x01], levels, 8);
        let minimum =
            r#"{"turin": {"fmc": 1, "bootloader": 2, "tee": 3, "snp": 4, "microcode": 200}}"#;
        case.policy.minimum_tcb = Expect::Value(serde_json::from_str(minimum).unwrap());
        case
    }

    fn new(
        name: &str,
        product: &'static str,
        tcb: [u8; 8],
        cpuid: [u8; 3],
        levels: Vec<(&'static str, u8)>,
        id_length: usize,
    ) -> Self {
        let hardware_id = vec![0xc1; id_length];
        let ark = format!("ARK-{name}");
        let mut policy = Policy::for_host_data(Expect::Value(vec![Hex(sha256(CCE_POLICY))]));
        policy.machine.chip_id = Expect::unchecked("not what this test is about");
        // Endorsements have tests of their own, beside their checks.
        policy.endorsement = Expect::unchecked("not what this test is about");
        policy.measurement = Some(Expect::unchecked("not what this test is about"));
        let leaf = Leaf { subject: "SEV-VCEK", product, levels, hardware_id, life: pki::LIFE };
        Self {
            report: report(tcb, cpuid, &leaf.hardware_id),
            tamper: |_| {},
            leaf,
            leaf_signer: Signer::Ask,
            ask: Spec::authority(65537, &ark, &format!("SEV-{name}")),
            ark: Spec::authority(65536, &ark, &ark),
            cce_policy: CCE_POLICY.to_vec(),
            crl: None,
            believed: None,
            policy,
            demand: Demand {
                report_data: Expect::Value([0x42; 64]),
                nonce: Expect::Value([1; 32]),
                exporter: Expect::Value([2; 32]),
                owner: None,
            },
            at: NOW,
        }
    }

    /// Reports by a provider's key: no chip, and AMD's other intermediate.
    pub(crate) fn with_vlek(mut self) -> Self {
        self.leaf.subject = "SEV-VLEK";
        self.leaf.hardware_id.clear();
        self.ask.subject = self.ask.subject.replace("SEV-", "SEV-VLEK-");
        self.ask.serial = 65793;
        self.set(at::CHIP_ID, &[0; 64]);
        self.set(at::KEY_INFO, &[1 << 2]);
        self
    }

    /// Signed by this owner, whose key the policy names from now on.
    pub(crate) fn owned(mut self, owner: &Owner) -> Self {
        self.policy.owner_key = Expect::Value(owner.public());
        self.demand.owner = Some(owner.sign(&[0x42; 64], [0x4d; 32]));
        self
    }

    /// Writes bytes into the report.
    pub(crate) fn set(&mut self, at: usize, bytes: &[u8]) {
        self.report[at..at + bytes.len()].copy_from_slice(bytes);
    }

    /// A list by the case's root that is current and revokes nothing.
    pub(crate) fn list(&self) -> List {
        List {
            issuer: self.ark.subject.clone(),
            revoked: vec![],
            this_update: NOW - 1000,
            next_update: Some(NOW + 1000),
            extensions: vec![],
            entry_extensions: None,
            signer: Signer::Ark,
        }
    }

    /// The evidence, signed.
    pub(crate) fn evidence(&self) -> Evidence {
        let chain = [self.ask.issue_rsa(Signer::Ask), self.ark.issue_rsa(Signer::Ark)].concat();
        Evidence {
            report: sign(&self.report, self.tamper),
            vek: self.leaf_spec().issue_p384(),
            chain: Some(chain),
            crl: self.crl.as_ref().map(List::issue),
            uvm: None,
            cce_policy: Some(self.cce_policy.clone()),
        }
    }

    fn leaf_spec(&self) -> Spec {
        let leaf = &self.leaf;
        let levels = leaf.levels.iter().map(|(oid, level)| amd(oid, &level.to_der().unwrap()));
        let mut extensions: Vec<Extension> = levels.collect();
        extensions.push(amd("2", &ia5(leaf.product)));
        if !leaf.hardware_id.is_empty() {
            extensions.push(amd("4", &leaf.hardware_id));
        }
        Spec {
            serial: 0,
            issuer: self.ask.subject.clone(),
            subject: leaf.subject.to_owned(),
            life: leaf.life,
            extensions,
            signer: self.leaf_signer,
        }
    }

    /// The verifier's anchors.
    pub(crate) fn anchors(&self) -> Anchors {
        let believed = match &self.believed {
            Some(other) => other.issue_rsa(Signer::Stranger),
            None => self.ark.issue_rsa(Signer::Ark),
        };
        danger::Anchors::from_pem(&pki::pem(&believed)).unwrap()
    }

    /// Every finding: of appraisal, if the evidence is authentic, else of verification.
    pub(crate) fn findings(&self) -> Vec<Finding> {
        let judged = verify(&self.evidence(), &self.anchors(), self.at)
            .and_then(|verified| appraise(verified, &self.policy, self.demand.clone()));
        match judged {
            Ok(appraised) => appraised.findings().to_vec(),
            Err(rejected) => rejected.findings,
        }
    }

    /// The checks that refuse it.
    pub(crate) fn failures(&self) -> BTreeSet<&'static str> {
        ids(&self.findings(), |outcome| matches!(outcome, Outcome::Failed { .. }))
    }

    /// The checks that nobody made.
    pub(crate) fn unchecked(&self) -> BTreeSet<&'static str> {
        ids(&self.findings(), |outcome| matches!(outcome, Outcome::Unchecked { .. }))
    }
}

fn ids(findings: &[Finding], of: impl Fn(&Outcome) -> bool) -> BTreeSet<&'static str> {
    findings.iter().filter(|finding| of(&finding.outcome)).map(|finding| finding.check.id).collect()
}

fn report(tcb: [u8; 8], cpuid: [u8; 3], chip: &[u8]) -> Vec<u8> {
    let mut report = vec![0; at::LENGTH];
    let mut set = |at: usize, bytes: &[u8]| report[at..at + bytes.len()].copy_from_slice(bytes);
    set(at::VERSION, &[3]);
    set(at::GUEST_SVN, &[2]);
    set(at::POLICY, &[0x1f, 0, 3]);
    set(at::FAMILY_ID, &[1]);
    set(at::SIGNATURE_ALGO, &[1]);
    set(at::PLATFORM_INFO, &[0x25]);
    set(at::REPORT_DATA, &[0x42; 64]);
    set(at::MEASUREMENT, &[3; 48]);
    set(at::HOST_DATA, &sha256(CCE_POLICY));
    set(at::ID_KEY, &[4; 48]);
    set(at::REPORT_ID, &[5; 32]);
    for tcb_at in [at::CURRENT_TCB, at::REPORTED_TCB, at::COMMITTED_TCB, at::LAUNCH_TCB] {
        set(tcb_at, &tcb);
    }
    set(at::CPUID, &cpuid);
    set(at::CHIP_ID, chip);
    for firmware_at in [at::CURRENT_BUILD, at::COMMITTED_BUILD] {
        set(firmware_at, &[29, 55, 1]);
    }
    report
}

fn sign(report: &[u8], tamper: fn(&mut Vec<u8>)) -> Vec<u8> {
    let mut signed = report.to_vec();
    let signature: p384::ecdsa::Signature =
        SigningKey::from(pki::report_key()).sign(&report[..at::SIGNED]);
    let (r, s) = signature.split_bytes();
    for (start, number) in [(at::SIGNED, r), (at::SIGNED + 72, s)] {
        let little_endian: Vec<u8> = number.into_iter().rev().collect();
        signed[start..start + 48].copy_from_slice(&little_endian);
    }
    tamper(&mut signed);
    signed
}

/// The owner of a group.
pub(crate) struct Owner(p256::ecdsa::SigningKey);

impl Owner {
    pub(crate) fn new(seed: u8) -> Self {
        Self(p256::ecdsa::SigningKey::from_slice(&[seed; 32]).unwrap())
    }

    pub(crate) fn public(&self) -> OwnerKey {
        let spki = self.0.verifying_key().to_public_key_der().unwrap();
        OwnerKey::from_spki(spki.as_bytes()).unwrap()
    }

    /// The owner's word about a report and a manifest.
    pub(crate) fn sign(&self, report_data: &[u8; 64], manifest_sha256: [u8; 32]) -> OwnerStatement {
        let message = binding::owner_message(report_data, &manifest_sha256);
        let signature: p256::ecdsa::Signature = self.0.sign(&message);
        let sig = signature.to_bytes().to_vec();
        let signature = OwnerSignature { kid: "of the test".into(), alg: "ES256".into(), sig };
        OwnerStatement { signature, manifest_sha256 }
    }
}
