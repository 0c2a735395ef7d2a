//! The binary `log-sealer`.

use std::process::ExitCode;

fn main() -> ExitCode {
    service::main::<log_sealer::LogSealer>()
}
