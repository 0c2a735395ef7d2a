//! The process: everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    skr_sidecar::main(std::env::args())
}
