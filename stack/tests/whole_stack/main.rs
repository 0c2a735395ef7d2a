//! The whole stack: the four roles as processes, the outside world simulated, clients as people run them.

#![expect(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test that cannot go on, fails, and says what it skips"
)]

mod attacks_client;
mod bench;
mod canary;
mod changes;
mod crash;
mod curl;
mod end_to_end;
mod examples;
mod flood;
mod guide;
mod live_log;
mod mutual;
mod owner;
mod proved;
mod python;
mod python_usage;
mod refusals;
mod release;
mod released;
mod rotation;
mod sealed_log;
mod secrets;
mod state;
mod support;
mod telemetry;
mod tls;
mod token;
