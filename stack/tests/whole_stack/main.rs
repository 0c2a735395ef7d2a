//! The whole stack: the four roles as processes, the outside world simulated, clients as people run them.

#![expect(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test that cannot go on, fails, and says what it skips"
)]

mod canary;
mod end_to_end;
mod python;
mod refusals;
mod release;
mod sealed_log;
mod support;
mod tls;
