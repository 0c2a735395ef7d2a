//! The HTTP side that all simulators share: listening, TLS, bodies, and broken answers.
//!
//! Must not know: any protocol above HTTP.

pub(crate) mod answer;
pub(crate) mod body;
pub mod serve;
pub mod tls;
