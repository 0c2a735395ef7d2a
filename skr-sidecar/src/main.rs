//! The process: everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    service::main::<skr_sidecar::SkrSidecar>()
}
