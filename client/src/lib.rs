//! The verification SDK: reach a server that *proves*, on this very connection, that it is the attested group
//! that you mean, or reach nothing.
//!
//! [`Connector::connect`] dials, has the server prove the connection and judges the proof with `attestation`;
//! only what it returns can send a request. [`forwarder`] is that for programs in any language, as a local HTTP
//! server. [`offline`] judges recorded evidence without a network.
//!
//! This crate must not know how the server works inside; `attestation` and the wire formats are all they share.

mod causes;
pub mod cli;
mod clock;
pub mod connection;
pub mod forwarder;
pub mod logs;
pub mod offline;
mod pool;
mod tls;

pub use connection::{AttestedConnection, ConnectError, Connector, SendError, Target};
