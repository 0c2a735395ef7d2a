//! The binary `attest-sidecar`.

use std::process::ExitCode;

fn main() -> ExitCode {
    service::main::<attest_sidecar::AttestSidecar>()
}
