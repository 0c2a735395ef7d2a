//! Every check of a guest, on synthetic evidence with a certification authority of its own: a good case that
//! all pass, and for each check bad cases that fail for that check alone.

use std::collections::BTreeSet;

use crate::case::{Case, NOW, Owner, at};
use crate::pki::{List, Signer, Spec};
use attestation::policy::{Expect, Hex, IdentityBlock, LaunchPolicy, List as Presence, Revocation};
use attestation::report::{Firmware, GuestFlag, PlatformFlag};
use attestation::{Demand, checks, verify};

fn nobody<T>() -> Expect<T> {
    Expect::unchecked("not what this test is about")
}

#[test]
fn a_good_guest_of_every_generation_is_accepted() {
    for case in [Case::milan(), Case::genoa(), Case::turin()] {
        assert_eq!(case.failures(), BTreeSet::new());
    }
}

/// A guest of which everything is demanded that a policy can demand.
fn everything_demanded() -> Case {
    let mut case = Case::milan().owned(&Owner::new(1));
    case.set(at::VERSION, &[5]);
    case.set(at::LAUNCH_MITIGATIONS, &[3]);
    case.set(at::CURRENT_MITIGATIONS, &[7]);
    case.set(at::KEY_INFO, &[1]);
    case.set(at::AUTHOR_KEY, &[6; 48]);
    case.set(at::POLICY, &[31, 0, 0x13]);
    let policy = &mut case.policy;
    policy.measurement = Some(Expect::Value(vec![Hex([9; 48]), Hex([3; 48])]));
    policy.minimum_mitigation = Expect::Value(3);
    policy.firmware.minimum = Expect::Value(Firmware { major: 1, minor: 55, build: 29 });
    policy.machine.chip_id = Expect::Value(vec![Hex([0xc1; 64])]);
    policy.machine.report_id = Expect::Value(vec![Hex([5; 32])]);
    policy.guest_policy = Expect::Value(LaunchPolicy {
        required: [GuestFlag::SingleSocket].into(),
        ..LaunchPolicy::default()
    });
    let mut family = [0; 16];
    family[0] = 1;
    policy.identity_block = IdentityBlock {
        minimum_svn: Expect::Value(2),
        family_id: Expect::Value(vec![Hex(family)]),
        image_id: Expect::Value(vec![Hex([0; 16])]),
        id_key: Expect::Value(vec![Hex([4; 48])]),
        author_key: Expect::Value(vec![Hex([6; 48])]),
    };
    policy.revocation = Expect::Value(Revocation { list: Presence::Required, grace: 0 });
    case.crl = Some(case.list());
    case
}

#[test]
fn a_guest_that_meets_every_demand_leaves_only_endorsements_unchecked() {
    let case = everything_demanded();
    assert_eq!(case.failures(), BTreeSet::new());
    let unchecked: Vec<_> =
        case.unchecked().into_iter().filter(|id| !id.starts_with('U')).collect();
    assert_eq!(unchecked, [""; 0]);
}

#[test]
fn what_a_policy_does_not_demand_says_why() {
    let case = Case::milan();
    let unchecked: Vec<_> =
        case.unchecked().into_iter().filter(|id| !id.starts_with('U')).collect();
    assert_eq!(unchecked, ["B4", "C6", "P10", "P6", "P7", "P8", "R7"]);
}

