//! What is known of a client's connection, for every request on it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use tokio::sync::Mutex;

use crate::allowance::Allowance;
use crate::clients::proven::Proven;
use crate::tls::Channel;

/// One connection.
pub(crate) struct Connection {
    /// Whose it is, as the kernel says. A host can forge it.
    pub(crate) peer: SocketAddr,
    /// What it can be proved by; `None` for plain HTTP.
    pub(crate) channel: Option<Channel>,
    /// Held while a proof is made and until its client has taken it: one at a time for each connection, so that answers
    /// which nobody reads do not pile up.
    pub(crate) proving: Arc<Mutex<()>>,
    /// Held while the client's proof of itself is read and judged: one at a time, too.
    pub(crate) admitting: Mutex<()>,
    /// How often it may be proved.
    pub(crate) allowance: Allowance,
    proved: AtomicBool,
    by_a_program: AtomicBool,
    /// What the client proved of itself.
    pub(crate) clients: Proven,
}

impl Connection {
    pub(crate) fn new(peer: SocketAddr, channel: Option<Channel>) -> Self {
        Self {
            peer,
            channel,
            proving: Arc::default(),
            admitting: Mutex::default(),
            allowance: Allowance::new(Instant::now()),
            proved: AtomicBool::new(false),
            by_a_program: AtomicBool::new(false),
            clients: Proven::default(),
        }
    }

    /// Whether evidence was sent on it to a program: one that could verify it, as no browser can. A page of the web can
    /// make its browser ask for a proof, but not in JSON's name (WHATWG Fetch, CORS-safelisted request-header).
    pub(crate) fn is_proved_to_a_program(&self) -> bool {
        self.by_a_program.load(Ordering::Relaxed)
    }

    /// Evidence is sent on it to a program.
    pub(crate) fn set_proved_to_a_program(&self) {
        self.by_a_program.store(true, Ordering::Relaxed);
    }

    /// Whether evidence was sent on it.
    pub(crate) fn is_proved(&self) -> bool {
        self.proved.load(Ordering::Relaxed)
    }

    /// Evidence is sent on it.
    pub(crate) fn set_proved(&self) {
        self.proved.store(true, Ordering::Relaxed);
    }
}
