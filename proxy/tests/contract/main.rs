//! The black-box cases of the contract (`proxy.md` part 3), numbered as there, over sockets: the binary, started with the
//! reference's variables and nothing else, in front of a recording upstream.
//!
//! Must not know anything of the proxy but its binary.

#![expect(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    clippy::wrong_self_convention,
    clippy::disallowed_methods,
    clippy::needless_pass_by_value,
    reason = "helpers of tests"
)]

mod a_health;
mod b_authentication;
mod c_keys;
mod d_key_info;
mod e_client_address;
mod e_rate_limits;
mod e_spending;
mod f_forwarding;
mod g_metering;
mod g_state;
mod h_https;
mod h_security_headers;
mod i_admin;
mod j_command_line;
mod k_start;
mod metrics;
#[expect(dead_code, reason = "other targets of tests use the rest of it")]
mod support;
