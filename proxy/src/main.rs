//! The binary `proxy`.

use std::process::ExitCode;

fn main() -> ExitCode {
    service::main::<proxy::Proxy>()
}
