//! Is the guest acceptable: the policy that it was launched with, and what was launched?

use super::acceptance::{Subject, flags};
use super::{expect, forbidden, one_of};
use crate::check::{Check, Outcome, Row};
use crate::crypto::sha256;
use crate::policy::{Expect, Hex};

const OTHER_GROUP: &str = "This is not the group that the policy means. If it was redeployed on purpose, \
                           review its enforcement policy and allow its digest.";
const INSECURE_GUEST: &str =
    "Do not use this guest: its host can reach into it. Redeploy it without that.";

pub(crate) const CHECKS: [Row<Subject>; 10] = [
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
            id: "P3",
            title: "the rest of the guest's policy is as demanded",
            spec: "SEV-SNP ABI 1.58, POLICY; the policy's guest_policy",
            remedy: "Launch the guest with another policy, or accept this one.",
        },
        run: launch_policy,
    },
    Row {
        check: Check {
            id: "P4",
            title: "the guest's policy is well-formed, and the firmware can meet it",
            spec: "SEV-SNP ABI 1.58, POLICY: ABI_MAJOR, ABI_MINOR, bit 17, bits 26 to 63",
            remedy: "Update this verifier, if the firmware is newer; else do not use this guest.",
        },
        run: well_formed,
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
            id: "P6",
            title: "the identity block names an allowed guest",
            spec: "SEV-SNP ABI 1.58, GUEST_SVN, FAMILY_ID and IMAGE_ID; the policy's identity_block",
            remedy: "The guest is another build than the policy's, or an older one.",
        },
        run: identity,
    },
    Row {
        check: Check {
            id: "P7",
            title: "an allowed key signed the identity block",
            spec: "SEV-SNP ABI 1.58, ID_KEY_DIGEST and AUTHOR_KEY_DIGEST; the policy's identity_block",
            remedy: "The guest comes from another maker than the policy's, or a new build of it.",
        },
        run: identity_keys,
    },
    Row {
        check: Check {
            id: "P8",
            title: "the launch measurement is allowed",
            spec: "SEV-SNP ABI 1.58, MEASUREMENT",
            remedy: "The guest's firmware and kernel are others than the policy's, or it names none: have the \
                     endorsement checked, or list measurements.",
        },
        run: measurement,
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
];

/// HOST_DATA is what the host states; only the measurement says what runs and enforces the policy of that digest.
/// HOST_DATA is what the host stated at launch. Only software that is known enforces the policy of that digest, so
/// either the endorsement says what runs, or a list does, or somebody says by name that nobody does.
fn measurement(s: &Subject) -> Outcome {
    let actual = Hex(s.guest.report.measurement());
    match (&s.policy.measurement, &s.policy.endorsement) {
        (Some(measurement), _) => expect(measurement, |allowed| one_of(allowed, actual)),
        (None, Expect::Value(_)) => Outcome::unchecked(
            "the policy names none; see U5, which compares it with the endorsement's",
        ),
        (None, Expect::Unchecked { .. }) => Outcome::of(
            false,
            "a list of measurements, since the policy leaves the endorsement unchecked",
            "nothing says what runs in this guest",
        ),
    }
}

fn launch_policy(s: &Subject) -> Outcome {
    let policy = s.guest.report.guest_policy();
    expect(&s.policy.guest_policy, |rules| {
        let (minimum, (major, minor)) = (rules.minimum_abi, policy.abi());
        let set = policy.flags().collect();
        let (holds, expected, actual) = flags(&rules.required, &rules.allowed, &set);
        Outcome::of(
            holds && (major, minor) >= (minimum.major, minimum.minor),
            format!("ABI at least {}.{}; {expected}", minimum.major, minimum.minor),
            format!("ABI {major}.{minor}; {actual}"),
        )
    })
}

/// Firmware launches no guest that asks for a later ABI than its own.
fn well_formed(s: &Subject) -> Outcome {
    let policy = s.guest.report.guest_policy();
    let firmware = s.guest.report.current_firmware();
    let (major, minor) = policy.abi();
    let holds = policy.reserved_one()
        && policy.reserved() == 0
        && (major, minor) <= (firmware.major, firmware.minor);
    let expected = format!("bit 17 alone of the reserved ones, ABI at most that of {firmware}");
    Outcome::of(holds, expected, format!("{:#x}, ABI {major}.{minor}", policy.0))
}

fn identity(s: &Subject) -> Outcome {
    let (report, block) = (&s.guest.report, &s.policy.identity_block);
    let svn = report.guest_svn();
    Outcome::of_parts([
        (
            "GUEST_SVN",
            expect(&block.minimum_svn, |low| {
                Outcome::of(svn >= *low, format!("at least {low}"), svn)
            }),
        ),
        ("FAMILY_ID", expect(&block.family_id, |ids| one_of(ids, Hex(report.family_id())))),
        ("IMAGE_ID", expect(&block.image_id, |ids| one_of(ids, Hex(report.image_id())))),
    ])
}

fn identity_keys(s: &Subject) -> Outcome {
    let (report, block) = (&s.guest.report, &s.policy.identity_block);
    let author = expect(&block.author_key, |keys| {
        if report.key_info().author_key_present() {
            one_of(keys, Hex(report.author_key_digest()))
        } else {
            Outcome::of(false, "the digest of an author key", "none: AUTHOR_KEY_EN is not set")
        }
    });
    Outcome::of_parts([
        ("identity key", expect(&block.id_key, |keys| one_of(keys, Hex(report.id_key_digest())))),
        ("author key", author),
    ])
}
