//! The verification SDK: reach a server that *proves*, on this very connection, that it is the attested group
//! that you mean, or reach nothing.
//!
//! [`AttestedClient`] is what most programs use: it sends requests on connections that proved themselves, and says
//! with a typed error why it did not. Below it, [`Connector::connect`] dials, has the server prove the connection and
//! judges the proof with `attestation`; only what it returns can send a request. [`forwarder`] is that for programs in
//! any language, as a local HTTP server. [`offline`] judges recorded evidence without a network. [`secrets`] seals values
//! that only a group of its owner can read.
//!
//! With the feature `reqwest`, [`AttestedClient::execute`] sends what reqwest built.
//!
//! This crate must not know how the server works inside; `attestation` and the wire formats are all they share.

mod attested;
mod causes;
pub mod cli;
mod clock;
mod comparison;
pub mod connection;
mod core_dumps;
pub mod forwarder;
pub mod identity;
pub mod logs;
pub mod mutual;
pub mod offline;
mod outgoing;
mod pool;
pub mod secrets;
pub mod target;
mod tasks;
mod tls;
mod verdict;
#[cfg(feature = "reqwest")]
mod with_reqwest;

pub use attested::{AttestedClient, CallError, ResponseBody};
pub use causes::chain;
pub use connection::{AttestedConnection, ConnectError, Connector, SendError};
pub use target::Target;
