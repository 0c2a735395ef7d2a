//! Is a genuine guest acceptable? Here the relying party's expectations decide.

use super::{expect, forbidden, one_of};
use crate::binding::ReportData;
use crate::check::{Check, Outcome, Row};
use crate::crypto::sha256;
use crate::policy::{Expect, Generation, Hex, Policy};
use crate::report::SigningKey;
use crate::tcb::Tcb;
use crate::verify::Guest;

/// What these checks look at.
pub(crate) struct Subject {
    pub(crate) guest: Guest,
    pub(crate) policy: Policy,
    pub(crate) report_data: Expect<ReportData>,
}

const OTHER_GROUP: &str = "This is not the group that the policy means. If it was redeployed on purpose, \
                           review its enforcement policy and allow its digest.";
const INSECURE_GUEST: &str =
    "Do not use this guest: its host can reach into it. Redeploy it without that.";

pub(crate) const CHECKS: [Row<Subject>; 14] = [
    Row {
        check: Check {
            id: "C3",
            title: "the chip's own key signed, not a provider's",
            spec: "SEV-SNP ABI 1.58, KEY_INFO.SIGNING_KEY",
            remedy: "Azure signs with VCEKs. Allow VLEKs only for a provider that is meant to use them.",
        },
        run: |s| forbidden(&s.policy.vlek, s.guest.vek.kind == SigningKey::Vlek, "VCEK", "VLEK"),
    },
    Row {
        check: Check {
            id: "C6",
            title: "no certificate was revoked",
            spec: "RFC 5280, 5; VCEK specification 57230, section 4",
            remedy: "Do not trust this machine: AMD withdrew a key of its chain.",
        },
        run: |_| Outcome::unchecked("revocation lists are not verified yet"),
    },
    Row {
        check: Check {
            id: "T1",
            title: "reported ≤ committed ≤ current TCB",
            spec: "SEV-SNP ABI 1.58, COMMITTED_TCB and CURRENT_TCB",
            remedy: "Do not trust this machine: its firmware contradicts itself.",
        },
        run: ordered_tcbs,
    },
    Row {
        check: Check {
            id: "T2",
            title: "the TCB is recent enough, reported and at launch",
            spec: "SEV-SNP ABI 1.58, REPORTED_TCB and LAUNCH_TCB; the policy's minimum_tcb",
            remedy: "The host must update its firmware, or the policy accept the older one.",
        },
        run: minimum_tcb,
    },
    Row {
        check: Check {
            id: "P1",
            title: "the host cannot debug the guest",
            spec: "SEV-SNP ABI 1.58, POLICY.DEBUG",
            remedy: INSECURE_GUEST,
        },
        run: |s| {
            let allowed = s.guest.report.guest_policy().debug_allowed();
            forbidden(&s.policy.debug, allowed, "off", "on")
        },
    },
    Row {
        check: Check {
            id: "P2",
            title: "the guest cannot be migrated",
            spec: "SEV-SNP ABI 1.58, POLICY.MIGRATE_MA",
            remedy: INSECURE_GUEST,
        },
        run: |s| {
            let allowed = s.guest.report.guest_policy().migration_allowed();
            forbidden(&s.policy.migration, allowed, "off", "on")
        },
    },
    Row {
        check: Check {
            id: "P4",
            title: "the guest's policy is well-formed",
            spec: "SEV-SNP ABI 1.58, POLICY bit 17",
            remedy: INSECURE_GUEST,
        },
        run: |s| {
            let policy = s.guest.report.guest_policy();
            Outcome::of(policy.reserved_one(), "bit 17 is one", format!("{:#x}", policy.0))
        },
    },
    Row {
        check: Check {
            id: "P5",
            title: "the report comes from the expected privilege level",
            spec: "SEV-SNP ABI 1.58, VMPL",
            remedy: "The report was asked for by other software than the one that is meant.",
        },
        run: |s| {
            let vmpl = s.guest.report.vmpl();
            expect(&s.policy.vmpl, |level| Outcome::of(*level == vmpl, level, vmpl))
        },
    },
    Row {
        check: Check {
            id: "P8",
            title: "the launch measurement is allowed",
            spec: "SEV-SNP ABI 1.58, MEASUREMENT",
            remedy: "The guest's firmware and kernel are others than the policy's.",
        },
        run: |s| {
            let actual = Hex(s.guest.report.measurement());
            expect(&s.policy.measurement, |allowed| one_of(allowed, actual))
        },
    },
    Row {
        check: Check {
            id: "P9",
            title: "HOST_DATA is the digest of an allowed enforcement policy",
            spec: "SEV-SNP ABI 1.58, HOST_DATA; the policy's host_data",
            remedy: OTHER_GROUP,
        },
        run: |s| {
            let actual = Hex(s.guest.report.host_data());
            expect(&s.policy.host_data, |allowed| one_of(allowed, actual))
        },
    },
    Row {
        check: Check {
            id: "P11",
            title: "the enforcement policy at hand is the one of HOST_DATA",
            spec: "SEV-SNP ABI 1.58, HOST_DATA",
            remedy: "Read another text of the policy: this one is not what the group enforces.",
        },
        run: |s| match &s.guest.unverified.cce_policy {
            None => Outcome::unchecked("the evidence brings no text of the policy"),
            Some(text) => {
                let (digest, host_data) = (sha256(text), s.guest.report.host_data());
                Outcome::of(digest == host_data, hex::encode(host_data), hex::encode(digest))
            }
        },
    },
    Row {
        check: Check {
            id: "B1",
            title: "REPORT_DATA is what this use demands, all 64 bytes",
            spec: "wire.md part 1",
            remedy: "The report was made for something else: another connection, key or nonce.",
        },
        run: |s| {
            let actual = s.guest.report.report_data();
            expect(&s.report_data, |data| {
                Outcome::of(*data == actual, hex::encode(data), hex::encode(actual))
            })
        },
    },
    Row {
        check: Check {
            id: "U1",
            title: "the utility VM is endorsed by its maker",
            spec: "RFC 9052 (COSE_Sign1); did:x509",
            remedy: "Hand over the endorsement that the platform mounts (reference-info-base64).",
        },
        run: |s| {
            Outcome::unchecked(match &s.guest.unverified.uvm {
                None => "the evidence brings no endorsement",
                Some(_) => "endorsements are not verified yet",
            })
        },
    },
    Row {
        check: Check {
            id: "U4",
            title: "the utility VM is recent enough",
            spec: "the endorsement's guestsvn",
            remedy: "Redeploy the group onto a newer utility VM.",
        },
        run: |_| Outcome::unchecked("endorsements are not verified yet"),
    },
];

