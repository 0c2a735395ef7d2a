//! What a token claims of a confidential VM beyond its guest: how it booted, by its vTPM.

use serde_json::Value;

use super::claims::{self, OTHER_GUEST, SPEC};
use super::{equal, expect, forbidden, one_of_texts, text};
use crate::check::{Check, Outcome, Row};
use crate::policy::{Expect, Never};

/// The claims of a confidential VM.
pub(crate) struct Subject {
    pub(crate) guest: claims::Subject,
    pub(crate) insecure_boot: Expect<Never>,
    pub(crate) protocols: Expect<Vec<String>>,
}

/// What the boot must have been like to be closed to debuggers, below `x-ms-azurevm-`.
const CLOSED: [(&str, bool); 5] = [
    ("bootdebug-enabled", false),
    ("kerneldebug-enabled", false),
    ("hypervisordebug-enabled", false),
    ("testsigning-enabled", false),
    ("debuggersdisabled", true),
];

const INSECURE_BOOT: &str = "Do not use this VM: what it booted is not what was signed.";

pub(crate) const CHECKS: [Row<Subject>; 4] = [
    Row {
        check: Check {
            id: "J13",
            title: "the VM booted securely, it says",
            spec: SPEC,
            remedy: INSECURE_BOOT,
        },
        run: |s| {
            let secure = s.guest.token.get("secureboot") == Some(&Value::Bool(true));
            forbidden(&s.insecure_boot, !secure, "secureboot", "secureboot is not true")
        },
    },
    Row {
        check: Check {
            id: "J14",
            title: "no debugger was let into the boot, it says",
            spec: SPEC,
            remedy: INSECURE_BOOT,
        },
        run: |s| expect(&s.insecure_boot, |Never::Forbidden| no_debuggers(&s.guest.token)),
    },
    Row {
        check: Check {
            id: "J15",
            title: "the attestation protocol is an accepted one",
            spec: SPEC,
            remedy: "Update what asks for tokens inside the VM.",
        },
        run: |s| {
            let version = text(&s.guest.token, "x-ms-azurevm-attestation-protocol-ver");
            expect(&s.protocols, |accepted| one_of_texts(accepted, version))
        },
    },
    Row {
        check: Check {
            id: "J16",
            title: "boot and guest are of one VM",
            spec: SPEC,
            remedy: OTHER_GUEST,
        },
        run: |s| {
            let named = "/x-ms-runtime/vm-configuration/vmUniqueId";
            let guest = s.guest.guest().pointer(named).and_then(Value::as_str);
            match text(&s.guest.token, "x-ms-azurevm-vmid") {
                Some(booted) => equal(booted, guest),
                None => Outcome::of(false, "x-ms-azurevm-vmid", "absent"),
            }
        },
    },
];

fn no_debuggers(token: &Value) -> Outcome {
    let claim = |name: &str| token.get(format!("x-ms-azurevm-{name}"));
    let open = CLOSED.iter().filter(|(name, value)| claim(name) != Some(&Value::Bool(*value)));
    let found: Vec<String> = open.map(|(name, value)| format!("{name} is not {value}")).collect();
    let actual = if found.is_empty() { "none".to_owned() } else { found.join("; ") };
    Outcome::of(found.is_empty(), "none", actual)
}
