//! nginx as people put it in front of a model server: TLS 1.3 for clients, connections to the server that are kept, as
//! many processes as the proxy has threads. It checks no keys and counts nothing.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use super::certificate::Certificate;
use crate::bench::peers::free_address;
use crate::bench::{BenchError, io};

/// How long it may take to listen or to stop.
const PATIENCE: Duration = Duration::from_secs(10);

/// A running one.
pub(crate) struct Nginx {
    master: Child,
    pub(crate) address: SocketAddr,
}

impl Nginx {
    /// `None` if this machine has none.
    pub(crate) async fn start(
        folder: &Path,
        server: SocketAddr,
        certificate: &Certificate,
        workers: usize,
    ) -> Result<Option<Self>, BenchError> {
        let folder = folder.join("nginx");
        std::fs::create_dir_all(&folder).map_err(io("nginx needs a folder"))?;
        let address = free_address().await?;
        let file = folder.join("nginx.conf");
        let text = configuration(&folder, address, server, certificate, workers);
        std::fs::write(&file, text).map_err(io("nginx needs a configuration"))?;
        let errors = std::fs::File::create(folder.join("errors"));
        let spawned = Command::new("nginx")
            .args(["-e", "stderr", "-c"])
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(errors.map_err(io("nginx needs a folder"))?)
            .spawn();
        let Ok(master) = spawned else { return Ok(None) };
        let mut nginx = Self { master, address };
        let begin = Instant::now();
        while TcpStream::connect(address).await.is_err() {
            let ended = !matches!(nginx.master.try_wait(), Ok(None));
            if ended || begin.elapsed() > PATIENCE {
                let said = std::fs::read_to_string(folder.join("errors")).unwrap_or_default();
                return Err(BenchError::Unexpected(format!("nginx does not listen: {said}")));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(Some(nginx))
    }

    /// All of its processes, the master's first.
    pub(crate) fn pids(&self) -> Result<Vec<u32>, BenchError> {
        let ended = || BenchError::Unexpected("nginx has ended".to_owned());
        let master = self.master.id().ok_or_else(ended)?;
        let children = std::fs::read_to_string(format!("/proc/{master}/task/{master}/children"));
        let children = children.map_err(io("the processes of nginx cannot be listed"))?;
        let children = children.split_whitespace().filter_map(|pid| pid.parse().ok());
        Ok(std::iter::once(master).chain(children).collect())
    }

    /// Ends all of them.
    pub(crate) async fn stop(mut self) -> Result<(), BenchError> {
        self.terminate();
        let ended = tokio::time::timeout(PATIENCE, self.master.wait()).await;
        let late = |_| BenchError::Unexpected("nginx does not stop".to_owned());
        ended.map_err(late)?.map(drop).map_err(io("nginx does not stop"))
    }

    /// The master ends its workers when it is asked to end; killed, it would leave them behind.
    fn terminate(&self) {
        let pid = self.master.id().and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?));
        if let Some(pid) = pid {
            let _ = kill_process(pid, Signal::TERM);
        }
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        self.terminate();
    }
}

fn configuration(
    folder: &Path,
    listen: SocketAddr,
    server: SocketAddr,
    certificate: &Certificate,
    workers: usize,
) -> String {
    let folder = folder.display();
    let (chain, key) = (certificate.chain.display(), certificate.key.display());
    format!(
        "daemon off;\nworker_processes {workers};\nworker_rlimit_nofile 16384;\npid {folder}/pid;\nerror_log stderr;\n\
         events {{ worker_connections 8192; }}\n\
         http {{\n  access_log off;\n  client_max_body_size 64m;\n  tcp_nodelay on;\n\
         \x20 client_body_temp_path {folder}/body;\n  proxy_temp_path {folder}/proxy;\n\
         \x20 fastcgi_temp_path {folder}/fastcgi;\n  uwsgi_temp_path {folder}/uwsgi;\n  scgi_temp_path {folder}/scgi;\n\
         \x20 keepalive_requests 1000000000;\n  keepalive_timeout 600s;\n\
         \x20 upstream model {{ server {server}; keepalive 512; keepalive_requests 1000000000; }}\n\
         \x20 server {{\n    listen {listen} ssl reuseport backlog=4096;\n\
         \x20   ssl_protocols TLSv1.3;\n    ssl_certificate {chain};\n    ssl_certificate_key {key};\n\
         \x20   ssl_session_cache off;\n    ssl_session_tickets off;\n\
         \x20   location / {{\n      proxy_pass http://model;\n      proxy_http_version 1.1;\n\
         \x20     proxy_set_header Connection \"\";\n      proxy_read_timeout 600s;\n    }}\n  }}\n}}\n"
    )
}
