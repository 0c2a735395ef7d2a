//! A security processor behind a Unix socket: guest messages as the hardware has them, a request of 96 bytes
//! and a response of 1280, one after the other. For development without the hardware; what it signs is worth
//! as much as the root that a verifier believes.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use super::{Device, DeviceError, RawReport, report_request, report_response};

/// A processor that takes longer is taken for dead.
const PATIENCE: Duration = Duration::from_secs(10);

/// The connection, kept between reports and made anew after an error.
pub(super) struct Socket {
    path: PathBuf,
    stream: Option<UnixStream>,
}

impl Socket {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, stream: None }
    }

    fn connect(&self) -> std::io::Result<UnixStream> {
        let stream = UnixStream::connect(&self.path)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(stream)
    }
}

impl Device for Socket {
    fn report(&mut self, report_data: &[u8; 64]) -> Result<RawReport, DeviceError> {
        let open = |source| DeviceError::Open { path: self.path.clone(), source };
        // A connection from before may have died with the processor: only a new one tells.
        let kept = self.stream.take();
        let was_kept = kept.is_some();
        let mut stream = kept.map_or_else(|| self.connect().map_err(open), Ok)?;
        let response = match exchange(&mut stream, report_data) {
            Err(_) if was_kept => {
                stream = self.connect().map_err(open)?;
                exchange(&mut stream, report_data)
            }
            outcome => outcome,
        };
        let response = response.map_err(DeviceError::Call)?;
        self.stream = Some(stream);
        report_response(&response)
    }
}

fn exchange(stream: &mut UnixStream, report_data: &[u8; 64]) -> std::io::Result<[u8; 1280]> {
    stream.write_all(&report_request(report_data))?;
    let mut response = [0; 1280];
    stream.read_exact(&mut response)?;
    Ok(response)
}
