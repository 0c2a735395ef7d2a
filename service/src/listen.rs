//! Addresses of the group's own listeners: TCP, or a Unix socket on a volume that only our containers mount
//! (`wire.md` part 5). An address that is taken is fatal, never retried: whoever sits there could answer in
//! our name.

use std::fmt::{self, Display};
use std::net::SocketAddr;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use tokio::net::{TcpListener, UnixListener};

/// `host:port` (an IP literal: images hold no /etc/hosts) or `unix:/absolute/path`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A TCP socket. Port 0 asks the kernel for a free one.
    Tcp(SocketAddr),
    /// A Unix socket.
    Unix(PathBuf),
}

/// Why a text is no address.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be an address such as 127.0.0.1:50051 or unix:/run/group/name.sock")]
pub struct NotAnAddress;

impl FromStr for Address {
    type Err = NotAnAddress;

    fn from_str(text: &str) -> Result<Self, NotAnAddress> {
        match text.strip_prefix("unix:") {
            Some(path) if path.starts_with('/') => Ok(Self::Unix(path.into())),
            Some(_) => Err(NotAnAddress),
            None => text.parse().map(Self::Tcp).map_err(|_| NotAnAddress),
        }
    }
}

impl Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "{address}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// An address that nobody outside the group can reach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Local(Address);

impl Local {
    /// The address itself.
    #[must_use]
    pub fn address(&self) -> &Address {
        &self.0
    }
}

/// Why an address is not local.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotLocal {
    /// Not an address at all.
    #[error(transparent)]
    Syntax(#[from] NotAnAddress),
    /// Reachable from outside the container group.
    #[error("must be on loopback or a unix: path, since it is not authenticated")]
    Reachable,
}

impl FromStr for Local {
    type Err = NotLocal;

    fn from_str(text: &str) -> Result<Self, NotLocal> {
        match text.parse()? {
            Address::Tcp(address) if !address.ip().is_loopback() => Err(NotLocal::Reachable),
            address => Ok(Self(address)),
        }
    }
}

impl Display for Local {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A bound listener.
#[derive(Debug)]
pub enum Listener {
    /// TCP.
    Tcp(TcpListener),
    /// Unix socket; the path is kept to say where it is.
    Unix(UnixListener, PathBuf),
}

/// An address could not be bound.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}; end whatever holds it, or choose another address")]
pub struct BindError {
    address: Address,
    source: std::io::Error,
}

impl Listener {
    /// Binds. The socket file of a dead process is replaced; one on which somebody listens is not.
    ///
    /// # Errors
    ///
    /// [`BindError`]: taken, not permitted, no such folder.
    pub async fn bind(address: &Address) -> Result<Self, BindError> {
        let bound = match address {
            Address::Tcp(socket) => TcpListener::bind(socket).await.map(Self::Tcp),
            Address::Unix(path) => bind_unix(path).await.map(|l| Self::Unix(l, path.clone())),
        };
        bound.map_err(|source| BindError { address: address.clone(), source })
    }

    /// Where it listens, with the port that the kernel chose.
    #[must_use]
    pub fn address(&self) -> Address {
        match self {
            Self::Tcp(listener) => Address::Tcp(
                listener.local_addr().expect("a bound socket has an address (getsockname(2))"),
            ),
            Self::Unix(_, path) => Address::Unix(path.clone()),
        }
    }
}

async fn bind_unix(path: &Path) -> std::io::Result<UnixListener> {
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|meta| meta.file_type().is_socket());
    if is_socket {
        if tokio::net::UnixStream::connect(path).await.is_ok() {
            return Err(std::io::ErrorKind::AddrInUse.into());
        }
        std::fs::remove_file(path)?;
    }
    UnixListener::bind(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_literals() {
        assert!(matches!("127.0.0.1:50051".parse(), Ok(Address::Tcp(_))));
        assert!(matches!("[::1]:1".parse(), Ok(Address::Tcp(_))));
        assert_eq!("unix:/a/b".parse(), Ok(Address::Unix("/a/b".into())));
        for bad in ["localhost:1", "unix:a", "unix:", ":1", "127.0.0.1", "http://127.0.0.1:1"] {
            assert_eq!(bad.parse::<Address>(), Err(NotAnAddress), "{bad}");
        }
    }

    #[test]
    fn what_others_can_reach_is_not_local() {
        assert!("unix:/a".parse::<Local>().is_ok());
        assert!("127.9.9.9:1".parse::<Local>().is_ok());
        assert_eq!("0.0.0.0:1".parse::<Local>(), Err(NotLocal::Reachable));
        assert_eq!("10.0.0.1:1".parse::<Local>(), Err(NotLocal::Reachable));
    }

    #[tokio::test]
    async fn a_taken_address_is_refused_and_a_dead_socket_file_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let unix = Address::Unix(dir.path().join("s"));
        let first = Listener::bind(&unix).await.unwrap();
        assert!(Listener::bind(&unix).await.is_err());
        drop(first);
        assert!(Listener::bind(&unix).await.is_ok());

        let tcp = Listener::bind(&"127.0.0.1:0".parse().unwrap()).await.unwrap();
        assert!(Listener::bind(&tcp.address()).await.is_err());
    }

    #[tokio::test]
    async fn a_file_that_is_no_socket_is_never_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("precious");
        std::fs::write(&path, "data").unwrap();
        assert!(Listener::bind(&Address::Unix(path.clone())).await.is_err());
        assert_eq!(std::fs::read(&path).unwrap(), b"data");
    }
}
