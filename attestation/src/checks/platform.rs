//! Is the machine acceptable: its firmware, its settings, and which one it is?

use super::acceptance::{Subject, flags};
use super::{expect, forbidden, one_of};
use crate::check::{Check, Outcome, Row};
use crate::policy::{Generation, Hex};
use crate::tcb::Tcb;

const OLD_FIRMWARE: &str = "The host must update its firmware, or the policy accept the older one.";

pub(crate) const CHECKS: [Row<Subject>; 6] = [
    Row {
        check: Check {
            id: "R4",
            title: "the platform's settings are acceptable; unknown ones are tolerated",
            spec: "SEV-SNP ABI 1.58, PLATFORM_INFO; the policy's platform",
            remedy: "The host must change its settings, or the policy accept them.",
        },
        run: settings,
    },
    Row {
        check: Check {
            id: "R7",
            title: "mitigations were in force at launch and are so now",
            spec: "SEV-SNP ABI 1.58, LAUNCH_MIT_VECTOR and CURRENT_MIT_VECTOR; the policy's minimum_mitigation",
            remedy: OLD_FIRMWARE,
        },
        run: mitigations,
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
            remedy: OLD_FIRMWARE,
        },
        run: minimum_tcb,
    },
    Row {
        check: Check {
            id: "T3",
            title: "the firmware is recent enough and committed",
            spec: "SEV-SNP ABI 1.58, CURRENT_BUILD and COMMITTED_BUILD; the policy's firmware",
            remedy: "The host must commit its firmware, or update it, or the policy accept it.",
        },
        run: firmware,
    },
    Row {
        check: Check {
            id: "P10",
            title: "the machine and the launch are allowed",
            spec: "SEV-SNP ABI 1.58, CHIP_ID and REPORT_ID; the policy's machine",
            remedy: "This is another machine, or another launch, than the policy means.",
        },
        run: |s| {
            let (report, allowed) = (&s.guest.report, &s.policy.machine);
            let chip = expect(&allowed.chip_id, |ids| one_of(ids, Hex(report.chip_id())));
            let launch = expect(&allowed.report_id, |ids| one_of(ids, Hex(report.report_id())));
            Outcome::of_parts([("chip", chip), ("launch", launch)])
        },
    },
];

fn settings(s: &Subject) -> Outcome {
    let info = s.guest.report.platform_info();
    expect(&s.policy.platform, |rules| {
        let set = info.flags().collect();
        let (holds, expected, actual) = flags(&rules.required, &rules.allowed, &set);
        let unknown = match info.unknown() {
            0 => String::new(),
            bits => format!("; unknown bits {bits:#x}"),
        };
        Outcome::of(holds, expected, actual + &unknown)
    })
}

fn mitigations(s: &Subject) -> Outcome {
    expect(&s.policy.minimum_mitigation, |mask| {
        let expected = format!("{mask:#x}, at launch and now");
        match s.guest.report.mitigations() {
            None => Outcome::of(false, expected, "the report states none before version 5"),
            Some((launch, now)) => {
                let holds = launch & mask == *mask && now & mask == *mask;
                Outcome::of(holds, expected, format!("{launch:#x} at launch, {now:#x} now"))
            }
        }
    })
}

fn firmware(s: &Subject) -> Outcome {
    let (current, committed) =
        (s.guest.report.current_firmware(), s.guest.report.committed_firmware());
    let rules = &s.policy.firmware;
    let minimum = expect(&rules.minimum, |minimum| {
        Outcome::of(committed >= *minimum, format!("at least {minimum}"), committed)
    });
    let trial = format!("{current} on trial over {committed}");
    let provisional = forbidden(&rules.provisional, current != committed, "committed", &trial);
    Outcome::of_parts([("version", minimum), ("state", provisional)])
}

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