/// A check, and a change that it alone refuses.
type Bad = (&'static str, fn(&mut Case));

const BAD_REPORTS: &[Bad] = &[
    ("R1", |c| c.tamper = |report| report.truncate(1183)),
    ("R1", |c| c.tamper = |report| report.push(0)),
    ("R2", |c| c.set(at::VERSION, &[6])),
    ("R2", |c| {
        c.set(at::VERSION, &[1]);
        c.set(at::CPUID, &[0; 3]);
    }),
    ("R3", |c| c.set(0x4c, &[1])),
    ("R3", |c| c.set(0x18b, &[1])),
    ("R3", |c| c.set(0x1eb, &[1])),
    ("R3", |c| c.set(0x1ef, &[1])),
    ("R3", |c| c.set(0x29f, &[1])),
    ("R3", |c| c.set(at::CURRENT_MITIGATIONS, &[1])),
    ("R3", |c| c.set(at::KEY_INFO, &[1 << 5])),
    ("R3", |c| c.set(at::VERSION, &[2])),
    ("R5", |c| c.set(at::CPUID, &[0x1b])),
    ("R5", |c| c.set(at::CPUID, &[0x19, 0x20])),
    ("R6", |c| c.set(at::CURRENT_TCB + 2, &[1])),
    ("R6", |c| c.set(at::REPORTED_TCB + 5, &[1])),
    ("R6", |c| c.set(at::LAUNCH_TCB + 3, &[1])),
    ("R6", |c| c.set(at::COMMITTED_TCB + 4, &[1])),
    ("S1", |c| c.set(at::SIGNATURE_ALGO, &[0])),
    ("S1", |c| c.set(at::SIGNATURE_ALGO, &[2])),
    ("S2", |c| c.tamper = |report| report[at::REPORT_ID] ^= 1),
    ("S2", |c| c.tamper = |report| report[at::SIGNED] ^= 1),
    ("S2", |c| c.tamper = |report| report[at::SIGNED + 48] = 1),
    ("S2", |c| c.tamper = |report| report[at::SIGNED + 143] = 1),
    ("S2", |c| c.tamper = |report| report[at::LENGTH - 1] = 1),
    ("S2", |c| c.tamper = |report| swap_r_and_s(report)),
    ("S2", |c| c.tamper = |report| big_endian(report)),
    ("S2", |c| c.tamper = |report| report[at::SIGNED..at::SIGNED + 48].fill(0)),
    ("S2", |c| c.tamper = |report| report[at::SIGNED + 72..at::SIGNED + 120].fill(0)),
    ("S2", |c| c.tamper = |report| s_is_the_order(report)),
    ("S3", |c| c.set(at::KEY_INFO, &[1 << 2])),
    ("S3", |c| c.set(at::KEY_INFO, &[7 << 2])),
    ("S4", |c| c.set(at::KEY_INFO, &[1 << 1])),
];

fn swap_r_and_s(report: &mut [u8]) {
    let (r, s) = report[at::SIGNED..at::SIGNED + 144].split_at_mut(72);
    r.swap_with_slice(s);
}

fn big_endian(report: &mut [u8]) {
    report[at::SIGNED..at::SIGNED + 48].reverse();
    report[at::SIGNED + 72..at::SIGNED + 120].reverse();
}

/// n of P-384: no s is as large.
fn s_is_the_order(report: &mut [u8]) {
    let n = "ffffffffffffffffffffffffffffffffffffffffffffffffc7634d81f4372ddf581a0db248b0a77aecec196accc52973";
    let little_endian: Vec<u8> = hex::decode(n).expect("hexadecimal").into_iter().rev().collect();
    report[at::SIGNED + 72..at::SIGNED + 120].copy_from_slice(&little_endian);
}

const BAD_CHAINS: &[Bad] = &[
    ("C1", |c| {
        let mut other = Spec::authority(65536, "ARK-Milan", "ARK-Milan");
        other.signer = Signer::Stranger;
        c.believed = Some(other);
    }),
    ("C2", |c| c.leaf_signer = Signer::Stranger),
    ("C2", |c| c.leaf_signer = Signer::Ark),
    ("C2", |c| c.ask.signer = Signer::Stranger),
    ("C2", |c| c.ark.signer = Signer::Stranger),
    ("C2", |c| c.ask.issuer = "ARK-Genoa".to_owned()),
    ("C3", |c| *c = c.clone().with_vlek()),
    ("C4", |c| c.ark.extensions.truncate(1)),
    ("C4", |c| c.ask.extensions.truncate(1)),
    ("C4", |c| drop(c.ask.extensions.remove(0))),
    ("C4", |c| c.ask.extensions[0].critical = false),
    // AMD's authority for VLEKs signs no VCEK.
    ("C4", |c| c.ask.subject = "SEV-VLEK-Milan".to_owned()),
    ("C5", |c| c.leaf.life = (NOW + 1, NOW + 2)),
    ("C5", |c| c.leaf.life = (NOW - 2, NOW - 1)),
    ("C5", |c| c.ask.life = (NOW - 2, NOW - 1)),
    ("C5", |c| c.ark.life = (NOW + 1, NOW + 2)),
    ("C7", |c| c.leaf.levels[0].1 += 1),
    ("C7", |c| c.leaf.levels[1].1 += 1),
    ("C7", |c| c.leaf.levels[2].1 -= 1),
    ("C7", |c| c.leaf.levels[3].1 -= 1),
    ("C8", |c| c.leaf.hardware_id[63] ^= 1),
    ("C9", |c| c.set(at::CPUID, &[0x19, 0x11])),
];

/// More of them stand in `revocation.rs`.
const BAD_LISTS: &[Bad] = &[
    ("C6", |c| c.crl = Some(List { revoked: vec![65537], ..c.list() })),
    ("C6", |c| c.crl = Some(List { signer: Signer::Ask, ..c.list() })),
];

const BAD_PLATFORMS: &[Bad] = &[
    ("R4", |c| c.set(at::PLATFORM_INFO, &[0x05])),
    ("R4", |c| {
        let Expect::Value(rules) = &mut c.policy.platform else { panic!("a value") };
        rules.required.insert(PlatformFlag::CiphertextHidingDram);
    }),
    ("R4", |c| {
        let Expect::Value(rules) = &mut c.policy.platform else { panic!("a value") };
        rules.allowed.remove(&PlatformFlag::Smt);
    }),
    // Versions before 5 state no mitigations.
    ("R7", |c| c.policy.minimum_mitigation = Expect::Value(1)),
    ("R7", |c| mitigations(c, 0b100, 0b111)),
    ("R7", |c| mitigations(c, 0b111, 0b010)),
    // Committed above current; the two that T2 looks at stay.
    ("T1", |c| c.set(at::COMMITTED_TCB + 7, &[220])),
    ("T1", |c| c.set(at::LAUNCH_TCB + 7, &[220])),
    ("T1", |c| c.set(at::COMMITTED_TCB, &[3])),
    ("T2", |c| older(c, &[at::REPORTED_TCB, at::COMMITTED_TCB, at::CURRENT_TCB, at::LAUNCH_TCB])),
    ("T2", |c| older(c, &[at::REPORTED_TCB])),
    ("T2", |c| c.set(at::LAUNCH_TCB + 6, &[23])),
    ("T2", |c| c.policy.minimum_tcb = Expect::Value([].into())),
    ("T2", |c| {
        let Expect::Value(rows) = &mut c.policy.minimum_tcb else { panic!("a value") };
        rows.retain(|generation, _| *generation == attestation::policy::Generation::Genoa);
    }),
    ("T3", |c| c.set(at::CURRENT_BUILD, &[30])),
    ("T3", |c| {
        c.policy.firmware.minimum = Expect::Value(Firmware { major: 1, minor: 55, build: 30 });
    }),
    ("P10", |c| c.policy.machine.chip_id = Expect::Value(vec![Hex([0xc2; 64])])),
    ("P10", |c| c.policy.machine.chip_id = Expect::Value(vec![])),
    ("P10", |c| c.policy.machine.report_id = Expect::Value(vec![Hex([6; 32])])),
];

fn mitigations(c: &mut Case, launch: u8, now: u8) {
    c.set(at::VERSION, &[5]);
    c.set(at::LAUNCH_MITIGATIONS, &[launch]);
    c.set(at::CURRENT_MITIGATIONS, &[now]);
    c.policy.minimum_mitigation = Expect::Value(0b110);
}

/// Microcode 218 in these TCBs, and in the leaf.
fn older(c: &mut Case, tcbs: &[usize]) {
    for tcb in tcbs {
        c.set(tcb + 7, &[218]);
    }
    c.leaf.levels[3].1 = 218;
}

const BAD_GUESTS: &[Bad] = &[
    ("P1", |c| c.set(at::POLICY + 2, &[0b1011])),
    ("P2", |c| c.set(at::POLICY + 2, &[0b0111])),
    // CXL; then an older ABI; then a flag that is demanded and not there; then one that nobody allows.
    ("P3", |c| c.set(at::POLICY + 2, &[0b10_0011])),
    ("P3", |c| c.set(at::POLICY, &[30])),
    ("P3", |c| {
        let Expect::Value(rules) = &mut c.policy.guest_policy else { panic!("a value") };
        rules.required.insert(GuestFlag::MemAes256Xts);
    }),
    ("P3", |c| {
        let Expect::Value(rules) = &mut c.policy.guest_policy else { panic!("a value") };
        rules.allowed.remove(&GuestFlag::Smt);
    }),
    ("P4", |c| c.set(at::POLICY + 2, &[0b0001])),
    ("P4", |c| c.set(at::POLICY + 3, &[0b100])),
    ("P4", |c| c.set(at::POLICY + 7, &[0x80])),
    ("P4", |c| c.set(at::POLICY, &[56, 1])),
    ("P5", |c| c.set(at::VMPL, &[1])),
    ("P5", |c| c.set(at::VMPL, &[0xff; 4])),
    ("P6", |c| c.policy.identity_block.minimum_svn = Expect::Value(3)),
    ("P6", |c| c.policy.identity_block.family_id = Expect::Value(vec![Hex([2; 16])])),
    ("P6", |c| c.policy.identity_block.image_id = Expect::Value(vec![Hex([2; 16])])),
    ("P7", |c| c.policy.identity_block.id_key = Expect::Value(vec![Hex([5; 48])])),
    ("P7", |c| c.policy.identity_block.id_key = Expect::Value(vec![])),
    // The digest is there, but the firmware does not say that it means anything.
    ("P7", |c| {
        c.set(at::AUTHOR_KEY, &[6; 48]);
        c.policy.identity_block.author_key = Expect::Value(vec![Hex([6; 48])]);
    }),
    ("P7", |c| {
        c.set(at::KEY_INFO, &[1]);
        c.policy.identity_block.author_key = Expect::Value(vec![Hex([6; 48])]);
    }),
    ("P8", |c| c.policy.measurement = Some(Expect::Value(vec![Hex([4; 48])]))),
    // Neither a list nor an endorsement says what runs.
    ("P8", |c| c.policy.measurement = None),
    ("P8", |c| c.policy.measurement = Some(Expect::Value(vec![]))),
    ("P9", |c| c.policy.host_data = Expect::Value(vec![Hex([7; 32])])),
    ("P9", |c| c.policy.host_data = Expect::Value(vec![])),
    ("P11", |c| c.cce_policy.push(b'\n')),
    ("B1", |c| {
        let report_data = Expect::Value([0x43; 64]);
        c.demand = Demand { report_data, nonce: nobody(), exporter: nobody(), owner: None };
    }),
    ("B2", |c| c.demand.nonce = Expect::Value([0; 32])),
    ("B3", |c| c.demand.exporter = Expect::Value([0; 32])),
    ("B4", |c| c.policy.owner_key = Expect::Value(Owner::new(1).public())),
    ("B4", |c| {
        c.policy.owner_key = Expect::Value(Owner::new(1).public());
        c.demand.owner = Some(Owner::new(2).sign(&[0x42; 64], [0x4d; 32]));
    }),
    // The owner's word about another proof, and about another manifest.
    ("B4", |c| {
        c.policy.owner_key = Expect::Value(Owner::new(1).public());
        c.demand.owner = Some(Owner::new(1).sign(&[0x43; 64], [0x4d; 32]));
    }),
    ("B4", |c| {
        c.policy.owner_key = Expect::Value(Owner::new(1).public());
        let mut statement = Owner::new(1).sign(&[0x42; 64], [0x4d; 32]);
        statement.manifest_sha256 = [0x4e; 32];
        c.demand.owner = Some(statement);
    }),
    ("B4", |c| {
        c.policy.owner_key = Expect::Value(Owner::new(1).public());
        let mut statement = Owner::new(1).sign(&[0x42; 64], [0x4d; 32]);
        statement.signature.alg = "none".to_owned();
        c.demand.owner = Some(statement);
    }),
];

fn all_bad() -> impl Iterator<Item = Bad> {
    [BAD_REPORTS, BAD_CHAINS, BAD_LISTS, BAD_PLATFORMS, BAD_GUESTS].into_iter().flatten().copied()
}

#[test]
fn each_bad_case_is_refused_by_its_check_alone() {
    for (n, (id, change)) in all_bad().enumerate() {
        let mut case = Case::milan();
        change(&mut case);
        assert_eq!(case.failures(), [id].into(), "case {n}");
    }
}

#[test]
fn a_refusal_says_which_key_was_meant_and_which_is_named() {
    for (key, name) in [(1, "VLEK"), (7, "none (7)")] {
        let mut case = Case::milan();
        case.set(at::KEY_INFO, &[key << 2]);
        let findings = case.findings();
        let s3 = findings.iter().find(|finding| finding.check.id == "S3").unwrap();
        let (expected, actual) = ("VCEK".to_owned(), name.to_owned());
        assert_eq!(s3.outcome, attestation::Outcome::Failed { expected, actual });
    }
}

#[test]
fn every_check_of_a_guest_has_a_bad_case() {
    let covered: BTreeSet<&str> = all_bad().map(|(id, _)| id).collect();
    let guest = |id: &&str| id.starts_with(['R', 'S', 'C', 'T', 'P', 'B']);
    let all: BTreeSet<&str> = checks::all().map(|check| check.id).filter(guest).collect();
    assert_eq!(covered, all);
}

#[test]
fn versions_two_to_five_are_known() {
    for version in 2..=5 {
        let mut case = Case::milan();
        case.set(at::VERSION, &[version]);
        if version == 2 {
            case.set(at::CPUID, &[0; 3]);
        }
        assert_eq!(case.failures(), BTreeSet::new(), "version {version}");
    }
}

#[test]
fn unknown_settings_of_the_platform_are_tolerated_and_shown() {
    let mut case = Case::milan();
    case.set(at::PLATFORM_INFO, &[0x65, 0, 0, 0, 0, 0, 0, 0x80]);
    let findings = case.findings();
    let finding = findings.iter().find(|finding| finding.check.id == "R4").unwrap();
    let text = format!("{:?}", finding.outcome);
    assert!(text.contains("Passed") && text.contains("0x8000000000000040"), "{text}");
}

#[test]
fn turin_has_an_fmc_and_eight_bytes_of_chip_id() {
    let refused = |change: fn(&mut Case)| {
        let mut case = Case::turin();
        change(&mut case);
        case.failures()
    };
    assert_eq!(refused(|c| c.leaf.levels[0].1 = 0), ["C7"].into(), "the certificate's FMC");
    assert_eq!(refused(|c| c.set(at::LAUNCH_TCB, &[0])), ["T2"].into(), "the FMC at launch");
    assert_eq!(refused(|c| c.leaf.hardware_id[7] ^= 1), ["C8"].into());
    assert_eq!(refused(|c| c.set(at::CHIP_ID + 8, &[1])), ["R6"].into());
    assert_eq!(refused(|c| c.set(at::CURRENT_TCB + 4, &[1])), ["R6"].into());
    assert_eq!(
        refused(|c| c.leaf.levels = c.leaf.levels.split_off(1)),
        ["C9"].into(),
        "no FMC: unreadable"
    );
    assert_eq!(refused(|c| c.leaf.hardware_id.push(0)), ["C9"].into(), "nine bytes: unreadable");
    assert_eq!(refused(|c| c.set(at::CPUID, &[0x19, 0x01])), ["C9"].into());
    // The layout of the older generations would read other levels from these bytes.
    let mut case = Case::turin();
    case.policy.minimum_tcb = Case::milan().policy.minimum_tcb;
    assert_eq!(case.failures(), ["T2"].into(), "the built-in minimum has no row for Turin");
}

#[test]
fn a_providers_key_is_accepted_by_a_policy_that_wants_it() {
    let mut case = Case::milan().with_vlek();
    case.policy.vlek = nobody();
    assert_eq!(case.failures(), BTreeSet::new());
    let unchecked = case.unchecked();
    assert!(["C3", "C8", "S4"].iter().all(|id| unchecked.contains(id)), "{unchecked:?}");

    case.ask.subject = "SEV-Milan".to_owned();
    assert_eq!(case.failures(), ["C4"].into(), "AMD's authority for VCEKs signs no VLEK");
}

#[test]
fn bytes_that_somebody_else_composed_prove_neither_freshness_nor_a_connection() {
    let mut case = Case::milan();
    case.demand = Demand::from(&Expect::Value([0x42; 64]));
    assert_eq!(case.failures(), BTreeSet::new());
    let unchecked = case.unchecked();
    assert!(["B2", "B3"].iter().all(|id| unchecked.contains(id)));
    assert!(!unchecked.contains("B1"));
}

#[test]
fn another_digest_covers_neither_nonce_nor_exporter() {
    let mut case = Case::milan();
    case.demand.report_data = Expect::Value([0x43; 64]);
    assert_eq!(case.failures(), ["B1", "B2", "B3"].into());
}

#[test]
fn certificates_that_cannot_be_read_are_refused_and_say_where() {
    let case = Case::milan();
    let first = |change: fn(&mut attestation::Evidence)| {
        let mut evidence = case.evidence();
        change(&mut evidence);
        let rejected = verify(&evidence, &case.anchors(), NOW).err().unwrap();
        let ids: Vec<_> = rejected.failures().map(|finding| finding.check.id).collect();
        assert_eq!(rejected.findings.len(), 16, "every check is listed");
        ids
    };
    assert_eq!(first(|e| e.vek.clear()), ["C9"]);
    assert_eq!(first(|e| e.vek.push(0)), ["C9"]);
    assert_eq!(first(|e| e.chain = None), ["C2"], "these anchors hold no ASK");
    assert_eq!(first(|e| e.chain = Some(vec![])), ["C2"]);
    assert_eq!(first(|e| e.chain.as_mut().unwrap().push(0x30)), ["C2"]);
    assert_eq!(first(|e| e.chain = Some(vec![0x30; 100_000])), ["C2"]);
    assert_eq!(first(|e| e.chain = Some(e.chain.as_ref().unwrap().repeat(20))), ["C2"]);
}