/// Azure reports an older TCB than it runs, on purpose, so that certificates fit a whole fleet. Never a newer
/// one: that would claim fixes that are not there.
fn ordered_tcbs(s: &Subject) -> Outcome {
    let tcbs = s.guest.report.tcbs(s.guest.vek.product);
    let holds = tcbs.committed.is_at_least(&tcbs.reported)
        && tcbs.current.is_at_least(&tcbs.committed)
        && tcbs.current.is_at_least(&tcbs.launch);
    let actual = format!(
        "reported {}; committed {}; current {}; launch {}",
        tcbs.reported, tcbs.committed, tcbs.current, tcbs.launch
    );
    Outcome::of(holds, "each component in that order, launch not above current", actual)
}

/// A guest that was launched on vulnerable firmware stays what it became then, however its machine was updated.
fn minimum_tcb(s: &Subject) -> Outcome {
    let product = s.guest.vek.product;
    let tcbs = s.guest.report.tcbs(product);
    expect(&s.policy.minimum_tcb, |table| match table.get(&Generation::from(product)) {
        None => Outcome::of(false, format!("a minimum for {product}"), "the policy has none"),
        Some(minimum) => {
            let minimum = Tcb::from(*minimum);
            let holds = tcbs.reported.is_at_least(&minimum) && tcbs.launch.is_at_least(&minimum);
            let actual = format!("reported {}; launch {}", tcbs.reported, tcbs.launch);
            Outcome::of(holds, format!("at least {minimum}"), actual)
        }
    })
}
