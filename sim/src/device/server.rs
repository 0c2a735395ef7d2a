//! The socket in front of the processor.
//!
//! Must not know: what a report is.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Processor;
use super::message::{REQUEST_LEN, RESPONSE_LEN};
use super::processor::Answer;

/// Connections that are served at a time; more wait in the kernel's queue.
const MAX_CONNECTIONS: usize = 128;
/// How long a connection may be idle, or a peer may take to read an answer.
const IDLE: Duration = Duration::from_secs(300);

/// A socket that could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// Another process answers there.
    #[error("{}: somebody listens there already; stop it or choose another path", path.display())]
    InUse {
        /// The path of the socket.
        path: PathBuf,
    },
    /// Something that is no socket lies there.
    #[error("{}: the file is no socket; remove it or choose another path", path.display())]
    NoSocket {
        /// The path of the file.
        path: PathBuf,
    },
    /// The kernel refuses.
    #[error("device socket {}: check folder, permissions and the length of the path", path.display())]
    Io {
        /// The path of the socket.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// A running device. Dropping it, or [`DeviceServer::stop`], ends it and removes the socket.
#[derive(Debug)]
pub struct DeviceServer {
    path: PathBuf,
    processor: Arc<Processor>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl DeviceServer {
    /// The socket.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The processor behind it.
    #[must_use]
    pub fn processor(&self) -> &Processor {
        &self.processor
    }

    /// Ends the device and waits until its last connection is gone.
    pub async fn stop(self) {
        self.stop.cancel();
        self.tasks.wait().await;
    }
}

impl Drop for DeviceServer {
    fn drop(&mut self) {
        self.stop.cancel();
        // A socket that stays behind is replaced by the next start.
        let _ = fs::remove_file(&self.path);
    }
}

/// Opens the socket with mode 0666 and serves `processor` on it. A stale socket is replaced, one
/// that somebody listens on is not.
///
/// # Errors
/// [`DeviceError`] when the path is taken or cannot be used.
pub fn listen(path: &Path, processor: Processor) -> Result<DeviceServer, DeviceError> {
    let failed = |source| DeviceError::Io { path: path.to_owned(), source };
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(failed)?;
    }
    remove_stale(path)?;
    let listener = UnixListener::bind(path).map_err(failed)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o666)).map_err(failed)?;
    let processor = Arc::new(processor);
    let stop = CancellationToken::new();
    let tasks = TaskTracker::new();
    tasks.spawn(accept(listener, Arc::clone(&processor), stop.clone(), tasks.clone()));
    tasks.close();
    Ok(DeviceServer { path: path.to_owned(), processor, stop, tasks })
}

fn remove_stale(path: &Path) -> Result<(), DeviceError> {
    let failed = |source| DeviceError::Io { path: path.to_owned(), source };
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
        Ok(metadata) if !metadata.file_type().is_socket() => {
            return Err(DeviceError::NoSocket { path: path.to_owned() });
        }
        Ok(_) => {}
    }
    match StdUnixStream::connect(path) {
        Ok(_) => Err(DeviceError::InUse { path: path.to_owned() }),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(failed)
        }
        Err(error) => Err(failed(error)),
    }
}

async fn accept(
    listener: UnixListener,
    processor: Arc<Processor>,
    stop: CancellationToken,
    tasks: TaskTracker,
) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let place = tokio::select! {
            () = stop.cancelled() => return,
            place = Arc::clone(&places).acquire_owned() => place,
        };
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        // A failed accept concerns that one connection, or passes when descriptors are free.
        let Ok((stream, _)) = accepted else {
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        let (processor, stop) = (Arc::clone(&processor), stop.clone());
        tasks.spawn(async move {
            let _place = place;
            tokio::select! {
                () = stop.cancelled() => {}
                // How a connection ends is the peer's affair.
                _ = converse(stream, &processor) => {}
            }
        });
    }
}

async fn converse(mut stream: UnixStream, processor: &Processor) -> io::Result<()> {
    let mut request = [0; REQUEST_LEN];
    loop {
        tokio::time::timeout(IDLE, stream.read_exact(&mut request)).await??;
        let (response, last) = match processor.answer(&request).await {
            Answer::Whole(response) => (response, false),
            Answer::Half(response) => (response, true),
        };
        let (half, _) = response.split_at(RESPONSE_LEN / 2);
        let bytes = if last { half } else { response.as_slice() };
        tokio::time::timeout(IDLE, stream.write_all(bytes)).await??;
        if last {
            return Ok(());
        }
    }
}
