//! `pmc connect` as a process of its own: what clients of any language use, and whose processor time can be told from
//! everybody else's.

use std::io::{Error, ErrorKind};
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

/// How long it may take to verify the group.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running forwarder. It ends with this value.
#[derive(Debug)]
pub struct Forwarder {
    child: Child,
    /// The base URL for clients, as it announced it.
    pub base: String,
    /// Where it listens.
    pub address: SocketAddr,
}

impl Forwarder {
    /// Starts it for the group at `url` on a free port, with these further arguments. `program` is a build of this crate's
    /// binary.
    ///
    /// # Errors
    ///
    /// It does not start, or ends before it has verified the group; what it has to say is on its stderr.
    pub async fn start(program: &Path, url: &str, arguments: &[String]) -> std::io::Result<Self> {
        let mut child = Command::new(program)
            .args(["pmc", "connect", url, "--listen", "127.0.0.1:0"])
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let ended = || Error::new(ErrorKind::UnexpectedEof, "pmc connect ended");
        let mut lines = BufReader::new(child.stdout.take().ok_or_else(ended)?).lines();
        let announced = async {
            while let Some(line) = lines.next_line().await? {
                if let Some((_, base)) = line.split_once("base URL for clients: ") {
                    return Ok(base.to_owned());
                }
            }
            Err(ended())
        };
        let base = tokio::time::timeout(PATIENCE, announced).await??;
        let authority = base.strip_prefix("http://").and_then(|rest| rest.split('/').next());
        let address = authority.and_then(|authority| authority.parse().ok());
        let address = address.ok_or_else(|| Error::other(format!("{base} is no base URL")))?;
        Ok(Self { child, base, address })
    }

    /// Waits until it has ended, and says how.
    ///
    /// # Errors
    ///
    /// It does not end, or cannot be waited for.
    pub async fn ended(mut self) -> std::io::Result<std::process::ExitStatus> {
        tokio::time::timeout(PATIENCE, self.child.wait()).await?
    }

    /// Its process; 0 once it has ended.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id().unwrap_or_default()
    }
}
