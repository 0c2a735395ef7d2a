//! The variables that this role has on top of its own where it stands in for the reference: the reference's, and those of
//! the `attest-sidecar` that it starts.

use service::env::{Class, Var};

use crate::config;

/// Of the role and these.
pub(super) const ALL: &[Var] = &joined::<{ config::VARS.len() + MORE.len() }>(config::VARS, MORE);

/// These alone.
pub const MORE: &[Var] = &[
    measured(
        "SkrSideCarArgs",
        "JSON in standard base64: `certcache`, `identity` and `maaconfig` as the reference has them.",
    ),
    measured("Port", "Where on 127.0.0.1 to answer, 8080 if nothing is said."),
    measured(
        "ServerType",
        "`grpc`: only gRPC, at the port. Anything else: only HTTP, at the port. Not set: HTTP at the port, and gRPC at SKR_LISTEN.",
    ),
    measured(
        "LogFile",
        "A file to which events are appended in the clear. Its folder must exist. Measured, because whoever can read the file reads what the sealed log would keep from him.",
    ),
    Var {
        name: "LogLevel",
        class: Class::Harmless,
        default: None,
        help: "trace, debug, info, warning, error, fatal or panic; warning if nothing is said.",
    },
    measured(
        "SKR_ATTEST_PROGRAM",
        "The program of the attest-sidecar that this role starts for itself, /attest-sidecar if ATTEST_SIDECAR is not set. It listens at ATTEST_SIDECAR, which must be a unix: path.",
    ),
    passed("ATTEST_DEVICE"),
    passed("ATTEST_CERTIFICATE_SOURCES"),
    passed("ATTEST_THIM_URL"),
    passed("ATTEST_AZURE_CACHE_URL"),
    passed("ATTEST_AZURE_CACHE_TEE_TYPE"),
    passed("ATTEST_AZURE_CACHE_API_VERSION"),
    passed("ATTEST_AZURE_CACHE_CLIENT_ID"),
    passed("ATTEST_KDS_URL"),
    passed("ATTEST_MAA_HOSTS"),
    passed("ATTEST_MAA_USER_AGENT"),
    platform("UVM_SECURITY_CONTEXT_DIR"),
    platform("UVM_HOST_AMD_CERTIFICATE"),
    platform("UVM_SECURITY_POLICY"),
    platform("UVM_REFERENCE_INFO"),
];

const fn measured(name: &'static str, help: &'static str) -> Var {
    Var { name, class: Class::Measured, default: None, help }
}

const fn passed(name: &'static str) -> Var {
    measured(name, "Passed to the attest-sidecar that this role starts; see there.")
}

const fn platform(name: &'static str) -> Var {
    let help =
        "Set by the platform; passed to the attest-sidecar that this role starts, see there.";
    Var { name, class: Class::Harmless, default: None, help }
}

#[expect(clippy::indexing_slicing, reason = "a constant: an index beyond the end does not build")]
const fn joined<const N: usize>(first: &[Var], second: &[Var]) -> [Var; N] {
    let mut all = [first[0]; N];
    let mut at = 0;
    while at < N {
        all[at] = if at < first.len() { first[at] } else { second[at - first.len()] };
        at += 1;
    }
    all
}
