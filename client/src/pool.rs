//! The attested connection that requests share, proved again when its proof is old and made anew when it is gone.

use std::sync::Arc;

use tokio::sync::Mutex;

use crate::connection::{AttestedConnection, AttestedSender, ConnectError, Connector};

/// At most one connection to one server; HTTP/2 carries any number of requests on it.
pub(crate) struct Pool {
    connector: Connector,
    /// Held while a connection is made or proved, so that this happens once however many wait.
    current: Mutex<Option<AttestedConnection>>,
}

impl Pool {
    pub(crate) fn connector(&self) -> &Connector {
        &self.connector
    }

    /// Puts in a connection that was just made.
    pub(crate) fn with(connector: Connector, connection: AttestedConnection) -> Arc<Self> {
        Arc::new(Self { connector, current: Mutex::new(Some(connection)) })
    }

    /// A sender on an attested connection whose proof still stands.
    pub(crate) async fn sender(&self) -> Result<AttestedSender, ConnectError> {
        let mut current = self.current.lock().await;
        let usable = match current.take() {
            Some(connection) if connection.is_usable() => connection,
            Some(connection) if connection.is_open() => connection.renew(&self.connector).await?,
            _ => self.connector.connect().await?,
        };
        let sender = usable.sender();
        *current = Some(usable);
        Ok(sender)
    }
}
