//! What a verifying forwarder is compared with: a relay that copies bytes, and nginx as the TLS side of a client.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;

use super::{BenchError, io};

/// How long nginx may take to listen.
const PATIENCE: Duration = Duration::from_secs(10);

/// Copies bytes between its clients and one server, in this process.
pub(crate) struct Relay {
    pub(crate) address: SocketAddr,
    accepting: JoinHandle<()>,
}

impl Relay {
    pub(crate) async fn start(server: SocketAddr) -> Result<Self, BenchError> {
        let listener =
            TcpListener::bind("127.0.0.1:0").await.map_err(io("the relay needs a port"))?;
        let address = listener.local_addr().map_err(io("the relay needs a port"))?;
        let accepting = tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let Ok(mut stream) = TcpStream::connect(server).await else { return };
                    let _ = (client.set_nodelay(true), stream.set_nodelay(true));
                    // Ends with either side; what it says then is of no interest.
                    let _ = tokio::io::copy_bidirectional(&mut client, &mut stream).await;
                });
            }
        });
        Ok(Self { address, accepting })
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// nginx that takes plain HTTP on loopback and speaks TLS 1.3 to the server, whose certificate it verifies.
pub(crate) struct Nginx {
    /// Ends with this value.
    child: Child,
    pub(crate) address: SocketAddr,
}

impl Nginx {
    /// `None` if this machine has no nginx.
    pub(crate) async fn start(
        folder: &Path,
        server: SocketAddr,
        certificate: &Path,
    ) -> Result<Option<Self>, BenchError> {
        std::fs::create_dir_all(folder).map_err(io("nginx needs a folder"))?;
        let address = free_address().await?;
        let file = folder.join("nginx.conf");
        let text = configuration(folder, address, server, certificate);
        std::fs::write(&file, text).map_err(io("nginx needs a configuration"))?;
        let spawned = Command::new("nginx")
            .args(["-e", "stderr", "-c"])
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn();
        let Ok(child) = spawned else { return Ok(None) };
        let begin = Instant::now();
        while TcpStream::connect(address).await.is_err() {
            if begin.elapsed() > PATIENCE {
                return Err(BenchError::Unexpected("nginx does not listen".to_owned()));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(Some(Self { child, address }))
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id().unwrap_or_default()
    }
}

/// nginx takes no port 0.
pub(crate) async fn free_address() -> Result<SocketAddr, BenchError> {
    let listener = TcpListener::bind("127.0.0.1:0").await.map_err(io("nginx needs a port"))?;
    listener.local_addr().map_err(io("nginx needs a port"))
}

/// One process, so that its processor time is all of it; connections to the server are kept, as the forwarder's is;
/// nothing is buffered, as a stream must not be.
fn configuration(
    folder: &Path,
    listen: SocketAddr,
    server: SocketAddr,
    certificate: &Path,
) -> String {
    let (folder, certificate) = (folder.display(), certificate.display());
    format!(
        "daemon off;\nmaster_process off;\nworker_processes 1;\npid {folder}/pid;\nerror_log stderr;\n\
         events {{ worker_connections 1024; }}\n\
         http {{\n  access_log off;\n  client_max_body_size 64m;\n\
         \x20 client_body_temp_path {folder}/body;\n  proxy_temp_path {folder}/proxy;\n\
         \x20 fastcgi_temp_path {folder}/fastcgi;\n  uwsgi_temp_path {folder}/uwsgi;\n  scgi_temp_path {folder}/scgi;\n\
         \x20 keepalive_requests 1000000;\n\
         \x20 upstream group {{ server {server}; keepalive 64; keepalive_requests 1000000; }}\n\
         \x20 server {{\n    listen {listen};\n    location / {{\n\
         \x20     proxy_pass https://group;\n      proxy_http_version 1.1;\n      proxy_set_header Connection \"\";\n\
         \x20     proxy_ssl_protocols TLSv1.3;\n      proxy_ssl_verify on;\n      proxy_ssl_name localhost;\n\
         \x20     proxy_ssl_trusted_certificate {certificate};\n      proxy_ssl_server_name on;\n\
         \x20     proxy_buffering off;\n      proxy_request_buffering off;\n    }}\n  }}\n}}\n"
    )
}
