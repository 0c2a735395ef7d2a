//! What is known of a client's connection, for every request on it.

use std::net::SocketAddr;

use crate::tls::Channel;

/// One connection.
pub(crate) struct Connection {
    /// Whose it is, as the kernel says. A host can forge it.
    pub(crate) peer: SocketAddr,
    /// What it can be proved by; `None` for plain HTTP.
    pub(crate) channel: Option<Channel>,
    /// Held while a proof is made: one at a time for each connection.
    pub(crate) proving: tokio::sync::Mutex<()>,
}

impl Connection {
    pub(crate) fn new(peer: SocketAddr, channel: Option<Channel>) -> Self {
        Self { peer, channel, proving: tokio::sync::Mutex::new(()) }
    }
}
