//! The binary `proxy`.

use std::process::ExitCode;

fn main() -> ExitCode {
    proxy::main(std::env::args())
}
